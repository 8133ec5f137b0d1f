"""How many segments a second one process brings into the store, encoded and through the script, and how long one takes.

The real publisher and the real embedded store. Segments of many streams fall due evenly at a fixed rate, whatever
became of those before (an open loop), and each one's time runs from when it was due to its acknowledgement, so that a
stall counts for all that it held up. Then flat out, with a bounded number under way.

Beside it, in the same run on the same store: the bare client, appending and publishing the same JSON in pipelines,
without order, fencing or repetition; and how late the segments would be handed over if nothing else were done, which
is what the machine itself takes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import click
import redis.asyncio as redis

from streamer.bench.conditions import conditions
from streamer.bench.processes import cpu_seconds
from streamer.bench.ticks import ticks
from streamer.clock import NS_PER_MS, NS_PER_S
from streamer.memory import settle_memory
from streamer.messages import CoverageBody, Label, LatencyBody, Segment, Share, encode
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged, Publisher
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_LABELS = 8
_VARIETY = 64
_TICK_NS = NS_PER_MS
_BOUND_NS = NS_PER_S
# Under way when flat out: enough that no round trip is ever short of work.
_WINDOW = 1024
_PIPELINE = 128
_QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}


@dataclass(slots=True)
class Flow:
    """Segments of `streams` streams, a label set of `_VARIETY` each, in rotation; counts what it made."""

    streams: int
    made: int = 0
    _labels: list[list[Label]] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(11)
        for _ in range(_VARIETY):
            shares = [chance.random() for _ in range(_LABELS)]
            scores = sorted((chance.uniform(0.05, 1.0) for _ in range(_LABELS)), reverse=True)
            self._labels.append(
                [
                    Label(f"Label {i}", round(score, 3), Share(round(share, 3), round(1 - share, 3), 0.0))
                    for i, (score, share) in enumerate(zip(scores, shares, strict=True))
                ]
            )

    def next(self) -> Segment:
        """The next segment: each stream in its turn, its `seq` without holes."""
        seq, stream = divmod(self.made, self.streams)
        self.made += 1
        return Segment(
            stream=f"s{stream:04}",
            epoch="019f2b6c51d2",
            seq=seq,
            start="2026-11-23T04:07:08.500Z",
            end="2026-11-23T04:07:10.500Z",
            status="ok",
            labels=self._labels[self.made % _VARIETY],
            coverage=CoverageBody(1.0, 0.98, 0.0),
            latency_ms=LatencyBody(112.4, 31.0, 1.2, 77.0, 3.2),
            bound_ms=1000,
        )


class Taken:
    """The publisher's hooks: how long each segment took from when it was due, in order of acknowledgement."""

    def __init__(self) -> None:
        self.durations_ns: list[int] = []
        self.lost = 0

    def on_written(self, acknowledged: Acknowledged) -> None:
        assert acknowledged.unit.deadline_ns is not None
        self.durations_ns.append(acknowledged.acked_ns - (acknowledged.unit.deadline_ns - _BOUND_NS))

    def on_dropped(self, unit: Unit) -> None:
        self.lost += 1

    def on_fenced(self, stream: str) -> None:
        raise AssertionError(f"nobody else writes {stream}")


