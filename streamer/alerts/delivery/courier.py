"""Brings what the outbox holds to its receivers: at least once, under one id, in order, and never in floods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streamer.alertconfig import LimitConfig
from streamer.alerts.delivery.desk import Desk, Office, Spare, Tally
from streamer.alerts.delivery.limits import Limits
from streamer.alerts.delivery.retry import GIVEN_UP_NS
from streamer.alerts.delivery.settling import Settling
from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Kept, Lane
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.records import Sender
from streamer.clock import Clock

log = logging.getLogger(__name__)

__all__ = ["Courier", "Receiver", "Tally"]

_MOST_SPARE = 64
_LOOK_S = 60.0
_AGAIN_S = 1.0
_LAST_S = 2.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """Whom a name of the `send` section stands for. limit: None where it may get as many as there are."""

    sender: Sender
    limit: LimitConfig | None = None


class Courier:
    """Delivers until it is cancelled.

    Of one rule a receiver gets one delivery at a time, in the order of recording; of several rules at most 8 at a time.
    One that fails is asked by one delivery at a time, ever more slowly, and holds up nobody else. What a limit holds
    back is told in one summary as soon as there is room again. What somebody asked to be sent again goes beside the
    others, under no limit. Senders are the courier's: it closes those that it no longer uses.

    tallies: what happened at each receiver; those that are no more stay in it.
    """

    def __init__(
        self,
        outbox: OutboxThread[Outbox],
        receivers: Mapping[str, Receiver],
        rule_limits: Mapping[str, LimitConfig | None],
        clock: Clock,
        luck: Callable[[], float] = random.random,
    ) -> None:
        """luck: in [0, 1), for the jitter of pauses."""
        self.tallies: dict[str, Tally] = {}
        self._outbox = outbox
        self._clock = clock
        self._settling = Settling(outbox)
        self._office = Office(outbox, self._settling, clock, Spare(_MOST_SPARE), luck)
        self._limits = Limits(_limits(receivers), rule_limits)
        self._restored = False
        self._desks = {name: self._desk(name, receiver.sender) for name, receiver in receivers.items()}
        self._tasks: dict[Desk, asyncio.Task[None]] = {}
        self._come = asyncio.Event()
        self._changing = asyncio.Lock()
        self._fault: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Deliver what is there, and what comes, until cancelled; then end what is under way within 2 s, write what
        became of it, and close the senders.

        Raises:
            OutboxDamaged: the file is broken.
        """
        self._fault = asyncio.get_running_loop().create_future()
        parts = [asyncio.create_task(self._watch(), name="lanes"), asyncio.create_task(self._settling.run())]
        for part in parts:
            part.add_done_callback(self._ended)
        try:
            await self._fault
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self._end(list(self._desks.values()))

    def recorded(self, kept: Sequence[Kept]) -> None:
        """These were recorded just now: they leave at once."""
        for one in kept:
            for receiver, state in one.receivers:
                if state == "pending" and (desk := self._desks.get(receiver)) is not None:
                    desk.look(Lane(receiver, one.alert.rule, asked=False))

    def wake(self) -> None:
        """Look again now: the time or the file changed otherwise."""
        self._come.set()

    async def change(self, receivers: Mapping[str, Receiver], rule_limits: Mapping[str, LimitConfig | None]) -> None:
        """Other receivers and limits from now on. Those with the same sender object go on undisturbed; what is under
        way to others is ended within 2 s, and tried again by their successors."""
        async with self._changing:
            stay = {
                name: desk
                for name, desk in self._desks.items()
                if name in receivers and receivers[name].sender is desk.sender
            }
            gone = [desk for name, desk in self._desks.items() if name not in stay]
            self._desks = stay
            await self._end(gone)
            self._limits.change(_limits(receivers), rule_limits)
            new = {name: self._desk(name, one.sender) for name, one in receivers.items() if name not in stay}
            self._desks = stay | new
            for desk in stay.values():
                desk.wake()
            self.wake()

    async def _watch(self) -> None:
        """Begin, and look for what others asked for or what has no receiver: when woken, and every minute."""
        while True:
            self._come.clear()
            try:
                async with self._changing:
                    await self._open()
                    await self._look()
            except OutboxDamaged:
                raise
            except OutboxError as error:
                log.warning("deliveries wait: %s", error)
                await asyncio.sleep(_AGAIN_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._come.wait()

    async def _open(self) -> None:
        """Set the desks to work that are not yet; before the first, count what went out before a restart."""
        if not self._restored:
            behind_ns = self._clock.wall_ns() - self._clock.now_ns()
            since_ns = self._clock.wall_ns() - self._limits.longest_ns()
            for receiver, rules, tried_ns in await self._outbox.do(lambda outbox: outbox.tried_since(since_ns)):
                self._limits.take(receiver, rules, min(tried_ns - behind_ns, self._clock.now_ns()))
            self._restored = True
        for desk in self._desks.values():
            if desk not in self._tasks:
                self._tasks[desk] = asyncio.create_task(desk.run(), name=f"deliver to {desk.name}")
                self._tasks[desk].add_done_callback(self._ended)

    async def _look(self) -> None:
        """Tell the desks of all that is to be sent; what has had no receiver for a day is given up."""
        now_ns = self._clock.wall_ns()
        for each in self._desks.values():
            each.wake()
        for lane in await self._outbox.do(lambda outbox: outbox.lanes()):
            if (desk := self._desks.get(lane.receiver)) is not None:
                desk.look(lane)
                continue
            error = "the configuration has no receiver of this name any more"
            give_up = partial(Outbox.give_up, receiver=lane.receiver, error=error, now_ns=now_ns)
            given_up = await self._outbox.do(partial(give_up, before_ns=now_ns - GIVEN_UP_NS))
            self.tallies.setdefault(lane.receiver, Tally()).dead += given_up

    def _desk(self, name: str, sender: Sender) -> Desk:
        return Desk(name, sender, self._limits, self._office, self.tallies.setdefault(name, Tally()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part ended: by a fault, which ends the whole."""
        if not task.cancelled() and (error := task.exception()) is not None:
            assert self._fault is not None, "parts run within `run`"
            if not self._fault.done():
                self._fault.set_exception(error)

    async def _end(self, desks: Sequence[Desk]) -> None:
        """Stop these desks, write what they have done, and close their senders."""
        tasks = [self._tasks.pop(desk) for desk in desks if desk in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(desk.end(_LAST_S) for desk in desks))
        try:
            await self._settling.flush()
        except OutboxError as error:
            log.error("what was delivered last can't be written down and may be sent again: %s", error)
        for desk in desks:
            try:
                await desk.sender.aclose()
            except Exception:  # noqa: BLE001 - a sender's own fault must not keep the others from being closed
                log.error("the connection to %s could not be closed in order", desk.name)


def _limits(receivers: Mapping[str, Receiver]) -> dict[str, LimitConfig | None]:
    return {name: receiver.limit for name, receiver in receivers.items()}
