"""The commands as a user types them: what they print where, their exit codes, and what they make of broken input."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests import media_factory
from tests.media_factory import Spec, make, not_media, truncated

MakeClip = Callable[..., Path]
# What a segment has, but for the cursor: no store gave it one.
SEGMENT_KEYS = {
    *("type", "v", "stream", "epoch", "seq", "start", "end", "status", "reason", "degraded", "delivered_late"),
    *("labels", "speech", "people", "coverage", "latency_ms", "bound_ms"),
}
ZERO = datetime(1970, 1, 1, tzinfo=UTC)


def streamer(*arguments: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, outputs through pipes."""
    command = [sys.executable, "-m", "streamer", *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=clean | env)


def segments_of(result: subprocess.CompletedProcess[str]) -> dict[str, list[dict]]:  # type: ignore[type-arg]
    """The segments that were written as JSON lines, by the stream they name."""
    found: dict[str, list[dict]] = {}  # type: ignore[type-arg]
    for line in result.stdout.splitlines():
        segment = json.loads(line)
        found.setdefault(segment["stream"], []).append(segment)
    return found


def check_segments(segments: list[dict], seconds: float) -> None:  # type: ignore[type-arg]
    """One segment for each half second of media of which a tenth is there, of windows of 2 s (less at the beginning)
    that
    end where their number says."""
    assert [s["seq"] for s in segments] == list(range(max(1, ceil(round(seconds - 0.05, 3) / 0.5))))
    for segment in segments:
        assert set(segment) == SEGMENT_KEYS
        assert (segment["status"], segment["reason"], segment["delivered_late"]) == ("ok", None, False)
        end = ZERO + timedelta(seconds=0.5 * (segment["seq"] + 1))
        assert datetime.fromisoformat(segment["end"]) == end
        assert datetime.fromisoformat(segment["start"]) == max(ZERO, end - timedelta(seconds=2))
        latency = segment["latency_ms"]
        assert latency["total"] == pytest.approx(sum(latency.values()) - latency["total"], abs=0.2)
        assert latency["total"] < 60_000


def lasts(path: Path) -> float:
    """Seconds from the first moment of a file's best tracks to the last, decoded; what was padded counts as well."""
    with av.open(str(path)) as container:
        tracks = [track for kind in ("video", "audio") if (track := container.streams.best(kind)) is not None]
        begin, end = [], []
        for packet in container.demux(tracks):
            for frame in packet.decode():
                long_s = float(frame.duration * frame.time_base)
                if isinstance(frame, av.AudioFrame):
                    long_s = frame.samples / frame.sample_rate
                begin.append(frame.time)
                end.append(frame.time + long_s)
        return max(end) - min(begin)


# -- streamer label: whole files --------------------------------------------------------------------------------------