def run(rate: int, seconds: float, streams: int | None, as_json: bool) -> None:
    """Measure and print: `rate` segments a second for `seconds` (default of `streams`: two a second each)."""
    flow = Flow(streams or max(1, rate // 2))
    result = asyncio.run(_measure(flow, rate, seconds))
    result |= {"command": "streamer " + " ".join(sys.argv[1:]), **conditions()}
    _report(result)
    if as_json:
        click.echo(json.dumps(result))


def _report(result: dict[str, object]) -> None:
    names = ("per_second", *_QUANTILES)
    for title, figures in (
        ("offered at a rate", result),
        ("bare client", result["baseline"]),
        ("handing over alone", result["handing_over"]),
    ):
        assert isinstance(figures, dict)
        click.echo(f"{title:18} " + "  ".join(f"{name} {figures[name]}" for name in names), err=True)
        if "flat_out_per_second" in figures:
            click.echo(f"{'  flat out':18} per_second {figures['flat_out_per_second']}", err=True)


async def _measure(flow: Flow, rate: int, seconds: float) -> dict[str, object]:
    async with EmbeddedStore() as embedded:
        store, taken = Store.connect(embedded.url), Taken()
        async with Publisher(store, hooks=taken) as publisher:
            await _begin(publisher, flow, taken)
            # As the service does once it is set up: what lasts is not looked through again.
            settle_memory()
            began, busy = _busy(embedded.pid)
            await _paced(publisher, flow, rate, seconds)
            ended, after = _busy(embedded.pid)
            durations, taken.durations_ns = taken.durations_ns, []
            flat_out = await _flat_out(publisher, flow, seconds / 2)
            assert not taken.lost, f"{taken.lost} segments were dropped"
        size = len(encode(flow.next()))
        await store.close()
        baseline = await _bare(embedded.url, flow, rate, seconds)
        idle = await _handed_over(rate, seconds / 4)
    cores = {name: round((after[name] - busy[name]) / (ended - began), 3) for name in busy}
    return {
        **_figures(durations, seconds),
        "flat_out_per_second": round(flat_out),
        "cores_used": cores,
        "baseline": baseline,
        "handing_over": _figures(idle, seconds / 4),
        "input": {"rate": rate, "seconds": seconds, "streams": flow.streams, "labels": _LABELS, "json_bytes": size},
    }


def _busy(store_pid: int | None) -> tuple[float, dict[str, float]]:
    return time.monotonic(), {"process": time.process_time(), "store": cpu_seconds(store_pid or 0)}


def _figures(durations_ns: list[int], seconds: float) -> dict[str, float]:
    """`per_second`: what fell due in `seconds` and was in the store within the bound; and the quantiles of all."""
    ordered = sorted(durations_ns)
    in_time = bisect_right(ordered, _BOUND_NS)
    last = len(ordered) - 1
    return {"per_second": round(in_time / seconds)} | {
        name: round(ordered[min(last, int(part * len(ordered)))] / NS_PER_MS, 3) for name, part in _QUANTILES.items()
    }


async def _begin(publisher: Publisher, flow: Flow, taken: Taken) -> None:
    """Every stream is claimed and has a segment in the store."""
    for _ in range(2 * flow.streams):
        _publish(publisher, flow, time.monotonic_ns())
        if publisher.waiting >= _WINDOW:
            await publisher.drain(30)
    await publisher.drain(30)
    taken.durations_ns.clear()


def _publish(publisher: Publisher, flow: Flow, due_ns: int) -> None:
    segment = flow.next()
    publisher.publish(segment.stream, [segment], due_ns + _BOUND_NS)


async def _fall_due(rate: int, seconds: float, hand_over: Callable[[Iterable[int]], object]) -> None:
    """Call `hand_over` each millisecond with the times of what has fallen due."""
    start_ns, count, handed = time.monotonic_ns(), int(rate * seconds), 0
    with ticks(_TICK_NS) as tick:
        while handed < count:
            await tick()
            due = min(count, (time.monotonic_ns() - start_ns) * rate // NS_PER_S + 1)
            hand_over([start_ns + index * NS_PER_S // rate for index in range(handed, due)])
            handed = due


async def _handed_over(rate: int, seconds: float) -> list[int]:
    """How long after they were due segments are handed over, with nothing else to do."""
    late: list[int] = []

    def hand_over(times: Iterable[int]) -> None:
        now_ns = time.monotonic_ns()
        late.extend(now_ns - due_ns for due_ns in times)

    await _fall_due(rate, seconds, hand_over)
    return late


async def _paced(publisher: Publisher, flow: Flow, rate: int, seconds: float) -> None:
    """Hand over what falls due; returns when all of it is acknowledged."""

    def hand_over(times: Iterable[int]) -> None:
        for due_ns in times:
            _publish(publisher, flow, due_ns)

    await _fall_due(rate, seconds, hand_over)
    left = await publisher.drain(30)
    assert not left, f"{left} segments are not in the store"


async def _flat_out(publisher: Publisher, flow: Flow, seconds: float) -> float:
    """Segments a second with the publisher never short of work."""
    began, written = time.monotonic(), publisher.statistics.written
    while time.monotonic() - began < seconds:
        while publisher.waiting < _WINDOW:
            _publish(publisher, flow, time.monotonic_ns())
        await asyncio.sleep(0)
    await publisher.drain(30)
    return (publisher.statistics.written - written) / (time.monotonic() - began)


async def _bare(url: str, flow: Flow, rate: int, seconds: float) -> dict[str, float]:
    """The same figures of the client library's own pipelines of XADD and PUBLISH: what speed alone would cost."""
    client = redis.Redis.from_url(url)
    try:
        await client.flushall()
        durations = await _bare_paced(client, flow, rate, seconds / 2)
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds / 2:
            await _bare_pipeline(client, [flow.next() for _ in range(_PIPELINE)])
            count += _PIPELINE
        flat_out = count / (time.monotonic() - began)
    finally:
        await client.aclose()
    return _figures(durations, seconds / 2) | {"flat_out_per_second": round(flat_out)}


async def _bare_paced(client: redis.Redis, flow: Flow, rate: int, seconds: float) -> list[int]:
    """How long each took from when it was due, one pipeline at a time."""
    due: deque[int] = deque()
    durations: list[int] = []
    falling = asyncio.create_task(_fall_due(rate, seconds, due.extend))
    while due or not falling.done():
        taken = [due.popleft() for _ in range(min(_PIPELINE, len(due)))]
        if taken:
            await _bare_pipeline(client, [flow.next() for _ in taken])
            durations += [time.monotonic_ns() - due_ns for due_ns in taken]
        else:
            await asyncio.sleep(0)  # a turn of the loop: the next ones come in during it
    await falling
    return durations


async def _bare_pipeline(client: redis.Redis, segments: list[Segment]) -> None:
    pipeline = client.pipeline(transaction=False)
    for segment in segments:
        raw, key = encode(segment), f"streamer:segments:{segment.stream}"
        pipeline.xadd("streamer:feed", {"json": raw}, maxlen=200_000, approximate=True)
        pipeline.publish(key, raw)
    await pipeline.execute()
