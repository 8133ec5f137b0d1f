"""`streamer eval`: how a checkpoint does on a folder of clips, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from streamer.commands import learning_options
from streamer.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from models.learning.judge import Ask

TAGS = "tags"
_DELETION_CLIPS = 100
# What is told as a fraction of 1 in JSON, and to people in hundredths.
_FRACTIONS = frozenset(
    {"accuracy", "balanced_accuracy", "f1", "mean_average_precision", "top1", "top5", "sentences_right", "word_error"}
    | {"expected_calibration_error", "recall", "precision", "average_precision"}
)


@click.command()
@click.argument("checkpoint")
@click.argument("folder", metavar="DATA", type=click.Path(path_type=Path))
@learning_options.as_json
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(["video", "audio", "text"]),
    help="Take a modality away; may be given several times.",
)
@click.option("--snr", "snr_db", type=float, metavar="DB", help="Mix noise into the sound, at that ratio.")
@click.option("--noise", "noise_files", default="", metavar="PATTERN", help="Files of that noise.  [default: coloured]")
@click.option(
    "--split",
    type=click.Choice(["all", "train", "validation", "test"]),
    help="Which clips.  [default: those that the checkpoint was not trained on]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that is drawn.")
@click.option("--deletion", is_flag=True, help="Put explanations to the test, too: what they point at is taken away.")
@learning_options.weights
def evaluate(
    checkpoint: str,
    folder: Path,
    as_json: bool,
    without: tuple[str, ...],
    snr_db: float | None,
    noise_files: str,
    split: str | None,
    seed: int,
    deletion: bool,
    weights: Path | None,
) -> None:
    """Score a checkpoint on a folder of clips.

    CHECKPOINT is a file, or the name of one that comes with streamer. DATA has a manifest.csv, or a folder of media a
    class, or is laid out as a data set that is known. Figures come with 95 % intervals over clips.

    \b
    streamer eval sounds clips/ --json
    streamer eval learned/doors/doors.safetensors clips/ --without audio
    streamer eval learned/doors/doors.safetensors clips/ --snr -5
    """
    from models.learning.errors import LearningError
    from models.learning.judge import Ask

    wanted = cast(Literal["", "all", "train", "validation", "test"], split or "")
    noise = str(Path(noise_files).absolute()) if noise_files else ""
    ask = Ask(wanted, frozenset(without), snr_db, noise, seed, _DELETION_CLIPS if deletion else 0)
    try:
        document = _judged(checkpoint, folder, ask, weights)
    except LearningError as error:
        raise UserError(str(error)) from error
    click.echo(json.dumps(document, ensure_ascii=False)) if as_json else tell(document)


def _judged(checkpoint: str, folder: Path, ask: Ask, weights: Path | None) -> dict[str, Any]:
    from models.learning.judge import judge
    from models.learning.tagging import judge_tags
    from streamer.commands.progress import Bars

    with Bars() as bars:
        if checkpoint == TAGS:
            return judge_tags(folder, ask, weights, bars.show)
        return judge(checkpoint, folder, ask, weights, bars.show)


def tell(document: dict[str, Any]) -> None:
    """The figures as people read them, on standard output."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{document['checkpoint']} ({document['digest']}) on {document['n']} clips of {document['data']}")
    conditions = [f"without {name}" for name in document["without"]]
    if document["snr_db"] is not None:
        conditions.append(f"noise at {document['snr_db']:g} dB")
    console.print(f"clips: {document['split']}" + "".join(f", {each}" for each in conditions))
    for name, (low, high) in document["intervals"].items():
        value = document[name]
        console.print(f"{words(name):28}{figure(name, value):>10}   {figure(name, low)} to {figure(name, high)}")
    if document.get("modalities"):
        console.print(_table("from", document["modalities"]))
    if document["classes"]:
        console.print(_table("", document["classes"]))
    if "latency_ms" in document:
        told = document["latency_ms"]
        console.print(f"{told['p50']:.2f} ms a clip (p95 {told['p95']:.2f}), {told['by']}, {told['threads']} thread")
    for name in ("attention", "left_out", "attention_alone", "grad_cam"):
        if name in document.get("deletion", {}):
            console.print(_deleted(name, document["deletion"][name]))
    for note in document["notes"]:
        console.print(f"note: {note}")


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    columns = list(next(iter(rows.values())))
    table = Table(title, *(words(column) for column in columns), box=box.SIMPLE)
    for name, row in rows.items():
        main = next((key for key in row if key != "interval"), "")
        cells = [_cell(main if key == "interval" else key, row.get(key)) for key in columns]
        table.add_row(name.replace("+", " + "), *cells)
    return table


def _cell(name: str, value: Any) -> str:
    if isinstance(value, list):
        return (
            " to ".join(figure(name, each) for each in value)
            if name in _FRACTIONS or "mae" in name
            else ", ".join(value)
        )
    return figure(name, value)


def _deleted(name: str, found: dict[str, Any]) -> str:
    about = f"deletion, {words(name)}: what it points at costs {found['pointed']:.3f}, random {found['random']:.3f}"
    if found["ratio"] is None:
        return about
    low, high = ("no bound" if each is None else f"{each:.1f}" for each in found["interval"])
    return f"{about}: {found['ratio']:.1f} times as much ({low} to {high})"


def words(name: str) -> str:
    """A key as people write it."""
    return name.replace("_", " ")


def figure(name: str, value: float | int | None) -> str:
    """A figure with its unit."""
    if value is None:
        return "-"
    if name in _FRACTIONS:
        return f"{100 * value:.1f} %"
    if name.endswith("_ms"):
        return f"{value:.1f} ms"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