def test_media_of_every_shape(tmp_path: Path) -> None:
    """10-bit HEVC, a picture of one pixel, one of 8K, sound at 8 kHz, at 96 kHz and in 5.1: all of it is labelled, to
    its length and with full coverage of what is there."""

    def grey(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.broadcast_to(np.uint8(90), (size[1], size[0], 3)).copy()

    specs = {
        "ten.mkv": replace(media_factory.HEVC_10_BIT, seconds=2.5),
        "pixel.mkv": replace(media_factory.ONE_PIXEL, seconds=2.5),
        "large.mkv": replace(media_factory.EIGHT_K, seconds=0.12, paint=grey),
        "narrow.mov": replace(media_factory.SOUND_8_KHZ, seconds=2.5),
        "wide.mkv": replace(media_factory.SOUND_96_KHZ, seconds=2.5),
        "around.mkv": replace(media_factory.SURROUND, seconds=2.5),
    }
    for name, spec in specs.items():
        make(tmp_path / name, spec)
    result = streamer("label", "--json", *specs, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    found = segments_of(result)
    assert list(found) == list(specs)
    for name, spec in specs.items():
        check_segments(found[name], lasts(tmp_path / name))
        if name == "large.mkv":
            continue  # too short to fill a window
        full = found[name][3]["coverage"]
        assert (full["video"] > 0.95) == (spec.video is not None) and (full["audio"] > 0.95) == (spec.audio is not None)
        assert spec.audio is None or found[name][3]["labels"], "a tone has a name at every rate"


def test_files_as_archives_have_them(shared_data: Path) -> None:
    """Every file of the formats folder is labelled to its length."""
    files = sorted(path for path in (shared_data / "formats").iterdir() if path.is_file())
    assert files
    result = streamer("label", "--json", *files)
    assert (result.returncode, result.stderr) == (0, "")
    found = segments_of(result)
    assert list(found) == [str(path) for path in files]
    for path in files:
        check_segments(found[str(path)], lasts(path))
        last_full = found[str(path)][-2]["coverage"]
        assert max(last_full.values()) > 0.9 or len(found[str(path)]) < 5


# -- streamer label: what is broken -----------------------------------------------------------------------------------


def test_a_truncated_file(clips: MakeClip, tmp_path: Path) -> None:
    """What is there is labelled; then one line says where it broke off, and the exit code is 1."""
    whole = clips("whole.mp4", Spec(seconds=6, muxer_options=(("movflags", "faststart"),)))
    cut = truncated(whole, tmp_path / "cut.mp4")
    result = streamer("label", "--json", cut)
    assert result.returncode == 1
    segments = segments_of(result)[str(cut)]
    check_segments(segments, len(segments) * 0.5)
    assert 4 <= len(segments) <= 8
    assert re.fullmatch(r"streamer: .*cut\.mp4: breaks off after \d\.\d s .*\n", result.stderr)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("text", "text file"), ("html", "web page"), ("empty", "empty"), ("folder", "directory"), ("missing", "no such")],
)
def test_what_is_no_media(tmp_path: Path, kind: str, words: str) -> None:
    """Each gets one line that names the file and what it is instead, and exit code 2."""
    path = (not_media(tmp_path) | {"missing": tmp_path / "missing.mp4"})[kind]
    result = streamer("label", path)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"streamer: {re.escape(str(path))}: .*{words}.*\n", result.stderr)


def test_several_files_of_which_some_are_broken(clips: MakeClip, tmp_path: Path) -> None:
    """The good ones are labelled whole, each that is none gets its line, a last one counts them; exit code
    2, and 1 where one of them breaks half way."""
    good = clips("whole.mp4", Spec(seconds=6, muxer_options=(("movflags", "faststart"),)))
    bad = not_media(tmp_path)
    odd = tmp_path / os.fsdecode(b"caf\xe9 [red].mp4")
    odd.write_bytes(good.read_bytes())
    result = streamer("label", "--json", bad["noise"], good, bad["html"], odd)
    found = segments_of(result)
    assert result.returncode == 2 and list(found) == [str(good), str(tmp_path / "caf? [red].mp4")]
    for segments in found.values():
        check_segments(segments, lasts(good))
    noise, html, count = result.stderr.splitlines()
    assert "noise.mp4" in noise and "page.mp4" in html and count.startswith("streamer: 2 of 4 files")
    assert streamer("label", truncated(good, tmp_path / "cut.mp4"), bad["html"]).returncode == 1
    plain = streamer("label", good, odd)
    assert plain.returncode == 0 and plain.stderr == ""
    assert str(good) in plain.stdout.splitlines() and str(tmp_path / "caf? [red].mp4") in plain.stdout.splitlines()


# -- streamer label: pipes and terminals ------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--json", None])
def test_a_reader_that_has_enough(clips: MakeClip, option: str | None) -> None:
    """When `head` has its lines and goes, nothing is said and the exit code is 0."""
    clip = clips("long.mp4", Spec(seconds=60, size=(64, 64), fps=5, audio=None))
    words = [sys.executable, "-m", "streamer", "label", *([option] if option else []), str(clip)]
    labelling = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert labelling.stdout is not None and labelling.stderr is not None
    assert labelling.stdout.readline()
    labelling.stdout.close()
    assert labelling.stderr.read() == "" and labelling.wait(60) == 0
    labelling.stderr.close()


def test_an_interrupt(clips: MakeClip) -> None:
    """Ctrl-C in the middle ends with exit code 130 and without a word."""
    clip = clips("long.mp4", Spec(seconds=60, size=(64, 64), fps=5, audio=None))
    words = [sys.executable, "-m", "streamer", "label", *[str(clip)] * 20]
    labelling = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores interrupts, and so do the tests then and what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert labelling.stdout is not None and labelling.stdout.readline()
    labelling.send_signal(signal.SIGINT)
    _, said = labelling.communicate(timeout=60)
    assert (labelling.returncode, said) == (130, "")


