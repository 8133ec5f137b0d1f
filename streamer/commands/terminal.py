"""What people see in a terminal: lines of labels, progress bars, addresses. Colours only where a terminal is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import rich.console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from streamer.commands.lines import answer
from streamer.config import mask_text
from streamer.errors import MediaError, StreamerError, UserError, WeightsError
from streamer.messages import Segment, encode

if TYPE_CHECKING:
    from streamer.commands.options import Addresses
    from streamer.commands.transcript import Transcript
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


@dataclass(frozen=True, slots=True)
class Written:
    """That what is said is written down, and the files that subtitles of it go to."""

    srt: Path | None = None
    vtt: Path | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    as_json: bool
    several: bool
    people: bool
    transcript: Callable[[str, str], Transcript] | None
    written: Written | None


def label_files(
    media: tuple[str, ...],
    as_json: bool,
    weights: Path | None,
    *,
    people: bool = False,
    model: str = "tags",
    written: Written | None = None,
) -> None:
    """The work of `streamer label`: every file, errors told where they happen; `people`: who is in the picture, too;
    `model`: the checkpoint that labels; `written`: what is said, too.

    Raises:
        UserError: the checkpoint can't be used, or one of the files is none that could be labelled; the others were.
        MediaError: one of them broke half way.
        WeightsError: the models could not be had.
    """
    from streamer.engine import load, load_detector

    console = Console()
    threads = _offline_threads()
    engine = load("cpu", weights, threads=threads, progress=console.fetching, model=model)
    if people:
        engine.look_for_people(load_detector(weights, threads, console.fetching))
    transcript = None if written is None else _transcripts(engine, weights, console)
    console.fetched()
    if engine.geometry.reads_text and written is None:
        console.err.print(f"{model} reads what is said, and nobody listens: it labels without; --speech listens")
    if engine.geometry.reads_people and not people:
        console.err.print(f"{model} reads who is in the picture, and nobody looks: it labels without; --people looks")
    wanted = _Wanted(as_json, len(media) > 1, people, transcript, written)
    failures: list[StreamerError] = []
    for path in media:
        try:
            _label_file(path, engine, console, wanted)
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


def _transcripts(engine: Engine, weights: Path | None, console: Console) -> Callable[[str, str], Transcript]:
    """Makes the transcript of a file, given its path and what its segments call it.

    Raises:
        WeightsError: the recogniser could not be had.
    """
    from streamer.commands.transcript import Transcript, sound_of
    from streamer.speech.files import find_speech
    from streamer.speech.offline import transcribe
    from streamer.speech.writing import Writer
    from streamer.speech.written import WritingSettings

    found = find_speech(None, weights, console.fetching)
    if isinstance(found, str):
        raise WeightsError(f"what is said can't be written down: {found}")
    geometry = engine.geometry
    writer = Writer(WritingSettings(reads=geometry.reads_text))

    def make(path: str, name: str) -> Transcript:
        sound = sound_of(path, geometry, geometry.frame_rates[0])
        return Transcript(transcribe(sound, found, stream=name), writer.write)

    return make


def _write_subtitles(transcript: Transcript, written: Written) -> None:
    from streamer.commands.subtitles import apart, srt, vtt

    cues = apart(transcript.cues)
    for path, made in ((written.srt, srt), (written.vtt, vtt)):
        if path is not None:
            try:
                path.write_text(made(cues), encoding="utf-8")
            except OSError as error:
                raise UserError(f"{path}: can't be written: {error.strerror}; name another file") from None


def _label_file(path: str, engine: Engine, console: Console, wanted: _Wanted) -> None:
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
        if wanted.several and not wanted.as_json:
            console.lines.print(Text(name, "bold"))
        watch = PeopleWatch(name, PeopleSettings(), fall_judges()) if wanted.people else None
        options = DecodeOptions(looks=wanted.people)
        transcript = None if wanted.transcript is None else wanted.transcript(path, name)
        words = transcript.words if transcript is not None and geometry.reads_text else None
        items = label(name, lambda: read_file(path, geometry, rate, options), engine, watch, words)
        try:
            for item in items if transcript is None else transcript.speaking(items):
                line = Text(encode(item.segment).decode()) if wanted.as_json else offline_line(item.segment)
                console.lines.print(line)
                progress.update(task, completed=item.end_ns)
        finally:
            if transcript is not None and wanted.written is not None:
                _write_subtitles(transcript, wanted.written)


def prepare_weights(directory: Path | None, as_json: bool, model: str = "tags") -> None:
    """The work of `streamer weights`."""
    from streamer.engine import prepare
    from streamer.speech.files import find_speech

    console = Console()
    ready = prepare(directory, console.fetching, model)
    speech = find_speech(None, directory, console.fetching)
    if isinstance(speech, str):  # only who wants speech needs it
        console.err.print(f"what is said can't be written down: {speech}")
    else:
        ready += [("speech recogniser", Path(speech.model) / "model.bin"), ("voice detector", Path(speech.vad))]
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
