"""`streamer train`: what it takes, what is seen while it learns, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from streamer.commands import falls, learning_options
from streamer.errors import UserError, WeightsError

if TYPE_CHECKING:
    from models.learning.cache import Sources
    from models.learning.recipe import Recipe
    from models.learning.train import Progress, Trained


@click.command()
@click.argument("recipe")
@learning_options.data
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where to.  [default: learned/NAME]")
@click.option("--resume", is_flag=True, help="Go on where a training in the folder was stopped or killed.")
@learning_options.seed
@learning_options.minutes
@click.option(
    "--leave-out", metavar="GROUP", help="A speaker, source or fold that is kept for the test.", multiple=True
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Leave groups out in turn, in so many parts, and judge by all of them.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="With --folds: of each.")
@click.option("--device", default="", help="cpu or cuda:N.  [default: CUDA where there is one]")
@learning_options.weights
@learning_options.as_json
def train(
    recipe: str,
    folder: Path | None,
    out: Path | None,
    resume: bool,
    seed: int | None,
    minutes: float | None,
    leave_out: tuple[str, ...],
    folds: int | None,
    seeds: int,
    device: str,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Learn a recipe from a folder of clips.

    RECIPE is a TOML file, or the name of one that comes with streamer. Leaves a checkpoint (the best by its validation
    score, calibrated), a report and TensorBoard's files. Ctrl-C ends it and keeps the best; --resume goes on, also
    after a kill, with the very losses that it would have had.

    \b
    streamer train my-sounds.toml --data clips/
    streamer run --source door=rtsp://... --model learned/my-sounds/my-sounds.safetensors

    With --folds nothing is learned for use: it says how good the recipe is at speakers, sources or folds that it has
    not met, and leaves folds.json.

    \b
    streamer train falls --data clips/    trains what tells falls, from SUBJECT_ANYTHING.mp4 and labels.tsv, and
                                          measures it with each subject left out in turn
    """
    from models.learning.errors import LearningError
    from streamer.commands.folds import Turns, in_turn

    try:
        if recipe == falls.NAME:
            if resume or leave_out or folds is not None or seeds > 1 or device or minutes is not None:
                raise UserError("falls takes --data, --out, --seed, --weights and --json; leave the other options out")
            return falls.train_falls(folder, out, seed, weights, as_json)
        found = _recipe(recipe, seed, minutes)
        target = out or Path("learned") / found.name
        if folds is not None:
            if resume or leave_out:
                raise UserError("--folds trains each part anew: give it without --resume and --leave-out")
            turns = Turns(folds, tuple(range(found.train.seed, found.train.seed + seeds)), device, weights)
            return in_turn(found, _folder(found, folder), target, turns, as_json)
        if seeds > 1:
            raise UserError("--seeds goes with --folds; a single training has one --seed")
        done = _run(found, _folder(found, folder), target, _How(resume, device, weights, leave_out))
    except LearningError as error:
        raise UserError(str(error)) from error
    if as_json:
        click.echo(
            json.dumps({**dataclasses.asdict(done), "checkpoint": str(done.checkpoint), "report": str(done.report)})
        )
    else:
        _tell(done)
    if done.ended == "stopped":
        click.echo("stopped; --resume goes on from here", err=True)
        raise SystemExit(130)


@dataclasses.dataclass(frozen=True, slots=True)
class _How:
    resume: bool
    device: str
    weights: Path | None
    leave_out: tuple[str, ...] = ()


def _recipe(name: str, seed: int | None, minutes: float | None) -> Recipe:
    from models.learning.recipe import find, read

    found = read(find(name))
    changed: dict[str, Any] = {}
    if seed is not None:
        changed["seed"] = seed
    if minutes is not None:
        changed["minutes"] = minutes
    return dataclasses.replace(found, train=dataclasses.replace(found.train, **changed))


def _folder(recipe: Recipe, folder: Path | None) -> Path:
    if folder is None and not recipe.data.folder:
        raise UserError(f"{recipe.name}: the recipe names no folder of clips; give it with --data FOLDER")
    return folder or Path(recipe.data.folder)


def _run(recipe: Recipe, folder: Path, out: Path, how: _How) -> Trained:
    from models.learning import folds, layouts, state
    from models.learning.sets import from_clips
    from models.learning.train import Hooks, chosen_device
    from models.learning.train import train as learn

    chosen_device(how.device)
    if not how.resume and state.unfinished(out):
        raise UserError(f"{out}: holds a training that has not ended; go on with --resume, or name another --out")
    sources = sources_of(recipe, how.weights)
    with _Bars() as bars, _until_interrupted() as stopped:
        found = layouts.read_clips(folder, recipe)
        if how.leave_out:
            found = folds.without(found, how.leave_out, recipe.data.validation)
        data = from_clips(recipe, found, sources, bars.preparing)
        bars.counted(len(data.train), len(data.validation), len(data.test))
        try:
            hooks = Hooks(bars.learning, lambda: bool(stopped), how.resume, device=how.device)
            return learn(recipe, data, out, hooks)
        except OSError as error:
            raise UserError(f"{out}: cannot write there ({error.strerror}); name another folder with --out") from error


def sources_of(recipe: Recipe, weights: Path | None) -> Sources:
    """The cache of features, and the pretrained weights where an encoder of the recipe is one of theirs."""
    from models.learning.cache import Sources
    from models.learning.errors import LearningError
    from models.learning.keep import frozen
    from models.weights import cache_dir
    from streamer.commands.terminal import Console

    roles = frozen(recipe)
    if not roles:
        return Sources(cache_dir())
    console = Console()
    try:
        return Sources.usual(weights, roles, console.fetching)
    except LearningError as error:
        raise WeightsError(str(error)) from error
    finally:
        console.fetched()


@contextmanager
def _until_interrupted() -> Iterator[list[int]]:
    """A list that is empty until SIGINT comes; a second one ends at once, as usual."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


class _Bars:
    """Progress on standard error: a bar where somebody watches, else a line an epoch."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def preparing(self, done: int, total: int) -> None:
        """Features of clips are made, once."""
        self._show("features", done, total, "")

    def counted(self, train: int, validation: int, test: int) -> None:
        """How many clips there are."""
        self._console.print(f"clips: {train} for training, {validation} for validation, {test} for the test")

    def learning(self, at: Progress) -> None:
        """After each step."""
        best = "" if at.best is None else f", best {at.best:.4g}"
        done, total = (at.epoch - 1) * at.steps + at.step, at.epochs * at.steps
        self._show("training", done, total, f"epoch {at.epoch}, loss {at.loss:.4f}{best}")
        if at.step == at.steps and not self._console.is_terminal:
            self._console.print(f"epoch {at.epoch} of {at.epochs}: loss {at.loss:.4f}{best}")

    def _show(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)


def _tell(done: Trained) -> None:
    """The figures, a line a set, and where everything is."""
    for name, figures in done.figures.items():
        click.echo(f"{name + ':':<12}" + ", ".join(_figure(*one) for one in _flat(figures)))
    click.echo(f"checkpoint: {done.checkpoint}")
    click.echo(f"report:     {done.report}")
    click.echo(f"best epoch {done.epochs}, {done.seconds:.0f} s of training, ended by {done.ended}", err=True)


def _flat(figures: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, float(value)) for name, value in figures.items()]


def _figure(name: str, value: float) -> str:
    return f"{name.replace('_', ' ')} {value:.4g}"
