"""Engine, dispatcher, accounts, publisher and a store of their own, put together as in the service; without cameras."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from streamer.answer import Answer
from streamer.answering import Delivery
from streamer.bench.followers import Tap
from streamer.bench.outcomes import Account
from streamer.clock import NS_PER_MS, NS_PER_S, HostClock
from streamer.engine import Engine
from streamer.governor import Governor
from streamer.ledger import Ledger, Publishing
from streamer.loop_thread import LoopThread
from streamer.media import Window, WorkCosts
from streamer.memory import settled_memory
from streamer.observe.freeze import FreezeWatch
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged, PublishConfig, Publisher
from streamer.publishing.trips import Span
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import Scheduler
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_SWITCH_S = 0.001
_RETENTION_NS = 60 * NS_PER_S
_DRAIN_S = 2.0
# An answer is on its way to the publishing loop when its window has been closed.
_HANDED_S = 0.05
_TOLD = 5


@dataclass(frozen=True, slots=True)
class Parts:
    """What it is put together from; one engine may serve one after the other."""

    engine: Engine
    costs: WorkCosts
    scheduler: Scheduler
    bound_ns: int


class Hooks:
    """Who was acknowledged late for reasons that no scheduler can help: because the process did not run meanwhile
    (`frozen`), or because of the store alone (`store_late`; also where the machine left the store no time); of the
    others, when they were captured, due and acknowledged, and in how much of that the store was away (`unexcused`), and
    of the first of these how (`told`)."""

    def __init__(self, freezes: FreezeWatch, bound_ns: int) -> None:
        self.frozen: set[tuple[str, int]] = set()
        self.store_late: set[tuple[str, int]] = set()
        self.unexcused: dict[tuple[str, int], tuple[int, int, int, tuple[Span, ...]]] = {}
        self.told: list[str] = []
        self._freezes = freezes
        self._bound_ns = bound_ns

    def on_written(self, acknowledged: Acknowledged) -> None:
        unit = acknowledged.unit
        if unit.deadline_ns is None or unit.segment is None or not acknowledged.late:
            return
        key, captured_ns = (unit.stream, unit.segment.seq), unit.deadline_ns - self._bound_ns
        if self._freezes.explains(captured_ns, unit.deadline_ns, acknowledged.acked_ns, acknowledged.store_spans):
            self.frozen.add(key)
        elif acknowledged.store_late:
            self.store_late.add(key)
        else:
            acked_ns = acknowledged.acked_ns
            self.unexcused[key] = (captured_ns, unit.deadline_ns, acked_ns, acknowledged.store_spans)
            self._tell(acknowledged, unit.segment.status, unit.deadline_ns)

    def _tell(self, acknowledged: Acknowledged, status: str, deadline_ns: int) -> None:
        if len(self.told) == _TOLD:
            return
        times = (acknowledged.handed_ns, acknowledged.sent_ns, acknowledged.acked_ns)
        handed, sent, acked = ((at_ns - deadline_ns) // NS_PER_MS for at_ns in times)
        self.told.append(
            f"late, {status}: handed over {handed}, sent {sent} and acknowledged {acked} ms after the deadline, "
            f"the loop stood still for {acknowledged.stalled_ns // NS_PER_MS} ms"
        )

    def on_dropped(self, unit: Unit) -> None:
        """It will be missing from the feed, and be counted there."""

    def on_fenced(self, stream: str) -> None:
        raise AssertionError(f"nobody else writes {stream}")


class Assembled:
    """Windows go in by `accept`; what became of them stands in the store, and from there in `account`."""

    def __init__(self, parts: Parts, loop: LoopThread, publisher: Publisher, hooks: Hooks, tap: Tap) -> None:
        self.account = tap.account
        self.hooks = hooks
        clock, engine = HostClock(), parts.engine
        self._tap, self._loop, self._publisher = tap, loop, publisher
        self._ledgers: dict[str, Ledger] = {}
        self._engine = engine
        delivery = Delivery(clock, loop.post)

        def answered(answer: Answer) -> None:
            delivery.take(answer, self._ledgers[answer.window.stream])

        self.dispatcher = Dispatcher(
            engine, parts.scheduler, clock, lambda: publisher.reserve_ns + delivery.reserve_ns, answered
        )
        self._publishing = Publishing(
            clock=clock,
            names=[label.name for label in engine.labels],
            outlet=publisher,
            watchers=(),
            bound_ns=parts.bound_ns,
            post=loop.post,
            call=loop.call,
        )
        self._governor = Governor(self.dispatcher, parts.costs, engine.geometry, clock, dict)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to read what is stored, and to move the ladder."""
        self._tasks = [asyncio.create_task(self._governor.run()), asyncio.create_task(self._tap.run())]

    async def stop(self) -> None:
        """End both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self, stream: str) -> None:
        """`stream` is there from now on."""
        self.dispatcher.put(stream, 1.0)
        self._ledgers[stream] = Ledger(stream, self._publishing)
        self._loop.post(self._publisher.open, stream)

    def forget(self) -> None:
        """The engine keeps nothing of any stream."""
        for stream in self._ledgers:
            self._engine.forget(stream)

    def accept(self, window: Window) -> None:
        """A window has closed."""
        self._loop.post(self._ledgers[window.stream].expect, window)
        self.dispatcher.submit(window)

    async def settle(self, timeout_s: float) -> None:
        """Return when everything is answered, stored and read, or when `timeout_s` is over and it is not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.dispatcher.unanswered:  # noqa: ASYNC110 - another thread's, and nobody is told of it
                    await asyncio.sleep(0.01)
        await asyncio.sleep(_HANDED_S)
        await self._loop.call(self._publisher.drain(_DRAIN_S))
        await self.stop()
        await self._tap.finish()


@contextlib.asynccontextmanager
async def assembled(parts: Parts, account: Account) -> AsyncIterator[Assembled]:
    """Put it together, and take it apart again; the engine then holds nothing of any stream."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(sys.setswitchinterval, interval_s)
        # As in the service: else the collector's looks at all that is loaded would be measured.
        stack.enter_context(settled_memory())
        embedded = await stack.enter_async_context(EmbeddedStore())
        store = Store.connect(embedded.url)
        loop = stack.enter_context(LoopThread("publish"))
        stack.push_async_callback(_closed, loop, store)
        hooks = Hooks(stack.enter_context(FreezeWatch()), parts.bound_ns)
        publisher = Publisher(store, PublishConfig(retention_ns=_RETENTION_NS), hooks=hooks)
        await loop.call(publisher.__aenter__())
        stack.push_async_callback(_ended, loop, publisher)
        whole = Assembled(parts, loop, publisher, hooks, Tap(embedded.url, account))
        stack.callback(whole.forget)
        stack.enter_context(whole.dispatcher)
        stack.push_async_callback(whole.stop)
        whole.start()
        yield whole


async def _closed(loop: LoopThread, store: Store) -> None:
    await loop.call(store.close())


async def _ended(loop: LoopThread, publisher: Publisher) -> None:
    await loop.call(publisher.drain(_DRAIN_S))
    await loop.call(publisher.aclose())