def in_terminal(*arguments: object, out: int | None = None) -> tuple[int, str]:
    """Exit code of a command, and what it wrote to the terminal that it ran in; `out`: its standard output instead."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamer", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")}
    env |= {"TERM": "xterm-256color", "COLUMNS": "120"}
    stdout = theirs if out is None else out
    process = subprocess.Popen(command, stdin=theirs, stdout=stdout, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # Linux tells the end of a terminal so
            some = b""
        if not some:
            break
        shown += some
    os.close(ours)
    return process.wait(60), shown.decode()


def test_a_terminal_gets_a_bar_and_colours(clips: MakeClip, tmp_path: Path) -> None:
    """In a terminal lines are coloured and a bar moves below them; with the output elsewhere, that has lines alone."""
    clip = clips("long.mp4", Spec(seconds=60, size=(64, 64), fps=5, audio=None))
    code, shown = in_terminal("label", clip)
    assert code == 0 and "long.mp4" in shown and "%" in shown and "\x1b[2m" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    for number in range(120):
        end = (ZERO + timedelta(seconds=0.5 * (number + 1))).strftime("%H:%M:%S.%f")[:10]
        # Each line begins at the left: the bar was taken away before it was written.
        assert re.search(rf"[\r\n]{re.escape(end)}  ", plain), end
    with (tmp_path / "lines.txt").open("wb") as file:
        code, shown = in_terminal("label", clip, out=file.fileno())
    lines = (tmp_path / "lines.txt").read_text()
    assert code == 0 and "%" in shown and "\x1b" not in lines and len(lines.splitlines()) == 120


def test_a_pipe_gets_lines_alone(clips: MakeClip) -> None:
    """Piped, there is a line a segment without a colour code, and not a byte on standard error."""
    clip = clips("whole.mp4", Spec(seconds=6, muxer_options=(("movflags", "faststart"),)))
    result = streamer("label", clip)
    assert (result.returncode, result.stderr) == (0, "") and "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == ceil(round(lasts(clip) - 0.05, 3) / 0.5)
    assert re.match(r"00:00:00\.5  ", result.stdout)


# -- help, and what is refused ----------------------------------------------------------------------------------------


def test_help_of_every_command_is_quick() -> None:
    """Every command explains itself, with examples where it takes media or sources, loading no heavy library for it."""
    code = """
import json, sys
import click
from click.testing import CliRunner
from streamer.cli import main
def commands(group, path):
    yield path
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, [*path, name])
said = {" ".join(path): CliRunner().invoke(main, [*path, "--help"]) for path in commands(main, [])}
heavy = ("torch", "torchaudio", "onnxruntime", "av", "numpy", "aiohttp", "redis", "websockets", "asyncio")
print(json.dumps({
    "codes": {name: result.exit_code for name, result in said.items()},
    "texts": {name: result.output for name, result in said.items()},
    "loaded": [name for name in heavy if name in sys.modules],
}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    told = json.loads(result.stdout)
    assert told["loaded"] == [] and set(told["codes"].values()) == {0}
    assert {"", "run", "demo", "label", "watch", "check", "weights", "bench", "bench density"} <= set(told["texts"])
    for name, text in told["texts"].items():
        assert text.startswith("Usage:") and len(text.splitlines()) > 5, name
    assert "streamer label clip.mp4" in told["texts"]["label"] and "--source door=rtsp://" in told["texts"]["run"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["label", "--srt", "x.srt", "a.mp4", "b.mp4"], "--srt and --vtt are of one file"),
        (["label"], "Missing argument 'MEDIA...'"),
        (["label", "--weights", "/no/such/folder", "x.mp4"], "/no/such/folder.* does not exist"),
        (["lable", "x.mp4"], "Did you mean 'label'"),
        (["run", "--colour"], "No such option '--colour'"),
        (["run", "--http", "here"], "HOST:PORT"),
        (["run", "--http", "127.0.0.1:99999"], "HOST:PORT"),
        (["run", "--latency-bound", "5parsecs"], "500ms, 1s"),
        (["run", "--source", "nameless"], "NAME=URL"),
        (["run", "--source", "A=rtsp://u:hunter2@10.0.0.7/"], "NAME=URL"),
        (["run", "--source", "a=rtsp://10.0.0.7/", "--source", "a=rtsp://10.0.0.8/"], "two sources are named 'a'"),
    ],
)
def test_wrong_words(arguments: list[str], words: str) -> None:
    """A wrong option or argument is one clear error with exit code 2, before anything is loaded, without passwords."""
    result = streamer(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.search(words, result.stderr.splitlines()[-1])
    assert "Traceback" not in result.stderr and "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "a=ftp://u:hunter2@10.0.0.7/"], "is no source: use rtsp://"),
        (["--source", "a=rtsp://u:hunter2@/"], "no valid host and port"),
        (["--http", "0.0.0.0:0"], "--http 0.0.0.0: anybody on the network"),
        (["--ws", "0.0.0.0:0"], "--ws 0.0.0.0: anybody on the network"),
        (["--http", "192.0.2.1:0", "--insecure"], "192.0.2.1.*can't listen"),
        (["--redis", "ftp://u:hunter2@10.0.0.7/"], "redis://"),
        (["--latency-bound", "5ms"], "between 200ms and 60s"),
        (["--device", "tpu"], "--device tpu"),
    ],
)
def test_a_service_that_cannot_start(arguments: list[str], words: str) -> None:
    """What the service can't do with its options is one line with exit code 2, without passwords."""
    result = streamer("run", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"streamer: .*{words}.*\n", result.stderr) and "hunter2" not in result.stderr


