"""`streamer train`, on a few real sounds and on wrong input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.learning import keep
from streamer.cli import main
from tests.commands import few

ROOT = Path(__file__).resolve().parents[2]
RECIPE = few.recipe(3)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Sounds told apart by a small encoder of its own, trained for three epochs."""
    path = tmp_path / "few.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    """Eight clips of each of two classes."""
    for name in ("dog_bark", "rain"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for path in sorted((shared_data / "esc10" / name).iterdir())[:8]:
            shutil.copy(path, tmp_path / "clips" / name / path.name)
    return tmp_path / "clips"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are kept for this test alone."""
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))


def test_clips_become_a_checkpoint(recipe: Path, folder: Path, tmp_path: Path) -> None:
    """A folder of sounds gives a checkpoint, a report and curves, where the command says they are, and the figures that
    the checkpoint's header has."""
    done = invoke(recipe, "--data", folder, "--out", tmp_path / "out", "--json", "--seed", 7)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["ended"] == "epochs"
    loaded = keep.load_network(Path(said["checkpoint"]))
    assert loaded.names == ("dog_bark", "rain") and loaded.recipe.train.seed == 7
    assert loaded.learned.figures == said["figures"]
    assert loaded.learned.data["clips"] == {"training": 12, "validation": 4, "test": 0}
    assert Path(said["report"]).is_file() and (tmp_path / "out" / "curves.jsonl").is_file()
    assert "clips: 12 for training, 4 for validation" in done.stderr and "epoch 3 of 3" in done.stderr

    told = invoke(recipe, "--data", folder, "--out", tmp_path / "out", "--resume", "--seed", 7)
    assert told.exit_code == 0
    assert "validation: accuracy" in told.stdout and f"checkpoint: {said['checkpoint']}" in told.stdout
    assert "epoch 3 of 3" not in told.stderr  # it was finished


def test_interrupted_it_keeps_the_best_and_goes_on(recipe: Path, folder: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it with exit code 130, a checkpoint and a report; a second training in the same folder is refused
    until --resume goes on."""
    recipe.write_text(RECIPE.replace("epochs = 3", "epochs = 100000\npatience = 0"))
    command = [sys.executable, "-m", "streamer", "train", str(recipe), "--data", str(folder)]
    command += ["--out", str(tmp_path / "out"), "--device", "cpu"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2 of"):
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped; --resume goes on" in errors and "Traceback" not in errors
    assert "checkpoint:" in output and (tmp_path / "out" / "few.safetensors").is_file()

    again = invoke(recipe, "--data", folder, "--out", tmp_path / "out")
    assert again.exit_code == 2 and "go on with --resume" in again.stderr
    more = invoke(recipe, "--data", folder, "--out", tmp_path / "out", "--resume", "--minutes", "1e-6")
    assert more.exit_code == 0 and "ended by minutes" in more.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "no-such: no such recipe; give a TOML file, or one of"),
        (["RECIPE"], "few: the recipe names no folder of clips; give it with --data FOLDER"),
        (["RECIPE", "--data", "nowhere"], "nowhere: no such folder"),
        (["RECIPE", "--seed", "-1"], "seed"),
        (["RECIPE", "--minutes", "0"], "minutes"),
        (["RECIPE", "--data", "nowhere", "--device", "abacus"], "abacus"),
    ],
)
def test_wrong_input_is_one_line(recipe: Path, arguments: list[str], said: str) -> None:
    """What can't be used is named, with exit code 2 and without a traceback."""
    done = invoke(*[str(recipe) if word == "RECIPE" else word for word in arguments])
    assert done.exit_code == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_broken_recipe_is_told_with_its_place(recipe: Path) -> None:
    """The file, the table and the key are in the line."""
    recipe.write_text(RECIPE + "\nepoch = 3\n")
    done = invoke(recipe, "--data", "x")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and "few.toml: train: unknown key 'epoch'" in done.stderr


def test_all_learning_commands_are_listed_without_torch() -> None:
    """The list of commands has the learning side's, and showing it imports neither torch nor the learning rooms."""
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom streamer.cli import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'models', 'matplotlib')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    for name in ("train", "pretrain", "eval", "compare", "data"):
        assert f"\n  {name} " in done.stdout
    assert done.stdout.strip().endswith("[]"), done.stdout[-300:]


def test_a_command_has_its_own_help() -> None:
    """`train --help` is the command's own, not the line of the list."""
    done = invoke("--help")
    assert done.exit_code == 0 and "--resume" in done.stdout and "RECIPE" in done.stdout
