"""What stands between closed windows and the store, put together: engine, guard, publishing loop, streams, governor.

The work is shared so that no part of it can hold up a deadline: reader processes decode, the main loop cuts windows
(and answers HTTP), the engine's thread computes, and the guard's thread and the publishing loop do nothing but see
answers out in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from streamer.answer import Answer
from streamer.clock import NS_PER_S, Clock, epoch_ids
from streamer.config import StreamConfig
from streamer.engine import Engine
from streamer.governor import Governor
from streamer.ledger import Ledger, Publishing, Spoken
from streamer.listening import Listening
from streamer.loop_thread import LoopThread
from streamer.media import WorkCosts
from streamer.observe import cpu
from streamer.observe.freeze import FreezeWatch
from streamer.observe.metrics import Metrics
from streamer.observe.stalls import StallWatch
from streamer.observe.trace import Traces
from streamer.people.watch import PeopleWatch
from streamer.pipeline import Source, Surroundings
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged, Publisher
from streamer.publishing.publish_times import Reserve
from streamer.registry import Registry, RegistryParts
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import SchedulePolicy, Scheduler
from streamer.sources.pool import ReaderPool
from streamer.sources.source import droppable
from streamer.storage.store import Store
from streamer.tasks import background
from streamer.why.kept import Kept

log = logging.getLogger(__name__)

# A batch of more windows makes the first of them wait for the last, and gains nothing on a CPU.
MAX_WINDOWS = 4
_DRAIN_S = 1.0
# How long one thread may run Python code while others wait: the default of 5 ms, times the readers there are, is what a
# deadline would wait for.
_SWITCH_S = 0.001


@dataclass(frozen=True, slots=True)
class AnsweringParts:
    """What it is put together from. `store` belongs to the main loop, `publisher` to none yet; `admits_all`: streams
    are let in whatever they cost; `open_source` raises UserError for an entry that can't be used; `look` gives who
    watches a stream's people; `listening` listens to what is said."""

    engine: Engine
    costs: WorkCosts
    clock: Clock
    store: Store
    publisher: Publisher
    metrics: Metrics
    stalls: StallWatch
    traces: Traces
    kept: Kept
    pool: ReaderPool
    bound_ns: int
    admits_all: Callable[[], bool]
    open_source: Callable[[str, StreamConfig], Source]
    look: Callable[[str, StreamConfig], Awaitable[PeopleWatch | None]]
    listening: Listening


@contextlib.asynccontextmanager
async def answering(parts: AnsweringParts, on_fault: Callable[[str], None]) -> AsyncIterator[Registry]:
    """Start it, and stop it in the opposite order: streams first (what was accepted is answered and published), then
    what answers them."""
    clock, publisher, engine = parts.clock, parts.publisher, parts.engine
    sys.setswitchinterval(_SWITCH_S)
    async with contextlib.AsyncExitStack() as stack:
        loop = stack.enter_context(LoopThread("publish"))
        parts.stalls.watch("publish", loop.loop)
        await loop.call(publisher.__aenter__())
        stack.push_async_callback(_ended, loop, publisher)
        delivery = Delivery(clock, loop.post)
        dispatcher = stack.enter_context(
            Dispatcher(
                engine,
                Scheduler(SchedulePolicy(max_windows=MAX_WINDOWS), parts.costs),
                clock,
                lambda: publisher.reserve_ns + delivery.reserve_ns,
                lambda answer: delivery.take(answer, registry.ledger(answer.window.stream)),
            )
        )
        publishing = Publishing(
            clock=clock,
            names=[label.name for label in engine.labels],
            outlet=publisher,
            watchers=(parts.metrics, parts.traces, parts.kept),
            bound_ns=parts.bound_ns,
            post=loop.post,
            call=loop.call,
        )
        around = Surroundings(
            clock=clock,
            geometry=engine.geometry,
            dispatcher=dispatcher,
            publishing=publishing,
            bound_ns=parts.bound_ns,
            new_epoch=epoch_ids(clock).__next__,
            droppable=droppable,
        )
        governor = Governor(
            dispatcher,
            parts.costs,
            engine.geometry,
            clock,
            lambda: registry.live,
            lambda: time.process_time() + parts.pool.cpu_seconds(),
        )
        registry = Registry(
            RegistryParts(
                around=around,
                publisher=publisher,
                store=parts.store,
                metrics=parts.metrics,
                forget=(engine.forget, parts.traces.forget, parts.kept.forget, parts.listening.forget),
                open_source=parts.open_source,
                refusal=lambda entry: (
                    None
                    if parts.admits_all()
                    else governor.refusal(
                        entry.frames_per_second or engine.geometry.frame_rates[0], looks=entry.people != "off"
                    )
                ),
                look=parts.look,
                listen=lambda name, entry: parts.listening.ear(name, entry, engine.geometry.sample_rate),
            )
        )
        stack.push_async_callback(parts.listening.stop)
        stack.push_async_callback(registry.stop)
        parts.listening.deliver = lambda name, spoken: _speak(registry.ledger(name), spoken, loop)
        await background(stack, parts.listening.run(dispatcher.listen), "listening", on_fault)
        await background(stack, governor.run(), "governor", on_fault)
        await background(stack, registry.retry_forever(), "retries", on_fault)
        _watch(parts, dispatcher)
        yield registry


