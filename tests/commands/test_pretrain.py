"""`streamer pretrain`, on a few real sounds and on wrong input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.learning import keep
from streamer.cli import main
from tests.commands import few

RECIPE = few.recipe(2)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["pretrain", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Sounds, read by a small encoder of its own."""
    path = tmp_path / "few.toml"
    path.write_text(RECIPE)
    return path


def test_from_sounds_that_nobody_labelled(shared_data: Path, tmp_path: Path, recipe: Path) -> None:
    """Media side by side are enough; the checkpoint is of kind "pretrained" and says by what method."""
    (tmp_path / "clips").mkdir()
    for path in sorted((shared_data / "esc10" / "rain").iterdir())[:12]:
        shutil.copy(path, tmp_path / "clips" / path.name)
    out = tmp_path / "out"
    done = invoke(recipe, "--method", "masked", "--data", tmp_path / "clips", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    learned = keep.read_learned(Path(said["checkpoint"]))
    assert learned.kind == "pretrained" and learned.data["method"] == "masked"
    assert said["ended"] == "epochs" and Path(said["page"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "gan"], "frozen encoders"),
        (["--method", "masked", "--data", "/nowhere"], "no such folder"),
        (["--method", "jigsaw"], "jigsaw"),
        ([], "--method"),
    ],
)
def test_wrong_input_is_one_clear_error(
    shared_data: Path, recipe: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Exit 2, with what is wrong."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for path in sorted((shared_data / "esc10" / "rain").iterdir())[:8]:
        shutil.copy(path, folder / path.name)
    done = invoke(recipe, "--data", folder, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2 and said in done.output
    assert "Traceback" not in done.output


def test_no_folder_is_named(recipe: Path) -> None:
    """A recipe without a folder needs --data."""
    done = invoke(recipe, "--method", "masked")
    assert done.exit_code == 2 and "--data FOLDER" in done.output
