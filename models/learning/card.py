"""Model cards (Mitchell et al., "Model cards for model reporting", 2019), made from a checkpoint's header alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.learning.keep import Learned

_SHOWN = 60  # names of outputs that are listed


def written(learned: Learned, made: Mapping[str, str]) -> str:
    """The card as Markdown."""
    recipe = learned.recipe
    lines = [
        f"# {recipe.name}",
        "",
        f"{_what(learned)} from {_joined(recipe.modalities)}.",
        "",
        "## What it tells",
        "",
        _names(learned.names),
        "",
        "## Scores",
        "",
        *_scores(learned.figures),
        "",
        _calibration(learned),
        "",
        "## What it was learned from",
        "",
        *(
            [f"- {name}: {value}" for name, value in learned.data.items() if name != "marks"]
            or ["Nothing was noted about the data."]
        ),
        "",
        "## How",
        "",
        *_how(learned),
        *[f"- {name}: {value}" for name, value in made.items()],
        "",
        "## Limits",
        "",
        "It says what clips like those it was learned from suggest, and its scores hold for such clips. Clips of other",
        "places, people or devices can be told wrong with high scores: try it on your own with `streamer eval`.",
        "",
    ]
    return "\n".join(lines)


def _what(learned: Learned) -> str:
    if learned.kind == "pretrained":
        return "Encoders that were learned without labels, for training to start from,"
    kinds = {"classes": "Classes", "labels": "Labels", "numbers": "Numbers", "sequence": "Sequences of symbols"}
    return kinds[learned.recipe.task]


def _names(names: Sequence[str]) -> str:
    if not names:
        return "Nothing by name."
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more + "."


def _scores(figures: Mapping[str, Any]) -> list[str]:
    if not figures:
        return ["It was not scored."]
    rows = ["| set | figure | value |", "| --- | --- | --- |"]
    for name, found in figures.items():
        shown = "with only" if name == "modalities" else name
        rows += [f"| {shown} | {figure.replace('_', ' ')} | {value:.4g} |" for figure, value in found.items()]
    return rows


def _calibration(learned: Learned) -> str:
    note = learned.calibration.note
    if learned.recipe.task in ("numbers", "sequence"):
        return "Its answers carry no probability."
    if not note.get("fitted"):
        return "Its scores were not calibrated: there were too few validation clips, or nothing to gain."
    return (
        f"Its scores were calibrated on {note['clips']} validation clips: expected calibration error "
        f"{note['ece_before']:.3f} before, {note['ece_after']:.3f} after, on those clips."
    )


def _how(learned: Learned) -> list[str]:
    recipe = learned.recipe
    encoders = [
        f"{name}: {part.encoder}"
        for name, part in (("video", recipe.video), ("audio", recipe.audio), ("text", recipe.text))
        if part is not None
    ]
    return [
        f"- encoders: {', '.join(encoders)}",
        f"- fusion: {recipe.fusion.kind}, width {recipe.fusion.width}",
        f"- seed: {recipe.train.seed}",
    ]


def _joined(names: Sequence[str]) -> str:
    return " and ".join(names)
