"""Alerts as the HTTP side and the commands ask for them: the outbox's rows as alerts from their firing to their end,
snoozes, deliveries asked for again, and rules tried on the past."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from streamer import child
from streamer.alertcheck import check_rule
from streamer.alertconfig import AlertConfig
from streamer.alertdesk.rows import alerts_of, delivery_of, detail_of, opened, rule_of, rules_of
from streamer.alertdesk.trial import TrialFault, TrialOrder
from streamer.alerts.outbox.book import Book
from streamer.alerts.settings import AlertsSettings, outbox_path
from streamer.alertstatus import (
    AlertDetail,
    AlertList,
    AlertQuery,
    DeliveryStatus,
    RuleDraft,
    RuleStatus,
    RuleTry,
    Snooze,
    TrialReport,
)
from streamer.clock import Clock, HostClock, rfc3339
from streamer.configvalue import parse_duration_ns
from streamer.errors import StreamerError, UserError
from streamer.labelnames import label_names

# The HTTP side gives up after 15 s.
_READ_S, _TRY_S = 8.0, 13.0
_THREADS, _MOST_ASKED = 2, 64
_TRIED = "tried"

Given = TypeVar("Given")


class AlertDesk:
    """The HTTP side's `AlertControl`. The outbox is opened for each question: another process keeps it, and may have
    put another file in its place.

    Args:
        settings: what the alerts process goes by now.
    """

    def __init__(self, settings: Callable[[], AlertsSettings], clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or HostClock()
        self._kept: Path | None = None
        self._threads = ThreadPoolExecutor(_THREADS, "alert-desk")
        self._asked = 0
        self._trying = False

    # -- what fired --------------------------------------------------------------------------------------------------

    async def alerts(self, query: AlertQuery) -> AlertList:
        """Alerts, the newest first."""
        return await self._read(lambda book: alerts_of(book, query), AlertList(alerts=[]))

    async def alert(self, name: str) -> AlertDetail | None:
        """One alert with its deliveries, None where there is none of that id."""
        return await self._read(lambda book: detail_of(book, name), None)

    async def resend(self, delivery: str) -> DeliveryStatus | None:
        """Have a delivery sent (again); None where there is none of that id."""

        def work(book: Book) -> DeliveryStatus | None:
            book.resend([delivery], self._clock.wall_ns())
            found = book.delivery(delivery)
            return None if found is None else delivery_of(found)

        return await self._write(work) if self._path.is_file() else None

    # -- rules -------------------------------------------------------------------------------------------------------

    async def rules(self) -> list[RuleStatus]:
        """The rules in force."""
        known, now_ns = self._settings().rules, self._clock.wall_ns()
        return await self._read(lambda book: rules_of(book, known, now_ns), [rule_of(rule) for rule in known])

    async def snooze(self, rule: str | None, stream: str | None, span_ns: int) -> Snooze | None:
        """Record alerts without sending them for so long; None where there is no such rule."""
        if rule is not None and self._named(rule) is None:
            return None
        until_ns = self._clock.wall_ns() + span_ns
        await self._write(lambda book: book.snooze(rule, stream, until_ns))
        return Snooze(rule=rule, stream=stream, until=rfc3339(until_ns))

    async def unsnooze(self, rule: str | None, stream: str | None) -> bool:
        """End that snooze; False where none is in force."""
        return self._path.is_file() and await self._write(lambda book: book.unsnooze(rule, stream))

    def _named(self, name: str) -> AlertConfig | None:
        return next((rule for rule in self._settings().rules if rule.name == name), None)

    # -- trials ------------------------------------------------------------------------------------------------------

    async def try_rule(self, trial: RuleTry) -> TrialReport | None:
        """What a rule would have done with what the store holds; None where there is no rule of the name given.

        Raises:
            UserError: the rule can't be used.
            StreamerError: another is being tried, or the store is away.
        """
        settings = self._settings()
        rule = self._named(trial.rule) if isinstance(trial.rule, str) else drafted(trial.rule, settings.labels)
        if rule is None:
            return None
        if not settings.redis_url:
            raise StreamerError("the service is starting: try again in a moment")
        order = TrialOrder(
            redis_url=settings.redis_url,
            rules=[rule],
            since_ns=max(self._clock.wall_ns() - parse_duration_ns(trial.since.strip()), 0),
            groups=settings.groups,
            limit_s=_READ_S,
        )
        with self._alone():
            return await _tried(order)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One trial at a time: each takes a core for seconds."""
        if self._trying:
            raise StreamerError("another rule is being tried: try again in a moment")
        self._trying = True
        try:
            yield
        finally:
            self._trying = False

    # -- the outbox --------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> Path:
        """Stays as it was at the start, as the alerts process has it."""
        if self._kept is None:
            self._kept = outbox_path(self._settings().outbox)
        return self._kept

    async def _read(self, work: Callable[[Book], Given], nothing: Given) -> Given:
        """What `work` gives; `nothing` where no alert was ever recorded."""
        return await self._do(work, read_only=True) if self._path.is_file() else nothing

    async def _write(self, work: Callable[[Book], Given]) -> Given:
        return await self._do(work, read_only=False)

    async def _do(self, work: Callable[[Book], Given], *, read_only: bool) -> Given:
        # Threads of its own, and few: a file that is locked for long must not hold up what others wait for.
        if self._asked >= _MOST_ASKED:
            raise StreamerError("too many ask about alerts at once: try again in a moment")
        self._asked += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(_with_book, self._path, work, read_only))
        finally:
            self._asked -= 1


def _with_book(path: Path, work: Callable[[Book], Given], read_only: bool) -> Given:
    try:
        with opened(path, read_only=read_only) as book:
            return work(book)
    except UserError as error:
        # Not this caller's mistake: whoever runs the service set where the outbox is.
        raise StreamerError(str(error)) from error


def drafted(draft: RuleDraft, labels: Sequence[str] | None = None) -> AlertConfig:
    """A draft as a rule, checked; it may speak of `labels` (None: of those that every service has).

    Raises:
        UserError: it can't be used; names the setting.
    """
    rule = AlertConfig(
        name=_TRIED,
        when=draft.when,
        stream=draft.stream,
        for_ns=_span("for", draft.span),
        clear_when=draft.clear_when,
        clear_for_ns=_span("clear_for", draft.clear_for),
        cooldown_ns=_span("cooldown", draft.cooldown),
        key=draft.key,
    )
    faults = [": ".join([*map(str, fault.path), fault.text]) for fault in check_rule((), rule, labels or label_names())]
    if faults:
        raise UserError("; ".join(faults))
    return rule


def _span(name: str, text: str) -> int:
    try:
        return parse_duration_ns(text.strip())
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


async def _tried(order: TrialOrder) -> TrialReport:
    """What a process of its own says; it ends with us."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "streamer.alertdesk.trial"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child.environment(),
        # Ctrl-C in a terminal is for the service, which ends this in its turn.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_TRY_S):
            said, _ = await process.communicate(msgspec.json.encode(order))
    except TimeoutError:
        raise StreamerError("trying it took too long: try a shorter time") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        report = msgspec.json.decode(said, type=TrialReport)
    except msgspec.MsgspecError:
        raise _fault(said) from None
    return report


def _fault(said: bytes) -> StreamerError:
    try:
        fault = msgspec.json.decode(said, type=TrialFault)
    except msgspec.MsgspecError:
        return StreamerError("the rule could not be tried: the service's log says more")
    return UserError(fault.text) if fault.mistake else StreamerError(fault.text)
