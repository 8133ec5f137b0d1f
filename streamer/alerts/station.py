"""Everything that the alerts process does, over one outbox: record, mirror, deliver, forget what is old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from streamer.alertconfig import LimitConfig, SendConfig
from streamer.alerts.delivery.courier import Courier, Receiver
from streamer.alerts.delivery.routing import limit_of
from streamer.alerts.mirror import Mirror
from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Counts, Kept
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.recorder import Recorder
from streamer.alerts.records import Delivery, NotDelivered, Sender
from streamer.alerts.senders import make_sender
from streamer.alerts.senders.keeping import Keeper, kept_for
from streamer.alerts.settings import AlertsReport, AlertsSettings
from streamer.clock import Clock
from streamer.errors import UserError
from streamer.storage.store import Store

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_KEEP_S = 30.0
_BEGIN_S = 5.0
_FORGET_EVERY_S, _FORGET_APART_S = 600.0, 0.05
_FORGET = 500
_NOTHING = Counts({}, None, 0, 0, 0)
# Mirrored and delivered once more before the end: what comes last is what people look at.
_LAST_S = 1.0


class Station:
    """`async with Station(settings, outbox, clock) as station:` works until the block is left.

    Raises on entering:
        UserError: the store's URL is none.
        OutboxError: the outbox can't be read.
    """

    def __init__(self, settings: AlertsSettings, outbox: OutboxThread[Outbox], clock: Clock) -> None:
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._store = Store.connect(settings.redis_url)
        # One of its own: reading the feed waits on its connection, and mirroring must not wait for that.
        self._mirror_store = Store.connect(settings.redis_url)
        self._mirror = Mirror(self._mirror_store, outbox, settings.retention_ns)
        self._recorder = Recorder(self._store, outbox, settings, self._recorded, clock)
        self._senders: dict[str, tuple[SendConfig, Sender]] = {}
        self._courier = Courier(outbox, self._receivers(settings), _limits(settings), clock)
        self._counts = _NOTHING
        self._new_receivers = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done, with the error, when a part can't go on."""

    async def __aenter__(self) -> Station:
        await self._recorder.restore()
        parts = {
            "follow": self._recorder.follow(),
            "mirror": self._mirror.run(),
            "deliver": self._courier.run(),
            "look": self._look(),
            "keep": self._keep(),
            "forget": self._forget(),
        }
        for name, work in parts.items():
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        # Who waits for us may publish from then on; a store that is away is no reason to wait for ever.
        await self._recorder.began(_BEGIN_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        follow, mirror, deliver, *rest = self._tasks
        await _end(follow, *rest)
        await self._recorder.finish()
        with contextlib.suppress(TimeoutError, OutboxError):
            async with asyncio.timeout(_LAST_S):
                await _end(mirror)
                await self._mirror.empty()
        await _end(mirror, deliver)
        await self._store.close()
        await self._mirror_store.close()
        if not self.fault.done():
            self.fault.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.fault.done():
            self.fault.set_exception(error)

    def _recorded(self, kept: Sequence[Kept]) -> None:
        self._courier.recorded(kept)
        self._mirror.wake()

    async def change(self, settings: AlertsSettings) -> None:
        """Go on by other rules, groups, receivers or limits; what did not change goes on undisturbed."""
        before, self._settings = self._settings, settings
        if (before.send, _limits(before)) != (settings.send, _limits(settings)):
            await self._courier.change(self._receivers(settings), _limits(settings))
            self._new_receivers.set()
        await self._recorder.change(settings)

    def _receivers(self, settings: AlertsSettings) -> dict[str, Receiver]:
        """Receivers with their senders; one whose entry stayed as it was keeps its sender."""
        self._senders = {
            name: self._senders[name]
            if name in self._senders and self._senders[name][0] == config
            else (config, _sender(name, config))
            for name, config in settings.send.items()
        }
        return {name: Receiver(sender, limit_of(config)) for name, (config, sender) in self._senders.items()}

    async def _look(self) -> None:
        """Twice a second: what others asked for by writing to the file, and the figures."""
        seen = -1
        while True:
            try:
                writes, self._counts = await self._outbox.do(lambda outbox: (outbox.other_writes(), outbox.counts()))
                if writes != seen:
                    self._courier.wake()
                seen = writes
            except OutboxDamaged:
                raise
            except OutboxError as error:
                log.warning("the outbox can't be looked at: %s", error)
            await asyncio.sleep(_LOOK_S)

    async def _keep(self) -> None:
        """Twice a minute: receivers that show alerts while they last are told which do, whatever they forgot."""
        while True:
            as_of_ns = self._clock.wall_ns()
            keepers = {name: sender for name, (_, sender) in self._senders.items() if isinstance(sender, Keeper)}
            try:
                firing = await self._outbox.do(lambda outbox: outbox.firing()) if keepers else []
            except OutboxDamaged:
                raise
            except OutboxError as error:
                log.warning("what fires can't be read: %s", error)
            else:
                told = (one.keep(kept_for(name, firing), as_of_ns) for name, one in keepers.items())
                # A fault of one sender must not keep the others, or the rules, from going on.
                for name, fault in zip(keepers, await asyncio.gather(*told, return_exceptions=True), strict=True):
                    if isinstance(fault, Exception):
                        log.error("receiver %s could not be told what lasts", name, exc_info=fault)
            self._new_receivers.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._new_receivers.wait(), _KEEP_S)

    async def _forget(self) -> None:
        """Drop what was kept long enough, a little at a time, so that recording gets its turns."""
        while True:
            before_ns, pause_s = self._clock.wall_ns() - self._settings.outbox.keep_ns, _FORGET_EVERY_S
            try:
                if await self._outbox.do(partial(Outbox.prune, before_ns=before_ns, most=_FORGET)) == _FORGET:
                    pause_s = _FORGET_APART_S
            except OutboxDamaged:
                raise
            except OutboxError as error:
                log.warning("old alerts can't be dropped: %s", error)
            await asyncio.sleep(pause_s)

    def report(self, loop_lag_ms: float) -> AlertsReport:
        """The figures now."""
        recorder, tallies, waiting = self._recorder, self._courier.tallies.values(), self._counts.deliveries
        return AlertsReport(
            stored=not recorder.away,
            written=not recorder.trouble,
            behind_ms=recorder.behind_ms,
            firing=self._counts.firing,
            pending=sum(count for (_, state), count in waiting.items() if state == "pending"),
            dead=sum(count for (_, state), count in waiting.items() if state == "dead"),
            read=recorder.read,
            unreadable=recorder.unreadable,
            missed=recorder.missed,
            failures=recorder.failures,
            recorded=recorder.recorded,
            mirrored=self._mirror.mirrored,
            sent=sum(tally.sent for tally in tallies),
            failed=sum(tally.failed for tally in tallies),
            died=sum(tally.dead for tally in tallies),
            outages=recorder.outages,
            loop_lag_ms=loop_lag_ms,
        )


class _Unusable:
    """Stands for a receiver that can't be made: its deliveries wait, and are told why."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def send(self, delivery: Delivery) -> None:
        """Never."""
        raise NotDelivered(self._text)

    async def aclose(self) -> None:
        """Nothing to let go of."""


def _sender(name: str, config: SendConfig) -> Sender:
    try:
        return make_sender(name, config)
    except UserError as error:
        log.error("receiver %s: %s", name, error)
        return _Unusable(str(error))


def _limits(settings: AlertsSettings) -> Mapping[str, LimitConfig | None]:
    return {rule.name: rule.limit for rule in settings.rules}


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
