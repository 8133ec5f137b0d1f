"""One message to many websocket subscribers: when does the last have it, beside bare sends to as many sockets?

The store, the hub and the publisher are the real ones; the clients are sockets in processes of their own. The hub's
messages, bare sends of the very same bytes and `websockets.broadcast` take turns in one run, so that whatever else the
machine does meets all three. A hub's time runs from handing the segment to the publisher (the store is on the way), a
sender's from its first send. Meanwhile a timer in the publisher's event loop, which has a thread of its own as in the
service, says how long that loop is held up; during bare sends it says what the machine's load does to it by itself.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from streamer.bench.conditions import conditions
from streamer.bench.processes import cpu_seconds, resident_mb
from streamer.bench.workers import Worker, worker
from streamer.errors import UserError
from streamer.hub.process import HubProcess
from streamer.hub.settings import HubSettings
from streamer.loop_thread import LoopThread
from streamer.messages import CoverageBody, Label, LatencyBody, Segment, Share
from streamer.publishing.publish import Publisher
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_LISTENERS, _SENDERS, _SLEEPER = "streamer.bench.listeners", "streamer.bench.senders", "streamer.bench.sleeper"
_PATH = "/v1/subscribe"
# Files that a process of the benchmark opens beside a socket for each client.
_OTHER_FILES = 128
_CONNECT_S = 60.0
_MESSAGE_S = 20.0
_TICK_S = 0.001
_PAUSE_S = 0.1
_IDLE_S = 3.0
_NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Series:
    """Times in ms of one way of sending: until the last client had the message; and the sending process's CPU time."""

    last_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0

    def percentiles(self) -> dict[str, float]:
        """p50, p90, max."""
        ordered = sorted(self.last_ms)
        at = {"p50": 0.5, "p90": 0.9, "max": 1.0}
        return {name: round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2) for name, q in at.items()}


class StallMeter:
    """How late a timer of an event loop is, at worst since it was last asked; to be asked from any thread."""

    def __init__(self) -> None:
        self._worst_s = 0.0

    async def run(self) -> None:
        """Measure the loop that this runs in, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._worst_s = max(self._worst_s, loop.time() - due_s)

    def take_ms(self) -> float:
        """The worst since the last call, in ms."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s * 1000


