"""`streamer compare`: from a recipe and a folder to a table and a recommendation; wrong input is exit code 2."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.commands.progress import Bars, interruptible
from tests.models.learning import sights

RECIPE = """
name = "sights"
[data]
validation = 0.25
[video]
encoder = "lips"
rate = 5
size = 64
pixels = 32
[audio]
encoder = "speech"
[fusion]
kind = "concat"
width = 16
heads = 2
layers = 1
[train]
batch = 8
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "sights.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sights.folder(tmp_path_factory.mktemp("clips"), {"train": 2, "validation": 1, "test": 1})


def run(clips: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments], env={"STREAMER_CACHE": str(clips / ".cache")})


def test_a_comparison_leaves_a_table_and_a_page(recipe: Path, clips: Path, tmp_path: Path) -> None:
    """One short training of each of five; JSON on standard output and in the folder; the second time nothing is
    trained, and the table for people has the same recommendation."""
    arguments = (str(recipe), "--data", str(clips), "--out", str(tmp_path / "out"), "--seeds", "1", "--epochs", "1")
    done = run(clips, *arguments, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {one["name"] for one in found["candidates"]} == {
        "concat",
        "hierarchical",
        "attention",
        "video alone",
        "audio alone",
    }
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == found
    assert (tmp_path / "out" / "comparison.html").is_file()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").rglob("*.safetensors")}
    again = run(clips, *arguments)
    assert again.exit_code == 0 and f"Use {found['recommendation']['choice']}." in again.stdout
    assert "hierarchical" in again.stdout and "ms a window" in again.stdout
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").rglob("*.safetensors")}


def test_wrong_input_exits_with_2(recipe: Path, clips: Path, tmp_path: Path) -> None:
    """No such recipe, no folder named, no such folder: one line each."""
    for arguments, said in (
        (("none.toml", "--data", str(clips)), "none.toml"),
        ((str(recipe),), "--data"),
        ((str(recipe), "--data", str(tmp_path / "nowhere")), "nowhere"),
    ):
        done = run(clips, *arguments)
        assert done.exit_code == 2 and said in done.stderr and "Traceback" not in done.output


@pytest.fixture
def sigint_heeded() -> Iterator[None]:
    """Python's own handler: who was started in the background by a shell ignores SIGINT by inheritance."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_heeded")
def test_an_interrupt_is_heeded_once() -> None:
    """The first SIGINT is told to whoever asks; the second is a KeyboardInterrupt as ever, and so is any later."""
    with interruptible() as came:
        assert not came()
        os.kill(os.getpid(), signal.SIGINT)
        assert came()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)


def test_bars_leave_no_trace_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    """On a pipe only the lines that were said are written, to standard error."""
    with Bars() as bars:
        bars.show("reading clips", 1, 2)
        bars.say("1 of 5: concat")
        bars.forget("reading clips")
    written = capsys.readouterr()
    assert written.out == "" and written.err == "1 of 5: concat\n"