class Delivery:
    """Hands answers over to the publishing loop, and measures what that takes: part of what must be kept free before a
    deadline."""

    def __init__(self, clock: Clock, post: Callable[..., None]) -> None:
        self._clock = clock
        self._post = post
        self._reserve = Reserve()
        self.reserve_ns = self._reserve.at(0)

    def take(self, answer: Answer, ledger: Ledger | None) -> None:
        """An answer, from any thread; without a ledger its stream has gone."""
        if ledger is not None:
            self._post(self._arrived, answer, ledger, self._clock.now_ns())

    def _arrived(self, answer: Answer, ledger: Ledger, handed_ns: int) -> None:
        now_ns = self._clock.now_ns()
        self._reserve.add(now_ns - handed_ns, now_ns)
        self.reserve_ns = self._reserve.at(now_ns)
        ledger.answer(answer)


@dataclass(frozen=True, slots=True)
class PublishHooks:
    """What the publisher tells, into the metrics; called on the publishing loop."""

    metrics: Metrics
    traces: Traces
    freezes: FreezeWatch
    bound_ns: int

    def on_written(self, acknowledged: Acknowledged) -> None:
        """Count a stored segment: how long publishing took, and how long it was since its end was captured."""
        unit = acknowledged.unit
        if unit.deadline_ns is None:
            return
        captured_ns = unit.deadline_ns - self.bound_ns
        frozen_ns = self.freezes.frozen_ns(captured_ns, acknowledged.acked_ns) if acknowledged.late else 0
        self.traces.written(acknowledged, frozen_ns)
        self.metrics.published(
            unit.stream,
            acknowledged.acked_ns - acknowledged.handed_ns,
            acknowledged.acked_ns - captured_ns,
            late=acknowledged.late,
            store_late=acknowledged.store_late,
            frozen=acknowledged.late
            and self.freezes.explains(captured_ns, unit.deadline_ns, acknowledged.acked_ns, acknowledged.store_spans),
        )

    def on_dropped(self, unit: Unit) -> None:
        """Count messages that will never be stored."""
        self.metrics.unpublished(unit.stream)
        self.traces.dropped(unit)

    def on_fenced(self, stream: str) -> None:
        """Say that another process publishes this stream now."""
        log.warning("stream %s is written by another process now; this one publishes nothing of it any more", stream)


def _speak(ledger: Ledger | None, spoken: Spoken, loop: LoopThread) -> None:
    if ledger is not None:  # else its stream has gone
        loop.post(ledger.speak, spoken)


async def _ended(loop: LoopThread, publisher: Publisher) -> None:
    await loop.call(publisher.drain(_DRAIN_S))
    await loop.call(publisher.aclose())


def _watch(parts: AnsweringParts, dispatcher: Dispatcher) -> None:
    publisher, pool = parts.publisher, parts.pool
    watch, counts = parts.metrics.watch, dispatcher.statistics
    watch("windows_waiting", "Windows queued for compute.", lambda: dispatcher.waiting)
    watch("windows_unanswered", "Windows queued or in a batch.", lambda: dispatcher.unanswered)
    watch("looks", "Pictures in which people were looked for.", lambda: counts.looks, counter=True)
    watch("windows_wasted", "Windows computed, but not in time.", lambda: counts.wasted, counter=True)
    watch("batches", "Batches computed.", lambda: counts.batches, counter=True)
    watch("reserve_seconds", "Kept free before every deadline.", lambda: dispatcher.reserve_ns / NS_PER_S)
    watch("engine_failures", "Batches that the engine failed on.", lambda: dispatcher.engine_failures, counter=True)
    watch("engine_busy_seconds", "Time spent on batches.", lambda: counts.busy_ns / NS_PER_S, counter=True)
    watch("publish_waiting", "Units handed over and not acknowledged.", lambda: publisher.waiting)
    watch("store_away", "1 while the store does not take what is published.", lambda: publisher.outage() is not None)
    watch("store_outages", "Times the store went away.", lambda: publisher.statistics.outages, counter=True)
    watch(
        "store_rewritten",
        "Units written again that the store had lost.",
        lambda: publisher.statistics.rewritten,
        counter=True,
    )
    watch("reader_processes", "Processes that read and decode.", lambda: len(pool.pids))
    watch("reader_deaths", "Reader processes that ended by themselves.", lambda: pool.deaths, counter=True)
    loop = asyncio.get_running_loop()
    watch("tasks", "Tasks of the main event loop.", lambda: len(asyncio.all_tasks(loop)))
    parts.metrics.watch_parts(
        "cpu_seconds",
        "CPU time by part: this process's threads, and the processes that read and decode.",
        lambda: cpu.thread_seconds() | {"reader": pool.cpu_seconds()},
    )