@dataclass(slots=True)
class Outcome:
    """All that was measured. `sleeper_stalls`: how late a process that only slept was let run while the hub sent."""

    hub: Series = field(default_factory=Series)
    bare: Series = field(default_factory=Series)
    broadcast: Series = field(default_factory=Series)
    stalls: Series = field(default_factory=Series)
    bare_stalls: Series = field(default_factory=Series)
    idle_stalls: Series = field(default_factory=Series)
    sleeper_stalls: Series = field(default_factory=Series)
    connect_s: float = 0.0
    hub_rss_mb: float = 0.0
    hub_bare_mb: float = 0.0
    hub_idle_cores: float = 0.0
    message_bytes: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def run(clients: int, messages: int, as_json: bool) -> None:
    """Measure and print.

    Raises:
        UserError: the system allows fewer open files than the clients need.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if clients + _OTHER_FILES > most:
        remedy = f"take --clients {max(most - _OTHER_FILES, 1)}, or raise the limit (ulimit -Hn)"
        raise UserError(f"{clients} clients need {clients + _OTHER_FILES} open files, and {most} are allowed: {remedy}")
    outcome = asyncio.run(_measure(clients, messages))
    result = _result(outcome, clients, messages)
    _report(result)
    if as_json:
        click.echo(json.dumps(result))


def _result(outcome: Outcome, clients: int, messages: int) -> dict[str, Any]:
    hub, bare, broadcast = (s.percentiles() for s in (outcome.hub, outcome.bare, outcome.broadcast))
    stalls = outcome.stalls.percentiles()
    return {
        "clients": clients,
        "last_ms": hub["p50"],
        "bare_ms": bare["p50"],
        "stall_ms": stalls["max"],
        "ratio": round(hub["p50"] / bare["p50"], 3),
        "ratio_broadcast": round(broadcast["p50"] / bare["p50"], 3),
        "last_ms_percentiles": hub,
        "bare_ms_percentiles": bare,
        "broadcast_ms_percentiles": broadcast,
        "stall_ms_percentiles": stalls,
        "stall_bare_ms_percentiles": outcome.bare_stalls.percentiles(),
        "stall_idle_ms_percentiles": outcome.idle_stalls.percentiles(),
        "stall_sleeper_ms_percentiles": outcome.sleeper_stalls.percentiles(),
        "cpu_ms_a_message": {
            name: round(series.cpu_ms / messages, 1)
            for name, series in (("hub", outcome.hub), ("bare", outcome.bare), ("broadcast", outcome.broadcast))
        },
        "counts": outcome.counts,
        "connect_s": outcome.connect_s,
        "hub_rss_mb": round(outcome.hub_rss_mb, 1),
        "hub_kb_a_client": round((outcome.hub_rss_mb - outcome.hub_bare_mb) * 1000 / clients, 1),
        "hub_idle_cores": round(outcome.hub_idle_cores, 3),
        "input": {"messages": messages, "bytes": outcome.message_bytes},
        "command": "streamer " + " ".join(sys.argv[1:]),
        **conditions(),
    }


def _report(result: dict[str, Any]) -> None:
    click.echo(
        f"{result['clients']} clients: the last has a message after {result['last_ms']} ms, {result['ratio']} x bare "
        f"sends ({result['bare_ms']} ms); the publisher's loop stalls {result['stall_ms']} ms at worst "
        f"(a process that only sleeps beside it: {result['stall_sleeper_ms_percentiles']['max']} ms)",
        err=True,
    )
    for name in (
        "last_ms",
        "bare_ms",
        "broadcast_ms",
        "stall_ms",
        "stall_bare_ms",
        "stall_idle_ms",
        "stall_sleeper_ms",
    ):
        figures = result[f"{name}_percentiles"]
        click.echo(f"  {name:16} " + "  ".join(f"{key} {value}" for key, value in figures.items()), err=True)
    memory = f"{result['hub_rss_mb']} MB, {result['hub_kb_a_client']} kB a client"
    click.echo(f"  hub            {memory}, {result['hub_idle_cores']} cores while idle", err=True)
    used = "  ".join(f"{name} {ms} ms" for name, ms in result["cpu_ms_a_message"].items())
    click.echo(f"  cpu a message  {used}", err=True)


async def _measure(clients: int, messages: int) -> Outcome:
    outcome = Outcome()
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedStore())
        settings = HubSettings(redis_url=embedded.url, port=0, max_clients=clients + 16)
        hub = await stack.enter_async_context(HubProcess(settings))
        assert hub.pid is not None
        outcome.hub_bare_mb = resident_mb(hub.pid)
        publishing = stack.enter_context(LoopThread("publish"))
        publisher = Publisher(Store.connect(embedded.url))
        await publishing.call(publisher.__aenter__())
        stack.push_async_callback(_ended, publishing, publisher)
        ways = await _ways(stack, hub, partial(publishing.post, publisher.publish), clients, outcome)
        meter = await stack.enter_async_context(_stall_meter(publishing))
        await _rest(hub.pid, meter, outcome)
        sleeper = await stack.enter_async_context(worker(_SLEEPER))
        await _take_turns(ways, messages, (meter, sleeper), outcome)
        outcome.hub_rss_mb = resident_mb(hub.pid)
        for name, way in zip(("hub", "bare", "broadcast"), ways, strict=True):
            outcome.counts[name] = await way.listeners.ask(count=True)
    return outcome


Publish = Callable[[str, list[Segment]], object]


class Way:
    """One way of sending, with its listeners; `pid` is the process that sends."""

    def __init__(self, listeners: Worker, series: Series, pid: int) -> None:
        self.listeners = listeners
        self._series = series
        self._pid = pid

    async def send(self, seq: int, text: str) -> str:
        """Send message `seq` (its `text` is base64) and wait until the last client has it; what was received."""
        before_s = cpu_seconds(self._pid)
        began_ns = await self._begin(seq, text)
        told = await self.listeners.line(_MESSAGE_S)
        self._series.cpu_ms += (cpu_seconds(self._pid) - before_s) * 1000
        assert told["seq"] == seq
        self._series.last_ms.append((told["last_ns"] - began_ns) / _NS_PER_MS)
        received: str = told["text"]
        return received

    async def _begin(self, seq: int, text: str) -> int:
        raise NotImplementedError


class HubWay(Way):
    """Through publisher, store and hub."""

    def __init__(self, listeners: Worker, series: Series, pid: int, publish: Publish) -> None:
        super().__init__(listeners, series, pid)
        self._publish = publish

    async def _begin(self, seq: int, text: str) -> int:
        began_ns = time.monotonic_ns()
        self._publish("door", [_segment(seq)])
        return began_ns


class SenderWay(Way):
    """From a sender's process."""

    def __init__(self, listeners: Worker, series: Series, sender: Worker) -> None:
        super().__init__(listeners, series, sender.pid)
        self._sender = sender

    async def _begin(self, seq: int, text: str) -> int:
        began_ns: int = (await self._sender.ask(_MESSAGE_S, text=text))["began_ns"]
        return began_ns


