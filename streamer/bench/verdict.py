"""What was seen in a soak, and whether the promise was kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.bench.followers import Follower
from streamer.bench.outcomes import Account
from streamer.bench.samples import ALLOWED, Sampler
from streamer.bench.slopes import Slope
from streamer.bench.unrest import Churn, Faults, Recovery
from streamer.bench.visitors import Visitors

# In which labels are there again after a camera, the network or the store is back.
_BACK_WITHIN_S = 2.0
_STOP_S = 5.0
# Segments a stream that a store may take with it when it is killed: what was acknowledged between two reads of its
# feed, and what was on its way.
_LOST_A_BREAK = 2


@dataclass(slots=True)
class Soak:
    """All that was seen in one run."""

    seconds: float
    streams: int
    account: Account
    follower: Follower
    sampler: Sampler
    churn: Churn
    faults: Faults
    visitors: Visitors
    slopes: dict[str, dict[str, Slope]] = field(default_factory=dict)
    breaks: int = 0
    stopped_in_s: float = 0.0
    exit_code: int | None = None
    ended_early: bool = False

    def broken(self) -> list[str]:
        """Every way in which the promise was broken, in words; empty where it was kept."""
        return [*_segments(self), *_recoveries(self.faults.recoveries), *_growth(self), *_life(self)]


def _segments(soak: Soak) -> list[str]:
    account, seen = soak.account, soak.follower.account
    # What was late because the whole process stood still is reported, and is no fault of what ran in it.
    late = max(0, account.late + account.unexplained_late - int(sum(soak.sampler.frozen_late.values())))
    counts = {
        "late without an outage or a freeze": late,
        "missing": account.missing,
        "duplicate": account.duplicate,
        "acknowledged late": int(sum(soak.sampler.late.values())),
        "missing for a subscriber": seen.missing,
        "twice for a subscriber": seen.duplicate,
    }
    found = [f"{count} segments {what}" for what, count in counts.items() if count]
    most = _LOST_A_BREAK * (soak.streams + 2) * soak.breaks
    if account.lost_at_breaks > most:
        found.append(
            f"{account.lost_at_breaks} segments went with {soak.breaks} killed stores, {most} at most would do"
        )
    return found if account.segments else [*found, "no segment at all"]


def _recoveries(recoveries: list[Recovery]) -> list[str]:
    found = []
    for recovery in recoveries:
        if recovery.overloaded:
            continue
        if recovery.seconds is None:
            found.append(f"no labels of {recovery.stream} again after {recovery.fault}")
        elif recovery.seconds > _BACK_WITHIN_S and recovery.fault != "hub":
            found.append(f"labels of {recovery.stream} {recovery.seconds:.2f} s after {recovery.fault}")
    return found


def _growth(soak: Soak) -> list[str]:
    found = []
    for process, slopes in soak.slopes.items():
        for name, fitted in slopes.items():
            if fitted.grows(ALLOWED[name]):
                found.append(f"{name} of the {process} grew by {fitted.growth:.1f} ({fitted.per_hour:.1f} an hour)")
    for name, queue in soak.sampler.queues.items():
        if not queue.kept:
            found.append(f"{queue.most:g} waited in {name}, {queue.bound:g} may")
    return found


def _life(soak: Soak) -> list[str]:
    found = []
    if soak.ended_early:
        found.append("the service ended by itself")
    if soak.exit_code:
        found.append(f"the service ended with code {soak.exit_code}")
    if soak.stopped_in_s > _STOP_S:
        found.append(f"the service took {soak.stopped_in_s:.1f} s to stop")
    for process, metric in (("hub", "streamer_hub_restarts_total"), ("reader", "streamer_reader_deaths_total")):
        ended, killed = soak.sampler.total(metric) or 0, soak.faults.injected.get(process, 0)
        if ended != killed:
            found.append(f"{ended:g} {process} processes ended and {killed} were killed")
    return found
