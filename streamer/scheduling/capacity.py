"""Whether one stream more can be served within the bound, with the figure. Pure: everything measured is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.media import Geometry, WorkCosts

# What a stream is taken to cost before one was measured: a 720p30 camera with sound, with some room.
_UNMEASURED_CORES = 0.1
_LEAST_CORES = 0.01
# The part of the cores and of the engine's time that streams may take together: the rest is for bursts.
_FULL = 0.9
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Use:
    """What the streams take now.

    `streams`: all there are; `live`: those of them that media come from; `cores`: CPU time this process takes for them
    a second; `degraded`: how many are answered with less work; `shed`: windows shed for want of time, of late.
    """

    streams: int
    live: int
    cores: float
    degraded: int
    shed: int


def engine_part(costs: WorkCosts, stretch: float, geometry: Geometry, frame_rate: int, *, looks: bool = False) -> float:
    """The part of the engine's time that one stream takes with all its work done; `stretch` as batches are now.
    `looks`: people are looked for in its pictures, in each of them where all of them differ."""
    hops = _S / geometry.hop_ns
    patches = _S / geometry.patch_hop_ns
    picture_ns = costs.picture_ns + (costs.look_ns if looks else 0)
    busy_ns = (picture_ns * frame_rate + costs.patch_ns * patches + (costs.window_ns + costs.call_ns) * hops) * stretch
    return busy_ns / _S


def refusal(use: Use, each_engine: float, cores: int) -> str | None:
    """Why one stream more can't be admitted, with the figure; None: it can.

    Args:
        each_engine: the part of the engine's time that one stream takes.
        cores: what this process may use.
    """
    if use.degraded or use.shed:
        return (
            f"the {use.streams} streams there are can't all be answered with all their work any more "
            f"({use.degraded} with less of it, {use.shed} windows shed in the last 10 s)"
        )
    engine = each_engine * (use.streams + 1)
    if engine > _FULL:
        return (
            f"{use.streams + 1} streams would take {engine:.0%} of the engine's time, and {_FULL:.0%} is the most that"
            " keeps the bound"
        )
    each = max(use.cores / use.live, _LEAST_CORES) if use.live else _UNMEASURED_CORES
    need = each * (use.streams + 1)
    if need > _FULL * cores:
        return (
            f"{use.streams + 1} streams at {each:.2f} cores each would take {need:.2f} cores, and {_FULL * cores:.2f}"
            f" of {cores} is the most that keeps the bound"
        )
    return None