async def _ways(stack: AsyncExitStack, hub: HubProcess, publish: Publish, clients: int, outcome: Outcome) -> list[Way]:
    listeners = await stack.enter_async_context(worker(_LISTENERS))
    told = await listeners.ask(_CONNECT_S, connect={"port": hub.port, "count": clients, "path": _PATH})
    outcome.connect_s = told["seconds"]
    click.echo(f"{clients} clients subscribed to the hub in {told['seconds']} s", err=True)
    assert hub.pid is not None
    ways: list[Way] = [HubWay(listeners, outcome.hub, hub.pid, publish)]
    for name, series, path in (("bare", outcome.bare, None), ("broadcast", outcome.broadcast, "/")):
        sender = await stack.enter_async_context(worker(_SENDERS, name, str(clients)))
        port = (await sender.line())["port"]
        listeners = await stack.enter_async_context(worker(_LISTENERS))
        told = await listeners.ask(_CONNECT_S, connect={"port": port, "count": clients, "path": path})
        click.echo(f"{clients} clients connected to {name} in {told['seconds']} s", err=True)
        ways.append(SenderWay(listeners, series, sender))
    return ways


async def _rest(hub_pid: int, meter: StallMeter, outcome: Outcome) -> None:
    """What the hub costs and how late timers are while nothing is sent."""
    before_s, began = cpu_seconds(hub_pid), time.monotonic()
    while time.monotonic() < began + _IDLE_S:
        await asyncio.sleep(_PAUSE_S)
        outcome.idle_stalls.last_ms.append(meter.take_ms())
    outcome.hub_idle_cores = (cpu_seconds(hub_pid) - before_s) / (time.monotonic() - began)


async def _take_turns(ways: list[Way], messages: int, late: tuple[StallMeter, Worker], outcome: Outcome) -> None:
    hub, bare, broadcast = ways
    meter, sleeper = late
    text = ""
    for seq in range(messages):
        for way, stalls in ((hub, outcome.stalls), (bare, outcome.bare_stalls), (broadcast, None)):
            await asyncio.sleep(_PAUSE_S)
            await sleeper.ask()
            meter.take_ms()
            text = await way.send(seq, text)
            if stalls is not None:
                stalls.last_ms.append(meter.take_ms())
            if way is hub:
                outcome.sleeper_stalls.last_ms.append((await sleeper.ask())["worst_ms"])
        outcome.message_bytes = len(text) * 3 // 4
        if seq % 10 == 9:
            click.echo(f"{seq + 1} of {messages} messages", err=True)


async def _ended(publishing: LoopThread, publisher: Publisher) -> None:
    await publishing.call(publisher.drain(_MESSAGE_S))
    await publishing.call(publisher.aclose())


@asynccontextmanager
async def _stall_meter(publishing: LoopThread) -> AsyncIterator[StallMeter]:
    meter = StallMeter()
    task = asyncio.create_task(publishing.call(meter.run()))
    try:
        yield meter
    finally:
        task.cancel()
        await asyncio.wait([task])


def _segment(seq: int) -> Segment:
    """A segment with eight labels, as a busy stream has them."""
    names = ("Speech", "Dog", "Vehicle", "Music", "Engine", "Siren", "Bicycle", "Umbrella")
    return Segment(
        stream="door",
        epoch="0192f1c6",
        seq=seq,
        start="2026-11-23T04:07:08.500Z",
        end="2026-11-23T04:07:10.500Z",
        status="ok",
        labels=[Label(name, round(0.93 - i / 10, 2), Share(0.44, 0.56, 0.0)) for i, name in enumerate(names)],
        coverage=CoverageBody(1.0, 0.98, 1.0),
        latency_ms=LatencyBody(212.4, 31.0, 60.2, 118.0, 3.2),
        bound_ms=1000,
    )
