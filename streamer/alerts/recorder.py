"""Follows the feed, lets the rules see each message, and writes down what they say before anybody hears of it.

Position and the rules' memory are kept together, at most once a second; what fired is written at once. Whoever is
killed in between reads again from the position kept, the rules say the same again under the same ids, and the outbox
knows them. So the rules are told nothing but what stands in the feed: also time goes by the feed's own, which is the
store's clock, and by that clock where nothing comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence

import msgspec

from streamer.alertconfig import AlertConfig
from streamer.alerts.delivery.routing import deliveries
from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Kept, Snooze
from streamer.alerts.outbox.thread import OutboxThread, Recording
from streamer.alerts.records import Fired, Recorded
from streamer.alerts.rules.ruleset import RuleSet
from streamer.alerts.settings import AlertsSettings
from streamer.alerts.text import alert_message
from streamer.clock import NS_PER_MS, NS_PER_S, Clock
from streamer.cursor import START, Cursor, EntryId, parse_cursor
from streamer.errors import StoreError
from streamer.messages import Alert, Event, Segment, StreamMessage
from streamer.picturenames import links
from streamer.storage.store import FeedPage, Store

log = logging.getLogger(__name__)

_BLOCK_MS = 1000
# A page holds up the event loop, and so what is being delivered, for as long as the rules take for it.
_COUNT = 64
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_CHECKPOINT_NS = NS_PER_S
_LAST_ENTRIES_S = 2.0
# What was published while the store was away is written when it is back, a moment after we are.
_SETTLING_NS = 5 * NS_PER_S
# A store that lost what it had gets the last seconds again: so far back is read what another store holds.
_LOOK_BACK_MS = 60_000
_SNOOZES_NS = NS_PER_S // 2

_decoder = msgspec.json.Decoder(Segment | Event | StreamMessage | Alert)


class Recorder:
    """`follow` until cancelled, then `finish`. All on one event loop.

    on_recorded: told what was newly written, in order. read, unreadable, missed, recorded, outages, away: figures as in
    `AlertsReport`.
    """

    def __init__(
        self,
        store: Store,
        outbox: OutboxThread[Outbox],
        settings: AlertsSettings,
        on_recorded: Callable[[Sequence[Kept]], None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._settings = settings
        self._on_recorded = on_recorded
        self._clock = clock
        self._recording = Recording(outbox)
        self._rules = _rule_set(settings)
        # Rules that were taken out are remembered: what they fired for is over, and somebody should hear of it.
        self._known = {rule.name: rule for rule in settings.rules}
        self._identity = ""
        self._position = START
        self._turn = asyncio.Lock()
        self._taking: asyncio.Task[None] | None = None
        self._checkpoint_ns = 0
        self._settled_ns = 0
        self._now_ns = 0
        self._snoozes: list[Snooze] = []
        self._snoozes_ns = -NS_PER_S
        self._unsaved: dict[str, bytes | None] = {}
        self._saved = ""
        self._begun = False
        self._began = asyncio.Event()
        self._behind_ms = 0.0
        self._failures = 0
        self.away = False
        self._unreadable = 0
        self.read = self.missed = self.recorded = self.outages = 0

    @property
    def failures(self) -> int:
        """Evaluations that failed."""
        return self._failures + sum(self._rules.failures.values())

    @property
    def unreadable(self) -> int:
        """Messages that were none, or whose times are none."""
        return self._unreadable + self._rules.unreadable

    @property
    def trouble(self) -> str:
        """What recording waits for now; "": nothing."""
        return self._recording.trouble

    @property
    def behind_ms(self) -> float:
        """How old the message was that was read last, while more are waiting; 0 where nothing is."""
        return self._behind_ms

    async def restore(self) -> None:
        """Take up the position and the memory that were kept. Once, before `follow`."""
        position = await self._outbox.do(lambda outbox: outbox.position())
        if position is not None:
            cursor = parse_cursor(position)
            self._identity, self._position = cursor.store, cursor.id
            self._now_ns = cursor.id.ms * NS_PER_MS
        self._rules.restore(await self._outbox.do(lambda outbox: outbox.memory()))

    async def began(self, timeout_s: float) -> bool:
        """Whether the place to read from was found: all that is published from now on is seen. Waits so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._began.wait(), timeout_s)
        return self._began.is_set()

    async def change(self, settings: AlertsSettings) -> None:
        """Go on by other rules or groups; those that stayed as they were keep their memory."""
        async with self._turn:
            await self._checkpoint()
            self._settings = settings
            self._failures, self._unreadable = self.failures, self.unreadable
            self._known |= {rule.name: rule for rule in settings.rules}
            self._rules = _rule_set(settings)
            memory = await self._outbox.do(lambda outbox: outbox.memory())
            now = {**memory, **self._unsaved}
            self._rules.restore({key: part for key, part in now.items() if part is not None})

    async def follow(self) -> None:
        """Read and record for ever, through outages of the store.

        Raises:
            OutboxError: the outbox can't be read or written, and waiting does not help.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if not self._begun:
                    await self._begin()
                page = await self._store.read_feed(self._position, block_ms=_BLOCK_MS, count=_COUNT)
                await self._pass_on(self._take(page))
                pause_s = _FIRST_PAUSE_S
                self.away = False
            except StoreError as error:
                if not self.away:
                    self.away = True
                    self.outages += 1
                    log.warning("%s; rules wait", error)
                self._settled_ns = self._clock.now_ns() + _SETTLING_NS
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def finish(self) -> None:
        """Record what the feed still holds and keep the position; after `follow` was cancelled. Gives up after 2 s."""
        try:
            async with asyncio.timeout(_LAST_ENTRIES_S):
                if self._taking is not None:
                    await asyncio.shield(self._taking)
                with contextlib.suppress(StoreError):
                    while self._begun and not self.away:
                        page = await self._store.range_feed(self._position.next(), count=_COUNT)
                        if page.store != self._identity or not page.entries:
                            break
                        await self._pass_on(self._take(page))
                async with self._turn:
                    await self._checkpoint()
        except TimeoutError:
            log.warning("the end of the feed was not read: it will be at the next start")

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Find the place to read from: where we were, else now."""
        bounds = await self._store.feed_bounds()
        if not self._identity:
            self._identity, self._position = bounds.store, bounds.last
            # At once: whoever is killed in the first second must not begin later than here.
            await self._checkpoint()
        elif bounds.store != self._identity:
            self._resume(bounds.store, bounds.last)
        elif bounds.first is not None and bounds.first > self._position.next():
            await self._tell_missed(bounds.first)
        self._begun = True
        self._began.set()

    def _resume(self, identity: str, last: EntryId) -> None:
        """The store was emptied or replaced. What was read before is known to the rules by epoch and number."""
        back = EntryId(max(self._position.ms - _LOOK_BACK_MS, 0), 0)
        # Where its clock is behind the one before, times say nothing.
        self._identity, self._position = identity, START if last < back else back
        log.warning("the store was emptied or is another: rules follow it from %s", self._position)

    async def _tell_missed(self, first: EntryId) -> None:
        page = await self._store.range_feed(self._position.next(), count=1)
        if page.complete_from > self._position.next():
            self.missed += 1
            away_s = (first.ms - self._position.ms) / 1000
            log.error("the feed no longer holds what came next: rules have not seen about %.0f s of it", away_s)

    async def _pass_on(self, taking: Coroutine[None, None, None]) -> None:
        # To the end even where we are cancelled: the rules' memory must never be ahead of what is written.
        self._taking = asyncio.create_task(taking)
        await asyncio.shield(self._taking)

    async def _take(self, page: FeedPage) -> None:
        async with self._turn:
            if page.store and page.store != self._identity:
                self._begun = False
                return
            fired = [said for entry in page.entries for said in self._see(*entry)]
            if not page.entries and self._clock.now_ns() >= self._settled_ns:
                fired += self._advance(await self._store.time_us() * 1000)
            await self._record(fired)
            if page.entries:
                self._position = page.entries[-1][0]
            full = len(page.entries) == _COUNT
            self._behind_ms = max(self._clock.wall_ns() / NS_PER_MS - self._position.ms, 0.0) if full else 0.0
            if self._clock.now_ns() - self._checkpoint_ns >= _CHECKPOINT_NS:
                await self._checkpoint()

    def _see(self, entry: EntryId, json: bytes) -> list[Fired]:
        """What the rules say to one message, and to the time at which it was written."""
        self.read += 1
        fired = self._advance(entry.ms * NS_PER_MS)
        try:
            message = _decoder.decode(json)
        except (msgspec.MsgspecError, ValueError):  # written by somebody else, or by a later version
            self._unreadable += 1
            return fired
        if isinstance(message, Alert):  # our own
            return fired
        return fired + self._asked(lambda: self._rules.take(message, self._now_ns))

    def _advance(self, stored_ns: int) -> list[Fired]:
        """Let the rules know the time, at each full second of the store's clock, and never backwards."""
        before_ns, self._now_ns = self._now_ns, max(self._now_ns, stored_ns)
        if before_ns // NS_PER_S == self._now_ns // NS_PER_S:
            return []
        return self._asked(lambda: self._rules.advance(self._now_ns // NS_PER_S * NS_PER_S))

    def _asked(self, ask: Callable[[], list[Fired]]) -> list[Fired]:
        """What the rules say. A fault of ours in them costs that one message: the next process would only read it again
        and end by it too, and no rule would ever see what comes after."""
        try:
            return ask()
        except Exception:  # Whatever it is: the rules' fault, logged and counted, must not cost the messages after it.
            self._failures += 1
            if self._failures.bit_count() == 1:
                log.exception("rules failed on a message, which is passed over (fault %d)", self._failures)
            return []

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _record(self, fired: Sequence[Fired]) -> None:
        if not fired:
            return
        now_ns = self._clock.wall_ns()
        snoozes = await self._snoozes_now(now_ns)
        alerts = [self._recorded(said, snoozes, now_ns) for said in fired]
        kept = await self._recording.record(alerts, now_ns)
        self.recorded += len(kept)
        self._on_recorded(kept)

    def _recorded(self, fired: Fired, snoozes: Sequence[Snooze], now_ns: int) -> Recorded:
        rule = self._known.get(fired.rule) or AlertConfig(name=fired.rule, when="false", severity=fired.severity)
        alert = alert_message(
            fired, rule, now_ns, self._settings.page_url, links(rule, fired.id, self._settings.page_url)
        )
        return Recorded(alert, deliveries(fired, rule, self._settings.send, snoozes, now_ns))

    async def _snoozes_now(self, now_ns: int) -> list[Snooze]:
        """Asked for twice a second at most: a storm of alerts has better things to wait for."""
        if self._clock.now_ns() - self._snoozes_ns >= _SNOOZES_NS:
            self._snoozes = await self._outbox.do(lambda outbox: outbox.snoozes(now_ns))
            self._snoozes_ns = self._clock.now_ns()
        return self._snoozes

    async def _checkpoint(self) -> None:
        """Keep position and memory; what could not be written is tried again with the next one."""
        self._checkpoint_ns = self._clock.now_ns()
        self._unsaved |= self._rules.changed()
        position = str(Cursor(self._position, self._identity)) if self._identity else ""
        if not position or (position == self._saved and not self._unsaved):
            return
        changed = self._unsaved
        try:
            await self._outbox.do(lambda outbox: outbox.checkpoint(position, changed))
        except OutboxDamaged:
            raise
        except OutboxError as error:
            log.warning("where the rules stand is not kept: %s", error)
            return
        self._saved, self._unsaved = position, {}


def _rule_set(settings: AlertsSettings) -> RuleSet:
    return RuleSet(settings.rules, settings.groups, settings.labels)
