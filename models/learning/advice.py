"""Which of several networks to use for a task, in words: by paired resampling of what each said of the same clips.

Pure: figures in, sentences out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Figure = Callable[[int, NDArray[np.int64]], float]  # of a run (by number), over the clips picked

TIMES = 1000
_FEW_SEEDS = 3
_DOUBT = 0.05  # what no fault among n clips may have a chance of, for a rate of faults still to be thought of
_SIMPLE = ("concat", "attention", "hierarchical")  # by how much there is to understand, and to go wrong


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared. unit: what a person reads after the figure ("%" for fractions, shown times 100)."""

    name: str
    lower_is_better: bool = False
    unit: str = "%"

    @property
    def words(self) -> str:
        """Its name as people write it."""
        return self.name.replace("_", " ")

    def said(self, value: float) -> str:
        """The figure with its unit."""
        return f"{100 * value:.1f} %" if self.unit == "%" else f"{value:.3g} {self.unit}"

    def gap(self, value: float) -> str:
        """A difference of two figures, without its sign."""
        return f"{100 * abs(value):.1f} points" if self.unit == "%" else f"{abs(value):.3g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate. figure: mean over its seeds, `low` and `high` its 95 % interval; behind: how far it is behind the
    best, positive is worse, with the paired interval of that. milliseconds: of a window. without: its figure with each
    modality taken away; `alone`, for a fusion: with nothing but that modality."""

    label: str
    fusion: str
    modalities: tuple[str, ...]
    figure: float
    low: float
    high: float
    seeds: tuple[float, ...]
    behind: float
    behind_low: float
    behind_high: float
    parameters: int
    milliseconds: float
    without: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_close(self) -> bool:
        """Whether the clips can't tell it from the best, or it is the best."""
        return self.behind_low <= 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a candidate costs to run: parameters, and milliseconds a window."""

    parameters: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate before it is compared: its cost, and its figures with each modality taken away."""

    label: str
    fusion: str
    modalities: tuple[str, ...]
    runs: int
    figure: Figure
    cost: Cost
    without: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Advice:
    """The label of the candidate to use, why, and what that is unsure of: sentences."""

    choice: str
    reasons: Sequence[str]
    doubts: Sequence[str]


def stand(entries: Sequence[Entry], clips: int, metric: Metric, rng: np.random.Generator) -> list[Standing]:
    """Every entry's standing, best first.

    Resamples clips and seeds together (percentile bootstrap, Efron 1979), the same draw for all entries, so that a clip
    that is hard for all of them widens no difference. Runs of an entry are its seeds, in the same order in all.
    """
    picks = rng.integers(0, clips, (TIMES, clips))
    everyone = np.arange(clips)
    fewest = min(entry.runs for entry in entries)
    seeds = rng.integers(0, fewest, (TIMES, fewest))
    drawn = {entry.label: _drawn(entry, picks, seeds) for entry in entries}
    each = {entry.label: [entry.figure(run, everyone) for run in range(entry.runs)] for entry in entries}
    sign = 1.0 if metric.lower_is_better else -1.0
    # Of equals the simplest leads, so that nothing is said to be ahead by nothing.
    ranked = sorted(
        entries,
        key=lambda one: (sign * float(np.mean(each[one.label])), *_plainness(one), one.cost.milliseconds),
    )
    best = ranked[0].label
    standings = []
    for entry in ranked:
        figures = each[entry.label]
        low, high = _interval(drawn[entry.label])
        behind = sign * (float(np.mean(figures)) - float(np.mean(each[best])))
        behind_low, behind_high = _interval(sign * (drawn[entry.label] - drawn[best]))
        standings.append(
            Standing(
                label=entry.label,
                fusion=entry.fusion,
                modalities=entry.modalities,
                figure=float(np.mean(figures)),
                low=low,
                high=high,
                seeds=tuple(figures),
                behind=behind,
                behind_low=behind_low,
                behind_high=behind_high,
                parameters=entry.cost.parameters,
                milliseconds=entry.cost.milliseconds,
                without=entry.without,
            )
        )
    return standings


