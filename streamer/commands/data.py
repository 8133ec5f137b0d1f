"""`streamer data`: a folder of clips looked at before it is learned from, or collected from a live stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.errors import UserError

if TYPE_CHECKING:
    from models.learning.check import Report

_BAR = 40  # characters of the largest class
_SPLITS = (("train", "█"), ("validation", "▓"), ("test", "░"))


@click.group()
def data() -> None:
    """Look at a folder of clips before it is learned from, or collect one."""


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--recipe", metavar="RECIPE", help="What is to be learned of it.  [default: classes, by its usual target]"
)
@click.option("--plot", type=click.Path(path_type=Path), help="Clips by class and split, as a picture: .png or .svg.")
@click.option("--json", "as_json", is_flag=True, help="Everything found as one JSON object on standard output.")
@click.pass_context
def check(ctx: click.Context, folder: Path, recipe: str | None, plot: Path | None, as_json: bool) -> None:
    """Say what is wrong with a folder of clips, one line a fault, and what is in it.

    FOLDER has a manifest.csv or manifest.jsonl, or is laid out as a known data set, or has one folder of media a class.
    Found are: files that are missing or can't be read, times outside of the media, the same content under two names or
    in two splits, groups on both sides of a split, classes without clips for training, modalities that nobody has.
    Exit code 2 where there is a fault.

    \b
    streamer data check clips/
    streamer data check clips/ --recipe my-sounds.toml --plot balance.svg
    """
    report = _checked(folder, recipe, plot)
    if as_json:
        click.echo(json.dumps(report.document(), ensure_ascii=False))
    else:
        _tell(report)
        for fault in report.faults:
            click.echo(fault, err=True)
    if report.faults:
        ctx.exit(2)


@data.command("from-stream")
@click.argument("stream", metavar="NAME")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The configuration that has the stream.")
@click.option("--clips", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="At most so long."
)
@click.option(
    "--length", type=click.FloatRange(1, 600), default=5.0, show_default=True, help="Seconds a clip, to a key frame."
)
@click.option("--http", "url", default="http://127.0.0.1:8080", show_default=True, help="The running service.")
@click.option("--token", envvar="STREAMER_TOKEN", help="Where the service wants one; better in STREAMER_TOKEN.")
def from_stream(
    stream: str, folder: Path, config: Path, clips: int, minutes: float, length: float, url: str, token: str | None
) -> None:
    """Keep clips of a live stream for people to label.

    Only where the stream's entry says `annotate: true`. The stream is read once more, beside the service, and its
    packets are written as they are. FOLDER gets a manifest.jsonl with a row a clip: `label` is left empty for a person
    to fill in, `suggested` has what the running service saw and heard. Ctrl-C ends it and keeps what there is.

    \b
    streamer data from-stream door clips/ --config cameras.yaml --clips 50 --length 5
    """
    from streamer.commands.from_stream import Terms, keep

    terms = Terms(config, stream, folder, length, clips, minutes, url, token)
    kept = keep(terms, lambda line: click.echo(line, err=True))
    click.echo(f"{kept} clips in {folder}; write their labels into {folder / 'manifest.jsonl'}")


def _checked(folder: Path, recipe: str | None, plot: Path | None) -> Report:
    from models.learning import check as checking
    from models.learning.errors import LearningError
    from models.learning.recipe import find, read

    try:
        report = _with_progress(
            lambda progress: checking.check(folder, read(find(recipe)) if recipe else None, progress)
        )
        if plot is not None:
            checking.plot(report, plot)
    except LearningError as error:
        raise UserError(str(error)) from error
    return report


def _with_progress(work: Callable[[Callable[[int, int], None]], Report]) -> Report:
    """Does it with a bar on standard error, where somebody watches."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("files", total=None)
        return work(lambda done, total: bars.update(task, completed=done, total=total))


def _tell(report: Report) -> None:
    shortest, mean, longest = report.seconds
    splits = ", ".join(f"{report.splits[name]} {name}" for name, _ in _SPLITS if report.splits.get(name))
    click.echo(
        f"{report.folder}: {report.clips} clips ({splits}), {shortest:.1f} to {longest:.1f} s, mean {mean:.1f} s"
    )
    if report.groups:
        click.echo(f"{report.groups} groups")
    for line in _bars(report.counts):
        click.echo(line)
    for note in report.notes:
        click.echo(f"note: {note}")
    if not report.faults:
        click.echo("no fault found")


def _bars(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line a name: as long as it has clips, by split."""
    most = max((sum(each.values()) for each in counts.values()), default=0)
    width = max((len(name) for name in counts), default=0)
    lines = []
    for name, each in counts.items():
        bar = "".join(sign * round(_BAR * each.get(split, 0) / max(1, most)) for split, sign in _SPLITS)
        figures = " + ".join(str(each.get(split, 0)) for split, _ in _SPLITS if each.get(split, 0)) or "0"
        lines.append(f"  {name:<{width}}  {bar} {figures}")
    return lines
