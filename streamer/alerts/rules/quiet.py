"""Quiet hours: whether it is quiet at a moment, by the clocks of a time zone. Pure.

Hours are read on the wall clock of the zone, as people who live by it read them. Where clocks are put forward, hours
that do not exist are passed over; where they are put back, an hour that comes twice is quiet both times.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from streamer.alertconfig import QuietConfig
from streamer.clock import NS_PER_S
from streamer.config import Fault

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_DAY = 24 * 60


def is_quiet(quiet: Sequence[QuietConfig], unix_ns: int) -> bool:
    """Whether any of `quiet` holds at `unix_ns`, in Unix nanoseconds.

    `from` is within, `to` is not; the same time for both is the whole day. Past midnight the day on which they began
    counts. Each must have passed `check`.
    """
    return any(_holds(hours, unix_ns) for hours in quiet)


def _holds(hours: QuietConfig, unix_ns: int) -> bool:
    local = datetime.fromtimestamp(unix_ns // NS_PER_S, _zone(hours.zone))
    begin, end, minute = _minutes(hours.begin), _minutes(hours.end), local.hour * 60 + local.minute
    if begin < end:
        return begin <= minute < end and _on(hours, local.weekday())
    if minute >= begin:
        return _on(hours, local.weekday())
    return minute < end and _on(hours, (local.weekday() - 1) % 7)


def _on(hours: QuietConfig, weekday: int) -> bool:
    return not hours.days or _DAYS[weekday] in hours.days


def _minutes(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def check(quiet: QuietConfig) -> str | None:
    """What is wrong with one entry of quiet hours and what to do about it, None where nothing is."""
    return next((fault.text for fault in faults(quiet)), None)


def faults(quiet: QuietConfig) -> Iterator[Fault]:
    """What is wrong with one entry of quiet hours, each with its place in it."""
    for key, text in (("from", quiet.begin), ("to", quiet.end)):
        if not _TIME.fullmatch(text):
            yield Fault((key,), f"{text[:32]!r} is no time of day: write it like 22:30, from 00:00 to 24:00")
    if quiet.begin == "24:00":
        yield Fault(("from",), "a day begins at 00:00: 24:00 is its end, for `to` alone")
    try:
        _zone(quiet.zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):  # a path that leads elsewhere, a folder, nothing
        near = difflib.get_close_matches(quiet.zone, available_timezones(), n=1)
        hint = f": did you mean {near[0]}?" if near else ": use a name of the IANA's database, like Europe/Berlin"
        yield Fault(("zone",), f"{quiet.zone[:64]!r} is no time zone{hint}")
    if len(set(quiet.days)) != len(quiet.days):
        yield Fault(("days",), "a day is named twice: name each once")
