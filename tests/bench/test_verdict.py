"""A soak's verdict: kept where all is well, and every breach is told by its name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamer.bench.outcomes import Account
from streamer.bench.samples import Deepest
from streamer.bench.slopes import Slope
from streamer.bench.unrest import Recovery
from streamer.bench.verdict import Soak


def soaked() -> Soak:
    """A run in which all went well: 4 streams, one hub killed, one store killed."""
    return Soak(
        seconds=180.0,
        streams=4,
        account=Account(
            segments=1000, delivered_late=20, unexplained_late=2, late=1, lost_at_breaks=3, again_at_breaks=1
        ),
        follower=SimpleNamespace(account=Account(segments=1000)),  # type: ignore[arg-type]
        sampler=SimpleNamespace(  # type: ignore[arg-type]
            late={"steady-0": 0.0},
            frozen_late={"steady-0": 1.0, "steady-1": 2.0},
            queues={"media": Deepest(8.0, 8.0)},
            total={"streamer_hub_restarts_total": 1.0, "streamer_reader_deaths_total": 1.0}.get,
        ),
        churn=SimpleNamespace(),  # type: ignore[arg-type]
        faults=SimpleNamespace(  # type: ignore[arg-type]
            injected={"hub": 1, "reader": 1},
            recoveries=[
                Recovery("camera", "steady-0", 0.6),
                Recovery("hub", "steady-0", 2.4),
                Recovery("network", "steady-1", 3.0, overloaded=True),
            ],
        ),
        visitors=SimpleNamespace(),  # type: ignore[arg-type]
        slopes={
            "service": {"rss_mb": Slope(90.0, 70.0, 110.0, 3.0, 120), "threads": Slope(500.0, -80.0, 900.0, 17.0, 120)}
        },
        breaks=1,
        stopped_in_s=1.0,
        exit_code=0,
    )


def test_a_run_in_which_all_went_well() -> None:
    """What a killed store took, what was late for want of it or of time, labels for which there was no time, growth
    within noise or allowance: nothing is broken."""
    assert soaked().broken() == []


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("account.late", 2, "1 segments late without"),
        ("account.missing", 2, "2 segments missing"),
        ("account.duplicate", 3, "3 segments duplicate"),
        ("account.unexplained_late", 6, "4 segments late without an outage or a freeze"),
        ("sampler.frozen_late", {}, "3 segments late without"),
        ("account.segments", 0, "no segment at all"),
        ("account.lost_at_breaks", 13, "went with 1 killed stores"),
        ("follower.account.missing", 5, "missing for a subscriber"),
        ("follower.account.duplicate", 6, "twice for a subscriber"),
        ("sampler.late", {"steady-1": 2.0}, "2 segments acknowledged late"),
        ("sampler.queues", {"media": Deepest(9.0, 8.0)}, "9 waited in media, 8 may"),
        ("faults.recoveries", [Recovery("camera", "steady-0", None)], "no labels of steady-0 again after camera"),
        ("faults.recoveries", [Recovery("hub", "steady-0", None)], "no labels of steady-0 again after hub"),
        ("faults.recoveries", [Recovery("network", "steady-1", 2.01)], "labels of steady-1 2.01 s after network"),
        ("faults.injected", {"hub": 1}, "1 reader processes ended and 0 were killed"),
        ("faults.injected", {"hub": 2, "reader": 1}, "1 hub processes ended and 2 were killed"),
        ("slopes", {"hub": {"rss_mb": Slope(400.0, 300.0, 500.0, 13.0, 120)}}, "rss_mb of the hub grew by 13.0"),
        ("slopes", {"service": {"descriptors": Slope(180.0, 150.0, 210.0, 6.0, 120)}}, "descriptors of the service"),
        ("ended_early", True, "ended by itself"),
        ("exit_code", 1, "ended with code 1"),
        ("stopped_in_s", 5.1, "5.1 s to stop"),
    ],
)
def test_every_breach_is_told(place: str, value: object, told: str) -> None:
    """Each breach alone breaks the run, and its line says which it is."""
    soak: Any = soaked()
    owner = soak
    *way, name = place.split(".")
    for step in way:
        owner = getattr(owner, step)
    setattr(owner, name, value)
    broken = soak.broken()
    assert len(broken) == 1 and told in broken[0]
