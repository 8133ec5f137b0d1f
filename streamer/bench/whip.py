"""Live WebRTC publishers on the machine that labels them: whether each hop is answered in time, and what one costs.

The publishers are aiortc's, a few in each process, and send packets that are encoded already; the service and its store
are the real ones. All share the cores: what the publishers used is told beside what the service did. A flood offers
twice what the cores could decode if they did nothing else, to see what memory does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from streamer.bench import parts
from streamer.bench.clip import made, published
from streamer.bench.conditions import conditions
from streamer.bench.live import Run, feed, measure, processes_of, settled, spent
from streamer.bench.processes import resident_mb, threads
from streamer.bench.running import Started, running_service
from streamer.bench.slopes import slope
from streamer.bench.workers import Worker, worker
from streamer.cursor import START
from streamer.errors import StreamerError
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_PEERS_A_PROCESS = 3
_EVERY_S = 0.5
# Where senders overload the machine a fresh one is late too; it is reported and not waited for longer.
_PATIENCE_S = 30.0
_EXCESS = 2.0
# Buffers and decoders have grown to their size by then; what memory does afterwards is fitted.
_WARM_UP_PART = 1 / 3


@dataclass(frozen=True, slots=True)
class Offered:
    """What is sent: `publishers` of `clip`, with `rate` times as many pictures a second as it has."""

    publishers: int
    clip: Path
    rate: float = 1.0
    flood: bool = False


@dataclass(slots=True)
class WhipRun(Run):
    """A run with publishers.

    senders: cores of the processes that publish. receive, decode: cores of the reader processes' event loops, and of
    their other threads. sent: what the publishers say of themselves, with `behind_ms` the most that a frame left late.
    first_segment_s, first_label_s: from the SDP until the first segment, and the first with labels, was in the store,
    of each publisher in the order in which they began. memory_mb: of each process over the measured time.
    """

    senders: float = 0.0
    receive: float = 0.0
    decode: float = 0.0
    sent: list[dict[str, Any]] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    first_segment_s: list[float | None] = field(default_factory=list)
    first_label_s: list[float | None] = field(default_factory=list)
    memory_mb: dict[str, list[float]] = field(default_factory=dict)


def run(
    publishers: int, seconds: float, codec: Literal["h264", "vp8"], flood: bool, bound_ns: int, as_json: bool
) -> None:
    """Measure and print."""
    clip = made(published(codec, large=flood))
    alone = parts.decoding(clip)
    cores = len(os.sched_getaffinity(0))
    rate = max(1.0, _EXCESS * cores / (publishers * alone)) if flood else 1.0
    click.echo(f"clip {clip}, {30 * rate:.0f} pictures a second; decoding alone {alone * rate:.4f} core", err=True)
    load_before = os.getloadavg()
    entry = asyncio.run(observe(Offered(publishers, clip, rate, flood), seconds, bound_ns))
    result = {
        **figures(entry),
        "bound_ms": bound_ns // 1_000_000,
        "decode_alone": round(alone * rate, 4),
        "offered_of_what_can_be_decoded": round(publishers * alone * rate / cores, 2),
        "run": asdict(entry),
        "input": {"clip": clip.name, "bytes": clip.stat().st_size, "pictures_a_second": round(30 * rate, 1)},
        "load": {"before": load_before, "after": os.getloadavg()},
        "command": "streamer " + " ".join(sys.argv[1:]),
        **conditions(),
    }
    _report(result)
    if as_json:
        click.echo(json.dumps(result))


def figures(entry: WhipRun) -> dict[str, Any]:
    """What a run comes to for each publisher."""
    each = entry.streams
    stages = {name: cores for name, cores in entry.stages.items() if cores / each >= 0.00005 and name != "reader"}
    return {
        "publishers": each,
        "holds": entry.holds,
        "cores_a_publisher": round(entry.cores_a_stream, 4),
        "cores_by_process": {name: round(cores / each, 4) for name, cores in entry.cores.items()},
        "cores_by_stage": {
            name: round(cores / each, 4)
            for name, cores in {"receive": entry.receive, "decode": entry.decode, **stages}.items()
        },
        "senders_a_publisher": round(entry.senders / each, 4),
        "machine_cores": round(entry.machine, 3),
        "others_cores": round(entry.machine - entry.senders - sum(entry.cores.values()), 3),
        "latency_ms": entry.latency_ms,
        "first_label_s": _first(entry.first_label_s),
        "first_segment_s": _first(entry.first_segment_s),
        "answered_s": _first(list(entry.answered_s)),
        "memory_mb": _memory(entry),
    }


def _first(found_s: list[float | None]) -> dict[str, float | int]:
    known = sorted(seconds for seconds in found_s if seconds is not None)
    if not known:
        return {"never": len(found_s)}
    return {"p50": known[len(known) // 2], "max": known[-1], "never": len(found_s) - len(known)}


def _memory(entry: WhipRun) -> dict[str, Any]:
    """Of each process: at the beginning, the most, at the end, and the slope of its later part with its interval."""
    found = {}
    for name, values in entry.memory_mb.items():
        if not values:
            continue
        later = values[int(len(values) * _WARM_UP_PART) :]
        fitted = slope([index * _EVERY_S for index in range(len(later))], later)
        grown = None if fitted is None else [round(part / 60, 2) for part in (fitted.low, fitted.per_hour, fitted.high)]
        found[name] = {"first": values[0], "most": max(values), "last": values[-1], "mb_a_minute": grown}
    return found


def _report(result: dict[str, Any]) -> None:
    entry = result["run"]
    click.echo(
        f"{result['publishers']} publishers {'hold' if result['holds'] else 'do not hold'} at "
        f"{result['cores_a_publisher']} core each (bound {result['bound_ms']} ms): {entry['statuses']}, "
        f"missing {entry['missing']}, late {entry['late']} ({entry['acknowledged_late']} by the service's counter)",
        err=True,
    )
    for title in (
        *("cores_by_process", "cores_by_stage", "latency_ms", "first_label_s", "first_segment_s", "answered_s"),
        "memory_mb",
    ):
        click.echo(f"  {title:17} " + "  ".join(f"{name} {value}" for name, value in result[title].items()), err=True)
    for title in ("coverage", "degraded"):
        click.echo(f"  {title:17} " + "  ".join(f"{name} {value}" for name, value in entry[title].items()), err=True)
    click.echo(
        f"  machine           {result['machine_cores']} cores busy: publishers {entry['senders']:.3f}, service "
        f"{sum(entry['cores'].values()):.3f}, others {result['others_cores']}; publishers {entry['sent']}; load "
        f"{result['load']['before'][0]:.2f} before",
        err=True,
    )


async def observe(offered: Offered, seconds: float, bound_ns: int) -> WhipRun:
    """Start service and publishers, and look on for `seconds`.

    Raises:
        StreamerError: the service did not start, or refused a publisher.
        TimeoutError: a publisher's stream never had a segment.
    """
    entry = WhipRun(offered.publishers, seconds)
    names = [f"p{number:02}" for number in range(offered.publishers)]
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedStore())
        store = Store.connect(embedded.url)
        stack.push_async_callback(store.close)
        service = await stack.enter_async_context(running_service(_config(names, bound_ns), embedded.url))
        senders = [
            await stack.enter_async_context(_senders(offered)) for _ in range(0, offered.publishers, _PEERS_A_PROCESS)
        ]
        for sender in senders:
            await sender.line()
        offers_ms = await _publish(entry, service, senders, names)
        await _begun(store, offered)
        watched = processes_of(service, embedded)
        await _look_on(entry, store, service, watched, senders)
        await _firsts(entry, store, dict(zip(names, offers_ms, strict=True)))
    return entry


def _config(names: list[str], bound_ns: int) -> dict[str, object]:
    streams = {name: {"source": "whip"} for name in names}
    # All are let in, because whether so many can be is what is measured.
    return {"streams": streams, "latency_bound": f"{bound_ns // 1_000_000}ms", "admission": "degrade"}


def _senders(offered: Offered) -> AbstractAsyncContextManager[Worker]:
    return worker("streamer.bench.publishers", str(offered.clip), str(offered.rate))


async def _publish(entry: WhipRun, service: Started, senders: list[Worker], names: list[str]) -> list[int]:
    """Start them one after the other; the Unix milliseconds at which each sent its SDP."""
    offers_ms = []
    for number, name in enumerate(names):
        sender = senders[number % len(senders)]
        answer = await sender.ask(publish=f"{service.page}/v1/streams/{name}/whip")
        if "error" in answer:
            raise StreamerError(f"the service under measurement refused publisher {number + 1}: {answer['error']}")
        offers_ms.append(int(answer["offered_ms"]))
        entry.answered_s.append((int(answer["answered_ms"]) - offers_ms[-1]) / 1000)
    return offers_ms


async def _begun(store: Store, offered: Offered) -> None:
    if offered.flood:
        # Some may never have a picture decoded.
        await asyncio.sleep(_PATIENCE_S / 3)
    else:
        await settled(store, offered.publishers)


async def _look_on(
    entry: WhipRun, store: Store, service: Started, watched: dict[str, list[int]], senders: list[Worker]
) -> None:
    for sender in senders:
        await sender.ask(report=True)
    pids = {"senders": [sender.pid for sender in senders]}
    before, at_s = spent(pids)["senders"], time.monotonic()
    watching = asyncio.create_task(_watch(entry, watched))
    try:
        await measure(entry, store, service, watched)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    entry.senders = (spent(pids)["senders"] - before) / (time.monotonic() - at_s)
    entry.sent = [await sender.ask(report=True) for sender in senders]


async def _watch(entry: WhipRun, watched: dict[str, list[int]]) -> None:
    """Memory of each process, and the threads of the readers, until cancelled."""
    began_s, loops = time.monotonic(), set[int]()
    first = {tid: thread.seconds for pid in watched["readers"] for tid, thread in threads(pid).items()}
    while True:
        for name, pids in watched.items():
            entry.memory_mb.setdefault(name, []).append(round(sum(map(resident_mb, pids)), 1))
        now = {tid: thread for pid in watched["readers"] for tid, thread in threads(pid).items()}
        loops |= {tid for tid, thread in now.items() if thread.waits_for_sockets}
        used = {tid: thread.seconds - first.get(tid, 0.0) for tid, thread in now.items()}
        elapsed = max(time.monotonic() - began_s, 1e-9)
        entry.receive = sum(seconds for tid, seconds in used.items() if tid in loops) / elapsed
        entry.decode = sum(used.values()) / elapsed - entry.receive
        await asyncio.sleep(_EVERY_S)


async def _firsts(entry: WhipRun, store: Store, offers_ms: dict[str, int]) -> None:
    segments: dict[str, float] = {}
    labels: dict[str, float] = {}
    for entry_id, message in await feed(store, START):
        if message["type"] == "segment":
            name = message["stream"]
            after_s = (entry_id.ms - offers_ms[name]) / 1000
            segments.setdefault(name, after_s)
            if message["labels"]:
                labels.setdefault(name, after_s)
    entry.first_segment_s = [segments.get(name) for name in offers_ms]
    entry.first_label_s = [labels.get(name) for name in offers_ms]
