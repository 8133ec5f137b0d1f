"""One receiver of alerts: what it gets next, and how it is treated while it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from streamer.alerts.delivery.limits import Limits
from streamer.alerts.delivery.retry import LONGEST_NS, Health, next_try_ns
from streamer.alerts.delivery.settling import Settling
from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Lane, Outcome, Waiting
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.records import DeliveryState, NotDelivered, Sender
from streamer.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

MOST_UNDER_WAY = 8
_SEND_S = 60.0
_AGAIN_S = 1.0
_LOOK_S = 60.0
_BATCH = 64
_LONGEST_ERROR = 500


@dataclass(slots=True)
class Tally:
    """What happened at one receiver since the courier began. sent, failed: tries; dead, held: deliveries; summaries:
    made; stumbled: faults of ours; under_way: now; failing: its last try failed, `error` says how."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    held: int = 0
    summaries: int = 0
    stumbled: int = 0
    under_way: int = 0
    failing: bool = False
    error: str = ""


class Spare:
    """How many deliveries may be under way beyond the first of each receiver, in all: receivers that hang can take
    these from the others, and never their first."""

    def __init__(self, most: int) -> None:
        self.left = most


@dataclass(frozen=True, slots=True)
class Office:
    """What all desks share. luck: in [0, 1), for the jitter of pauses."""

    outbox: OutboxThread[Outbox]
    settling: Settling
    clock: Clock
    spare: Spare
    luck: Callable[[], float]


@dataclass(slots=True)
class _Queue:
    """A lane's earliest deliveries. more: the outbox may hold others. busy: the first is under way. due_ns: the first
    is not tried before (monotonic)."""

    lane: Lane
    waiting: deque[Waiting] = field(default_factory=deque)
    more: bool = True
    busy: bool = False
    due_ns: int = 0


