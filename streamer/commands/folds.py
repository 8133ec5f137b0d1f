"""`streamer train --folds`: groups of clips left out in turn, what is seen meanwhile, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer.errors import UserError

if TYPE_CHECKING:
    from models.learning.folds import Summary
    from models.learning.recipe import Recipe
    from models.learning.train import Progress

FILE = "folds.json"


@dataclass(frozen=True, slots=True)
class Turns:
    """How many parts, with which seeds each, and where."""

    count: int
    seeds: tuple[int, ...]
    device: str
    weights: Path | None


def in_turn(recipe: Recipe, folder: Path, out: Path, turns: Turns, as_json: bool) -> None:
    """Cross-validation of a recipe; figures on standard output and in `folds.json`. UserError and LearningError as
    training; SystemExit 130 where Ctrl-C came before one seed was whole or before the last."""
    summary = _run(recipe, folder, out, turns)
    if summary.folds:
        document = {"recipe": recipe.name, **summary.document()}
        (out / FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
        click.echo(json.dumps(document, ensure_ascii=False)) if as_json else _tell(document, out)
    if len(summary.folds) < len(turns.seeds):
        click.echo(f"stopped with {len(turns.seeds) - len(summary.folds)} seeds missing", err=True)
        raise SystemExit(130)


def _run(recipe: Recipe, folder: Path, out: Path, turns: Turns) -> Summary:
    from models.learning import folds, layouts
    from models.learning.sets import from_clips
    from models.learning.train import Hooks, chosen_device
    from streamer.commands.progress import Bars, interruptible
    from streamer.commands.train import sources_of

    chosen_device(turns.device)
    folds.judged(recipe)
    sources = sources_of(recipe, turns.weights)
    with Bars() as bars, interruptible() as stop:
        found = layouts.read_clips(folder, recipe)

        def learning(at: Progress) -> None:
            bars.show("training", (at.epoch - 1) * at.steps + at.step, at.epochs * at.steps)

        def began(name: str, number: int, total: int) -> None:
            bars.forget("training")
            bars.show("folds", number - 1, total)
            bars.say(f"{number} of {total}: {name} left out")

        trial = folds.Trial(
            recipe,
            found,
            lambda clips: from_clips(recipe, clips, sources, lambda done, of: bars.show("features", done, of)),
            out,
            Hooks(learning, stop, device=turns.device),
        )
        try:
            return trial.cross(turns.count, turns.seeds, began)
        except OSError as error:
            raise UserError(f"{out}: cannot write there ({error.strerror}); name another folder with --out") from error


def _tell(document: Mapping[str, Any], out: Path) -> None:
    for fold in document["folds"]:
        figures = ", ".join(f"{_words(name)} {value:.4g}" for name, value in fold.items() if isinstance(value, float))
        click.echo(f"seed {fold['seed']}, {fold['left_out']} left out ({fold['clips']} clips): {figures}")
    for name, value in document.items():
        if isinstance(value, float) and name not in ("mean_of_folds", "seconds"):
            low_high = document["intervals"].get(name)
            about = f" (95 % interval {low_high[0]:.4g} to {low_high[1]:.4g})" if low_high else ""
            click.echo(f"{_words(name) + ':':<20} {value:.4g}{about}")
    click.echo(f"mean of the folds:   {document['mean_of_folds']:.4g}")
    click.echo(f"{document['clips']} clips of {document['groups']} groups, seeds {document['seeds']}: {out / FILE}")


def _words(name: str) -> str:
    return name.replace("_", " ")
