"""Quiet hours by the clocks of a zone: days, midnight, and clocks that are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alertconfig import QuietConfig
from streamer.alerts.rules.quiet import check, faults, is_quiet

NS = 1_000_000_000


def unix_ns(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """Unix nanoseconds of a local time; `fold` 1: the second one where it comes twice."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()) * NS


def hours(begin: str, end: str, zone: str = "UTC", days: list[str] | None = None) -> list[QuietConfig]:
    return [QuietConfig(begin=begin, end=end, zone=zone, days=days or [])]  # type: ignore[arg-type]


def test_the_begin_is_within_and_the_end_is_not() -> None:
    """To the nanosecond."""
    quiet = hours("12:00", "13:30")
    begin_ns, end_ns = unix_ns("2026-11-23T12:00"), unix_ns("2026-11-23T13:30")
    assert [is_quiet(quiet, at) for at in (begin_ns - 1, begin_ns, end_ns - 1, end_ns)] == [False, True, True, False]


def test_none_are_never_quiet_and_several_add_up() -> None:
    """Without hours it is never quiet; with several it is where any of them is."""
    noon_ns = unix_ns("2026-11-23T12:00")
    assert not is_quiet([], noon_ns)
    assert is_quiet([*hours("01:00", "02:00"), *hours("11:00", "13:00")], noon_ns)


def test_past_midnight_the_day_on_which_they_began_counts() -> None:
    """Friday's night goes on into Saturday morning, and Saturday's own night is not quiet."""
    quiet = hours("22:00", "06:00", days=["fri"])
    wanted = {
        "2026-11-26T23:00": False,  # Thursday
        "2026-11-27T05:59": False,
        "2026-11-27T22:00": True,  # Friday
        "2026-11-28T00:00": True,
        "2026-11-28T05:59": True,
        "2026-11-28T06:00": False,
        "2026-11-28T23:00": False,
    }
    assert {at: is_quiet(quiet, unix_ns(at)) for at in wanted} == wanted


def test_the_same_time_for_both_is_a_whole_day() -> None:
    """From that time on the day named until the same time of the next."""
    quiet = hours("06:00", "06:00", days=["sun"])
    wanted = {"2026-11-29T05:59": False, "2026-11-29T06:00": True, "2026-11-30T05:59": True, "2026-11-30T06:00": False}
    assert {at: is_quiet(quiet, unix_ns(at)) for at in wanted} == wanted
    assert is_quiet(hours("00:00", "24:00"), unix_ns("2026-11-29T23:59"))


def test_hours_are_those_of_the_zone() -> None:
    """22:00 in Shanghai is 14:00 in UTC, and days are those of Shanghai as well."""
    quiet = hours("22:00", "23:00", zone="Asia/Shanghai", days=["mon"])
    assert is_quiet(quiet, unix_ns("2026-11-23T14:00"))
    assert not is_quiet(quiet, unix_ns("2026-11-23T22:00"))
    early = hours("00:00", "07:00", zone="Asia/Shanghai", days=["tue"])
    assert is_quiet(early, unix_ns("2026-11-23T17:00"))


def test_where_clocks_are_put_forward() -> None:
    """In Berlin 02:00 to 03:00 does not exist on 29 March 2026: hours in it are passed over, hours around it are an
    hour shorter."""
    zone = "Europe/Berlin"
    jump_ns = unix_ns("2026-03-29T01:00")  # UTC
    assert not any(is_quiet(hours("02:00", "03:00", zone), jump_ns + minute * 60 * NS) for minute in range(-90, 90))
    night = hours("22:00", "06:00", zone)
    quiet_minutes = sum(is_quiet(night, jump_ns + minute * 60 * NS) for minute in range(-8 * 60, 12 * 60))
    assert quiet_minutes == 7 * 60


def test_where_clocks_are_put_back() -> None:
    """In Berlin 02:00 to 03:00 comes twice on 25 October 2026: it is quiet both times."""
    zone = "Europe/Berlin"
    first_ns, second_ns = (unix_ns("2026-10-25T02:30", zone, fold) for fold in (0, 1))
    assert second_ns - first_ns == 3600 * NS
    quiet = hours("02:00", "03:00", zone)
    assert is_quiet(quiet, first_ns)
    assert is_quiet(quiet, second_ns)
    midnight_ns = unix_ns("2026-10-24T22:00")  # UTC
    assert sum(is_quiet(quiet, midnight_ns + minute * 60 * NS) for minute in range(360)) == 120


@given(
    at=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    begin=st.integers(0, 1439),
    length=st.integers(1, 1440),
    days=st.sets(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])),
)
def test_it_is_what_the_wall_clock_says(at: datetime, zone: str, begin: int, length: int, days: set[str]) -> None:
    """Against the obvious: minutes on the wall since the hours began, today or yesterday."""
    moment = at.replace(tzinfo=UTC)
    local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    end = (begin + length) % 1440
    quiet = hours(f"{begin // 60:02}:{begin % 60:02}", f"{end // 60:02}:{end % 60:02}", zone, sorted(days))
    wanted = False
    for back in (0, 1):
        day = local.date() - timedelta(days=back)
        began = datetime(day.year, day.month, day.day) + timedelta(minutes=begin)
        chosen = not days or day.strftime("%a").lower() in days
        wanted |= chosen and began <= local < began + timedelta(minutes=length)
    assert is_quiet(quiet, int(moment.timestamp() // 1) * NS) == wanted


@pytest.mark.parametrize(
    ("entry", "key", "remedy"),
    [
        ({"begin": "25:00", "end": "06:00"}, "from", "22:30"),
        ({"begin": "22:00", "end": "6"}, "to", "22:30"),
        ({"begin": "24:00", "end": "06:00"}, "from", "00:00"),
        ({"begin": "22:00", "end": "06:00", "zone": "Europe/Berln"}, "zone", "Europe/Berlin"),
        ({"begin": "22:00", "end": "06:00", "zone": "../../etc/passwd"}, "zone", "IANA"),
        ({"begin": "22:00", "end": "06:00", "zone": "Europe"}, "zone", "did you mean"),
        ({"begin": "22:00", "end": "06:00", "zone": ""}, "zone", "IANA"),
        ({"begin": "22:00", "end": "06:00", "days": ["mon", "mon"]}, "days", "once"),
    ],
)
def test_what_is_wrong_is_told(entry: dict[str, object], key: str, remedy: str) -> None:
    """With its place in the entry and what to write instead."""
    quiet = QuietConfig(**entry)  # type: ignore[arg-type]
    (fault,) = faults(quiet)
    assert fault.path == (key,)
    assert remedy in fault.text
    assert check(quiet) == fault.text


def test_what_is_right_is_not_told() -> None:
    """From midnight to midnight, over midnight, and in any zone."""
    for quiet in (*hours("00:00", "24:00"), *hours("22:30", "6:00", "America/Argentina/Buenos_Aires")):
        assert check(quiet) is None