class Desk:
    """Sends to one receiver until it is ended. `look` and `wake` may be called from the loop at any time."""

    def __init__(self, name: str, sender: Sender, limits: Limits, office: Office, tally: Tally) -> None:
        self.name = name
        self.sender = sender
        self.limits = limits
        self._office = office
        self._tally = tally
        self._queues: dict[Lane, _Queue] = {}
        self._known: set[int] = set()  # rows that are in a queue, or whose outcome is not written yet
        self._held: Counter[str] = Counter()
        self._flights: set[asyncio.Task[None]] = set()
        self._come = asyncio.Event()
        self._health = Health()

    def look(self, lane: Lane) -> None:
        """The outbox holds something new in this lane."""
        self._queues.setdefault(lane, _Queue(lane)).more = True
        self._come.set()

    def wake(self) -> None:
        """The time, limits or the disk changed."""
        self._come.set()

    async def run(self) -> None:
        """Send what is there and what comes.

        Raises:
            OutboxDamaged: the file is broken.
        """
        known = False
        while True:
            try:
                if not known:
                    held = await self._office.outbox.do(lambda outbox: outbox.held())
                    self._held.update({rule: count for (to, rule), count in held.items() if to == self.name})
                    known = True
                await self._turn()
            except OutboxDamaged:
                raise
            except OutboxError as error:
                log.warning("deliveries to %s wait: %s", self.name, error)
                await asyncio.sleep(_AGAIN_S)
            except Exception:  # one receiver's trouble must not end the deliveries to the others
                self._tally.stumbled += 1
                log.exception("deliveries to %s stumbled", self.name)
                await asyncio.sleep(_AGAIN_S)

    async def end(self, within_s: float) -> None:
        """Wait so long for what is under way, then break it off: it stays to be sent."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=within_s)
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    async def _turn(self) -> None:
        """Start all that may start now, and wait until something else may."""
        self._come.clear()
        pause_s = _LOOK_S
        if not self._office.settling.full:
            await self._load()
            now_ns = self._office.clock.now_ns()
            await self._tell(now_ns)
            if (next_ns := self._start(now_ns)) is not None:
                pause_s = min((next_ns - now_ns) / NS_PER_S, _LOOK_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._come.wait()

    async def _load(self) -> None:
        """Fill the queues that ran empty."""
        for queue in list(self._queues.values()):
            if queue.more and not queue.waiting:
                queue.more = False  # before reading: what is recorded meanwhile makes it true again
                most = _BATCH + len(self._known)
                found = await self._office.outbox.do(partial(Outbox.waiting, lane=queue.lane, most=most))
                queue.more = queue.more or len(found) == most
                for one in found:
                    if one.row not in self._known and one.row not in self._office.settling:
                        self._push(queue, one)

    def _push(self, queue: _Queue, one: Waiting) -> None:
        if not queue.waiting:
            # A wall clock that was put back must not make it wait for as long as that.
            wait_ns = min(max(one.due_ns - self._office.clock.wall_ns(), 0), LONGEST_NS)
            queue.due_ns = self._office.clock.now_ns() + wait_ns if wait_ns else 0
        queue.waiting.append(one)
        self._known.add(one.row)

    async def _tell(self, now_ns: int) -> None:
        """Make a summary of what was held back, where there is room for one again and none is on its way."""
        if self._summarised():
            return
        rules = [rule for rule in self._held if self.limits.room_ns(self.name, rule, now_ns) <= now_ns]
        if not rules:
            return
        await self._office.settling.flush()  # the outbox must know of all of them
        wall_ns = self._office.clock.wall_ns()
        made = await self._office.outbox.do(partial(Outbox.summarise, receiver=self.name, rules=rules, now_ns=wall_ns))
        for rule in rules:
            del self._held[rule]
        if made is not None and made.summary is not None:
            self._tally.summaries += 1
            self.limits.take(self.name, [rule for rule, _ in made.summary.rules], now_ns)
            lane = Lane(self.name, "", asked=False)
            self._push(self._queues.setdefault(lane, _Queue(lane)), made)

    def _summarised(self) -> set[str]:
        """The rules that a summary on its way tells of: later alerts of them come after it."""
        queue = self._queues.get(Lane(self.name, "", asked=False))
        waiting = queue.waiting if queue is not None else ()
        return {rule for one in waiting if one.summary is not None for rule, _ in one.summary.rules}

    def _start(self, now_ns: int) -> int | None:
        """Send what may be sent now; returns when more may be, None where that is not a matter of time."""
        told = self._summarised()
        ready = [one for one in self._queues.values() if one.waiting and not one.busy and one.lane.rule not in told]
        ready.sort(key=self._free_ns)
        for queue in ready:
            if self._free_ns(queue) > now_ns:
                break
            if not self._hold(queue, now_ns):
                continue
            if not self._may_start():
                return None
            self._send_first(queue, now_ns)
        later = [
            free_ns
            for queue in ready
            if queue.waiting and not queue.busy and (free_ns := self._free_ns(queue)) > now_ns
        ]
        if not told:
            later += [self.limits.room_ns(self.name, rule, now_ns) for rule in self._held]
        return min(later, default=None)

    def _free_ns(self, queue: _Queue) -> int:
        first = queue.waiting[0]
        if first.asked and not first.attempts:
            return max(queue.due_ns, self._health.asked_ns)  # who asks for it may know that all is well again
        return max(queue.due_ns, self._health.free_ns(fresh=not first.attempts))

    def _may_start(self) -> bool:
        """Whether one more may be under way now; where not, the end of one tells."""
        under_way = len(self._flights)
        if self._health.failing or not under_way:
            return not under_way
        return under_way < MOST_UNDER_WAY and self._office.spare.left > 0

    def _hold(self, queue: _Queue, now_ns: int) -> bool:
        """Hold back what limits have no room for, from the queue's beginning; returns whether one is left to send."""
        while queue.waiting:
            first = queue.waiting[0]
            # What was tried already, asked for, or made in the room there was, has its place.
            if first.attempts or first.asked or first.summary is not None:
                return True
            if self.limits.room_ns(self.name, first.rule, now_ns) <= now_ns:
                return True
            queue.waiting.popleft()
            self._held[first.rule] += 1
            self._tally.held += 1
            self._settle(Outcome(first.row, "held", self._office.clock.wall_ns(), 0))
        if queue.more:
            self._come.set()
        return False

    def _send_first(self, queue: _Queue, now_ns: int) -> None:
        first = queue.waiting[0]
        if not (first.attempts or first.asked or first.summary is not None):
            self.limits.take(self.name, [first.rule], now_ns)
        queue.busy = True
        spare = self._office.spare if self._flights else None
        if spare is not None:
            spare.left -= 1
        flight = asyncio.create_task(self._send(queue, first), name=f"send to {self.name}")
        self._flights.add(flight)
        self._tally.under_way = len(self._flights)

        def ended(flight: asyncio.Task[None]) -> None:
            if spare is not None:
                spare.left += 1
            queue.busy = False
            self._flights.discard(flight)
            self._tally.under_way = len(self._flights)
            self._come.set()

        flight.add_done_callback(ended)

    async def _send(self, queue: _Queue, first: Waiting) -> None:
        clock = self._office.clock
        began_ns, tried_ns = clock.now_ns(), clock.wall_ns()
        fault = await self._try(first)
        now_ns, wall_ns = clock.now_ns(), clock.wall_ns()
        attempts = first.attempts + 1
        next_ns, error = None, ""
        if fault is None:
            self._took(now_ns)
        else:
            self._tally.failed += 1
            error = self._tally.error = str(fault)[:_LONGEST_ERROR]
            self._tally.failing = True
            if fault.retry:
                luck = self._office.luck()
                self._health.failed(began_ns, now_ns, fault.after_s, luck)
                next_ns = next_try_ns(attempts, first.begun_ns, wall_ns, fault.after_s, luck)
        state: DeliveryState = "sent" if fault is None else "dead" if next_ns is None else "pending"
        outcome = Outcome(first.row, state, wall_ns, attempts, tried_ns, next_ns or wall_ns, error)
        if next_ns is None:
            queue.waiting.popleft()
            queue.due_ns = 0
            self._tally.dead += state == "dead"
        else:
            queue.waiting[0] = replace(first, attempts=attempts, due_ns=next_ns)
            queue.due_ns = now_ns + next_ns - wall_ns
        self._settle(outcome)

    async def _try(self, first: Waiting) -> NotDelivered | None:
        """One try; None: it was taken."""
        try:
            async with asyncio.timeout(_SEND_S):
                await self.sender.send(first.delivery(first.attempts + 1))
        except NotDelivered as fault:
            return fault
        except TimeoutError:
            return NotDelivered(f"no answer within {_SEND_S:g} s")
        except Exception as error:  # noqa: BLE001 - a sender's own fault is tried again like any other
            self._tally.stumbled += 1
            # Without the error's text: it may hold the receiver's URL, which may be a secret.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("the sender of %s stumbled: %s\n%s", self.name, type(error).__name__, frames)
            return NotDelivered(f"the sender stumbled ({type(error).__name__}): see the log")
        return None

    def _took(self, now_ns: int) -> None:
        self._tally.sent += 1
        self._tally.failing, self._tally.error = False, ""
        if self._health.took():
            for queue in self._queues.values():
                queue.due_ns = min(queue.due_ns, now_ns)

    def _settle(self, outcome: Outcome) -> None:
        self._office.settling.add(outcome, self._written)

    def _written(self, outcome: Outcome) -> None:
        if outcome.state != "pending":
            self._known.discard(outcome.row)
        self._come.set()