def _drawn(entry: Entry, picks: NDArray[np.int64], seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The entry's mean figure of every resample, `[TIMES]`."""
    return np.array(
        [np.mean([entry.figure(int(run), clips) for run in chosen]) for clips, chosen in zip(picks, seeds, strict=True)]
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def _plainness(one: Standing | Entry) -> tuple[int, int]:
    """Least where there is least to feed, to understand, and to go wrong."""
    return len(one.modalities), _SIMPLE.index(one.fusion)


def recommend(standings: Sequence[Standing], metric: Metric, clips: int) -> Advice:
    """Which to use: of those that the clips can't tell from the best, that of fewest modalities, then the simplest."""
    close = [one for one in standings if one.is_close]
    choice = min(close, key=lambda one: (*_plainness(one), one.milliseconds))
    doubts = [*_unsettled(choice, close, metric, clips), *_chance(choice, metric), *_elsewhere(choice, standings)]
    return Advice(choice.label, _reasons(choice, standings, metric), doubts)


def _reasons(choice: Standing, standings: Sequence[Standing], metric: Metric) -> list[str]:
    best = standings[0]
    said = [f"{choice.label}: {metric.words} {_with_interval(choice, metric)}."]
    if choice is not best:
        said.append(
            f"{best.label} is ahead by {metric.gap(choice.behind)}, but these clips can't tell the two apart (95 % "
            f"interval {_span(choice, metric)}), and {choice.label} is simpler: {_cost(choice)} against {_cost(best)}."
        )
    fused = [one for one in standings if len(one.modalities) > 1]
    single = [one for one in standings if len(one.modalities) == 1]
    if len(choice.modalities) == 1 and fused:
        said.append(f"{choice.modalities[0].capitalize()} alone is enough: no fusion is clearly better on these clips.")
    elif single and len(choice.modalities) > 1:
        behind = metric.gap(single[0].figure - choice.figure)
        said.append(f"Fusing is worth it: the best single modality, {single[0].label}, is {behind} behind.")
        said += [f"Without {name} it still has {metric.words} {metric.said(v)}." for name, v in choice.without.items()]
    worse = [one.label for one in standings if not one.is_close]
    if worse:
        said.append(f"Clearly behind the best: {', '.join(worse)}.")
    return said


def _unsettled(choice: Standing, close: Sequence[Standing], metric: Metric, clips: int) -> list[str]:
    said = []
    if metric.unit == "%" and not metric.lower_is_better and choice.low == choice.high == 1:
        most = metric.said(1 - _DOUBT ** (1 / clips))
        said.append(f"No clip of {clips} went wrong; with so many, up to {most} may elsewhere.")
    others = [one for one in close if one is not choice]
    most = metric.gap(max(one.behind_high for one in close))
    names = ", ".join(one.label for one in others)
    if others:
        said.append(
            f"Not told apart from it: {names}. A true difference of up to {most} may hide behind {clips} clips."
        )
    return said


def _chance(choice: Standing, metric: Metric) -> list[str]:
    said = []
    seeds = len(choice.seeds)
    if seeds < _FEW_SEEDS:
        said.append(
            f"Trained with {seeds} seed{'s' * (seeds > 1)} each: how much is chance is hardly seen; use 3 or more."
        )
    spread = max(choice.seeds) - min(choice.seeds)
    if seeds > 1 and spread > (choice.high - choice.low) / 2:
        said.append(
            f"Its own seeds differ by {metric.gap(spread)}: train several, and keep the best by validation clips."
        )
    return said


def _elsewhere(choice: Standing, standings: Sequence[Standing]) -> list[str]:
    if len(choice.modalities) > 1 or not any(len(one.modalities) > 1 for one in standings):
        return []
    return [
        f"That is said of clips like these. Where {choice.modalities[0]} is noisy or missing at times a fusion may be "
        "worth its cost: `streamer eval --snr` and `--without` tell."
    ]


def _with_interval(one: Standing, metric: Metric) -> str:
    return f"{metric.said(one.figure)} (95 % interval {metric.said(one.low)} to {metric.said(one.high)})"


def _span(one: Standing, metric: Metric) -> str:
    if metric.unit == "%":
        return f"{100 * one.behind_low:+.1f} to {100 * one.behind_high:+.1f} points"
    return f"{one.behind_low:+.3g} to {one.behind_high:+.3g} {metric.unit}"


def _cost(one: Standing) -> str:
    return f"{one.parameters:,} parameters, {one.milliseconds:.2f} ms a window"
