"""`streamer data check`: what is printed, and the exit code that says whether a folder can be learned from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamer.commands.data import data
from streamer.errors import UserError
from tests.media_factory import Spec, make, tone


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with two classes of three sounds each."""
    folder = tmp_path / "clips"
    for number in range(6):
        path = folder / ("dog" if number % 2 else "cat") / f"{number}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, Spec(0.5, video=None, audio="libopus", play=lambda t, n=number: tone(t * (1 + n / 5))))  # type: ignore[misc]
    return folder


def told(*arguments: str | Path) -> Result:
    """The command's outcome."""
    return CliRunner().invoke(data, ["check", *map(str, arguments)])


def test_a_folder_that_is_right(clips: Path, tmp_path: Path) -> None:
    """Exit code 0, a summary with a bar a class, and the picture where one is asked for."""
    result = told(clips, "--plot", tmp_path / "balance.svg")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "6 clips" in lines[0] and lines[-1] == "no fault found"
    assert any(line.strip().startswith("cat") and "█" in line for line in lines)
    assert (tmp_path / "balance.svg").is_file() and result.stderr == ""


def test_faults_are_lines(clips: Path) -> None:
    """Exit code 2, and one line a fault on standard error."""
    shutil.copy(clips / "dog" / "1.ogg", clips / "dog" / "copy.ogg")
    (clips / "cat" / "broken.ogg").write_text("no sound")
    result = told(clips)
    assert result.exit_code == 2
    faults = result.stderr.splitlines()
    assert len(faults) == 2 and "broken.ogg" in faults[0] and "copy.ogg" in faults[1]
    assert "no fault found" not in result.stdout


def test_json_has_it_all(clips: Path) -> None:
    """One object, on standard output alone, with the same exit code."""
    result = told(clips, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    found = json.loads(result.stdout)
    assert found["clips"] == 6 and found["counts"]["dog"]["train"] == 3 and found["faults"] == []
    (clips / "cat" / "broken.ogg").write_text("no sound")
    result = told(clips, "--json")
    assert result.exit_code == 2 and len(json.loads(result.stdout)["faults"]) == 1


def test_a_recipe_says_what_is_looked_at(clips: Path, tmp_path: Path) -> None:
    """Its target, its modalities; one that isn't there is one line."""
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "r"\n[video]\n')
    result = told(clips, "--recipe", recipe)
    assert result.exit_code == 2 and result.stderr == "no clip has video; take it out of the recipe\n"
    result = told(clips, "--recipe", tmp_path / "none.toml")
    assert isinstance(result.exception, UserError) and "no such recipe" in str(result.exception)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """A user's error, not a traceback."""
    result = told(tmp_path / "none")
    assert isinstance(result.exception, UserError) and "no such folder" in str(result.exception)