# -- configurations ---------------------------------------------------------------------------------------------------

ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
HOSTILE = {
    "bomb": (f"{ALIAS_BOMB}streams: *h\n", ":1:1: unknown key `a`"),
    "nested bomb": (
        "streams: &a {x: {source: rtsp://h/}, y: &b {<<: [*a, *a]}}\n",
        ":1:",
    ),
    "deep": ("streams: " + "[" * 20_000, ":1:25: nested deeper"),
    "deep mapping": ("streams: " + "{a: " * 20_000, "nested deeper"),
    "types": (
        "streams: {door: {source: [1], audio: perhaps}}\nlatency_bound: soon\ntokens: 7\n",
        ":1:18: expected text",
    ),
    "list": ("- streams\n", ":1:1: expected settings"),
    "duplicate": ("streams:\n  a: {source: rtsp://h/}\n  a: {source: rtsp://g/}\n", ":3:3: `a` is here a second time"),
    "unset": ('streams: {a: {source: "rtsp://u:${NOT_THERE}@h/"}}\n', ":1:23: NOT_THERE is not set"),
    "tag": ("streams: !!python/object/apply:os.system [id]\n", ":1:1: expected names"),
    "control": ("streams: {a: {source: rtsp://h/\x00}}\n", ":1:"),
    "not text": (b"\xff\xfe\x00streams", ":1:1: is not UTF-8"),
    "empty": ("", ":1:1: the file is empty"),
    "secret": ("streams: {a: {source: 'ftp://u:hunter2@h/'}}\n", ":1:23:"),
    "huge": ("streams: {}\n#" + "x" * 2_000_000, "larger than 1024 KB"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_check_of_a_hostile_configuration(tmp_path: Path, kind: str) -> None:
    """Every fault is a line of its own with its place; exit code 2; nothing on standard output."""
    path = written(tmp_path, HOSTILE[kind][0])
    result = streamer("check", path.name, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert HOSTILE[kind][1] in lines[0] and all(line.startswith(path.name + ":") for line in lines)
    assert len(lines) <= 20 and max(map(len, lines)) < 500
    assert "Traceback" not in result.stderr and "hunter2" not in result.stderr


@pytest.mark.parametrize("kind", ["bomb", "deep", "types", "unset", "not text"])
def test_run_with_a_hostile_configuration(tmp_path: Path, kind: str) -> None:
    """The service does not start: one line with the place of the first fault, exit code 2."""
    path = written(tmp_path, HOSTILE[kind][0])
    result = streamer("run", path.name, "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"streamer: {re.escape(path.name)}:.*\n", result.stderr)
    assert HOSTILE[kind][1] in result.stderr


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "cameras.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_check_of_a_good_configuration(tmp_path: Path) -> None:
    """Nothing is said and the exit code is 0, with a variable from the environment in its place."""
    path = written(tmp_path, 'streams: {a: {source: "rtsp://u:${DOOR}@10.0.0.7/main"}}\n')
    result = streamer("check", path, DOOR="open sesame")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", result.stderr), "a password needs its escapes"
    result = streamer("check", path, DOOR="sesame")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    missing = streamer("check", tmp_path / "none.yaml")
    assert missing.returncode == 2 and len(missing.stderr.splitlines()) == 1
