"""`streamer compare`: every fusion and every single modality trained alike, and one recommended in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.commands import learning_options
from streamer.errors import UserError

if TYPE_CHECKING:
    from models.learning.compare import Comparison, Plan
    from models.learning.recipe import Recipe
    from models.learning.train import Progress

_PIPE_COLUMNS = 200


@click.command()
@click.argument("recipe")
@learning_options.data
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where to.  [default: compared/NAME]")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of each training, instead of the recipe's.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="At most, for each training.")
@learning_options.weights
@learning_options.as_json
def compare(
    recipe: str,
    folder: Path | None,
    out: Path | None,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Train the three fusions and every single modality alike, and recommend one.

    RECIPE is a TOML file, or the name of one that comes with streamer. Judged on the test clips; without any, on those
    for validation. Ctrl-C ends it and compares what is done; the same command goes on from there.

    \b
    streamer compare my-sounds.toml --data clips/ --seeds 5 --minutes 10
    """
    from models.learning.compare import Plan
    from models.learning.errors import LearningError
    from models.learning.recipe import find, read

    try:
        found = read(find(recipe))
        if folder is None and not found.data.folder:
            raise UserError(f"{found.name}: the recipe names no folder of clips; give it with --data FOLDER")
        plan = Plan(tuple(range(seeds)), epochs or 0, minutes or 0.0)
        target = out or Path("compared") / found.name
        result = _run(found, folder or Path(found.data.folder), target, plan, weights)
    except LearningError as error:
        raise UserError(str(error)) from error
    click.echo(json.dumps(result.document(), ensure_ascii=False)) if as_json else tell(result, target)
    if result.missing:
        click.echo(f"stopped with {len(result.missing)} trainings missing; the same command goes on", err=True)
        raise SystemExit(130)


def _run(recipe: Recipe, folder: Path, out: Path, plan: Plan, weights: Path | None) -> Comparison:
    from models.learning import judge
    from models.learning.compare import Watch
    from models.learning.compare import compare as learn
    from models.learning.sets import open_data
    from streamer.commands.progress import Bars, interruptible

    with Bars() as bars, interruptible() as stop:
        sources = judge.sources_for(recipe, weights)
        data = open_data(recipe, folder, sources, lambda done, total: bars.show("reading clips", done, total))

        def began(name: str, number: int, total: int) -> None:
            bars.forget("training")
            bars.show("runs", number - 1, total)
            bars.say(f"{number} of {total}: {name}")

        def learning(at: Progress) -> None:
            bars.show("training", (at.epoch - 1) * at.steps + at.step, at.epochs * at.steps)

        try:
            return learn(recipe, data, out, plan, Watch(began, learning, stop))
        except OSError as error:
            raise UserError(f"{out}: cannot write there ({error.strerror}); name another folder with --out") from error


def tell(result: Comparison, out: Path) -> None:
    """The recommendation and the table, on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from models.learning.compared import about, columns, rows

    # A pipe has no width: there a table cut to 80 columns would lose words.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    table = Table(*columns(result), box=box.SIMPLE)
    for one, row in zip(result.standings, rows(result), strict=True):
        table.add_row(*row, style="bold" if one.label == result.advice.choice else None)
    console.print(table)
    console.print(f"[bold]Use {result.advice.choice}.[/] {' '.join(result.advice.reasons)}")
    for doubt in result.advice.doubts:
        console.print(f"- {doubt}")
    for line in about(result):
        console.print(line, style="dim")
    console.print(f"comparison: {out / 'comparison.html'}")
