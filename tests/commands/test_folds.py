"""`streamer train --folds` and `--leave-out`, on a few real sounds and on wrong input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.learning import keep
from streamer.cli import main
from tests.commands import few

RECIPE = few.recipe(1, "[augment]\nspeed = 0.1\n")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments), "--device", "cpu"], catch_exceptions=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Sounds told apart by a small encoder of its own, trained for one epoch."""
    path = tmp_path / "few.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    """Of each of two classes three clips of each of two folds."""
    for name in ("dog_bark", "rain"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for fold in (1, 2):
            for path in sorted((shared_data / "esc10" / name).glob(f"{fold}-*"))[:3]:
                shutil.copy(path, tmp_path / "clips" / name / path.name)
    return tmp_path / "clips"


def test_folds_are_left_out_in_turn(recipe: Path, folder: Path, tmp_path: Path) -> None:
    """Each of the two folds is judged by a network of its own; figures go to standard output and to folds.json."""
    out = tmp_path / "out"
    done = invoke(recipe, "--data", folder, "--out", out, "--folds", 2, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [fold["left_out"] for fold in told["folds"]] == ["1", "2"]
    assert [fold["clips"] for fold in told["folds"]] == [6, 6] and told["clips"] == 12
    assert json.loads((out / "folds.json").read_text()) == told
    assert keep.read_learned(out / "seed-0-fold-1" / "few.safetensors").data["clips"]["test"] == 6


def test_one_group_is_left_out(recipe: Path, folder: Path, tmp_path: Path) -> None:
    """With --leave-out a single training keeps that fold for its test."""
    done = invoke(recipe, "--data", folder, "--out", tmp_path / "out", "--leave-out", "2", "--json")
    assert done.exit_code == 0, done.output
    assert "accuracy" in json.loads(done.stdout)["figures"]["test"]
    assert keep.read_learned(tmp_path / "out" / "few.safetensors").data["clips"]["test"] == 6


@pytest.mark.parametrize(
    "options, told",
    [
        (("--leave-out", "9"), "no group '9'"),
        (("--folds", 2, "--resume"), "without --resume"),
        (("--seeds", 3), "goes with --folds"),
    ],
)
def test_what_can_not_be_done(
    recipe: Path, folder: Path, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    """Wrong combinations and groups that aren't there are refused, saying so."""
    done = invoke(recipe, "--data", folder, "--out", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert told in done.stderr
