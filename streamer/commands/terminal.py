"""What people see in a terminal: lines of labels, progress bars, addresses. Colours only where a terminal is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import rich.console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from streamer.commands.lines import answer
from streamer.config import mask_text
from streamer.errors import MediaError, StreamerError, UserError
from streamer.messages import Segment, encode

if TYPE_CHECKING:
    from streamer.commands.options import Addresses
    from streamer.engine import Engine


def offline_line(segment: Segment) -> Text:
    """One line for a file's segment: the media time that its window ends at, and what is in it."""
    return Text.assemble((f"{segment.end[11:-3]}  ", "dim"), answer(msgspec.to_builtins(segment)))


class _Output(rich.console.Console):
    """Leaves a reader that has gone to whoever called, instead of ending the program on the spot."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Console:
    """Standard output for what was asked for, standard error for how it goes."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self.out = _Output(highlight=False, soft_wrap=True)
        self.err = _Output(stderr=True, highlight=False, soft_wrap=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID | None] = {}

    @property
    def lines(self) -> rich.console.Console:
        """Where to print while a bar moves: on a terminal that shows both, the bar's own way puts lines above it."""
        return self.err if self.out.is_terminal and self.err.is_terminal else self.out

    def service_started(self, addresses: Addresses) -> None:
        """Tell where the page and the websocket are."""
        self.fetched()
        if self._as_json:
            click.echo(msgspec.json.encode(addresses))
            return
        self.err.print(Text.assemble("page       ", (addresses.page, "bold underline")))
        self.err.print(Text.assemble("websocket  ", addresses.websocket))
        self.err.print(Text.assemble("store      ", addresses.store))
        for warning in addresses.warnings:
            self.err.print(Text.assemble(("warning    ", "yellow"), warning))

    def fetching(self, name: str, done: int, total: int) -> None:
        """Show a download's progress: `done` of `total` bytes of `name`; nothing of what is here already. Where nobody
        watches, a line at its beginning stands for the bar."""
        if name not in self._tasks:
            if total and done >= total:
                return
            self._tasks[name] = self._add_bar(name, total)
        task = self._tasks[name]
        if self._bars is not None and task is not None:
            self._bars.update(task, completed=done, total=total or None)

    def _add_bar(self, name: str, total: int) -> TaskID | None:
        if not self.err.is_terminal:
            self.err.print(f"fetching {name}" + (f" ({total / 1e6:.1f} MB)" if total else ""))
            return None
        if self._bars is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            self._bars = Progress(*columns, console=self.err, transient=True)
            self._bars.start()
        return self._bars.add_task(name)

    def fetched(self) -> None:
        """Remove the progress bars: a live display costs CPU for as long as it is there."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()


def label_files(media: tuple[str, ...], as_json: bool, weights: Path | None, *, people: bool = False) -> None:
    """The work of `streamer label`: every file, errors told where they happen; `people`: who is in the picture, too.

    Raises:
        UserError: one of the files is none that could be labelled; the others were.
        MediaError: one of them broke half way.
        WeightsError: the models could not be had.
    """
    from streamer.engine import load, load_detector

    console = Console()
    threads = _offline_threads()
    engine = load("cpu", weights, threads=threads, progress=console.fetching)
    if people:
        engine.look_for_people(load_detector(weights, threads, console.fetching))
    console.fetched()
    failures: list[StreamerError] = []
    for path in media:
        try:
            _label_file(path, engine, console, as_json, several=len(media) > 1, people=people)
        except StreamerError as error:
            failures.append(error)
            if len(media) > 1:
                console.err.print(Text.assemble(("streamer: ", "red"), mask_text(str(error))))
    if failures:
        if len(media) == 1:
            raise failures[0]
        only_input = all(isinstance(failure, UserError) for failure in failures)
        kind = UserError if only_input else MediaError
        raise kind(f"{len(failures)} of {len(media)} files could not be labelled to their end")


def _offline_threads() -> int:
    # Decoding takes part of one core; the encoders may have the rest.
    return max(1, len(os.sched_getaffinity(0)))


def _label_file(path: str, engine: Engine, console: Console, as_json: bool, *, several: bool, people: bool) -> None:
    from streamer.commands.label import label
    from streamer.decode import DecodeOptions
    from streamer.lookout import fall_judges
    from streamer.people.watch import PeopleSettings, PeopleWatch
    from streamer.sources.replay import media_duration_ns, read_file

    geometry, rate = engine.geometry, engine.geometry.frame_rates[0]
    # A file's name may be no Unicode; what is written must be.
    name = path.encode("utf-8", "replace").decode()
    duration_ns = media_duration_ns(path)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console.err, transient=True, disable=not console.err.is_terminal) as progress:
        task = progress.add_task(Path(name).name, total=duration_ns)
        if several and not as_json:
            console.lines.print(Text(name, "bold"))
        watch = PeopleWatch(name, PeopleSettings(), fall_judges()) if people else None
        options = DecodeOptions(looks=people)
        for item in label(name, lambda: read_file(path, geometry, rate, options), engine, watch):
            line = Text(encode(item.segment).decode()) if as_json else offline_line(item.segment)
            console.lines.print(line)
            progress.update(task, completed=item.end_ns)


def prepare_weights(directory: Path | None, as_json: bool) -> None:
    """The work of `streamer weights`."""
    from streamer.engine import prepare

    console = Console()
    ready = prepare(directory, console.fetching)
    console.fetched()
    if as_json:
        click.echo(
            json.dumps(
                {"files": [{"name": name, "path": str(path), "bytes": path.stat().st_size} for name, path in ready]}
            )
        )
        return
    for name, path in ready:
        console.out.print(f"{name:32} {path.stat().st_size / 1e6:8.1f} MB  {path}")
