"""`streamer eval`: a checkpoint's figures for people and as JSON; wrong input is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.commands.eval import figure, tell
from tests.models.learning import sights

DELETED = {"ratio": 2.5, "interval": [1.5, None], "pointed": 0.5, "random": 0.2}
DOCUMENT = {
    "checkpoint": "doors",
    "digest": "0123",
    "data": "clips",
    "n": 3,
    "split": "test",
    "without": ["audio"],
    "snr_db": -5.0,
    "accuracy": 0.5,
    "mae_ms": 31.26,
    "intervals": {"accuracy": [0.25, 0.75], "mae_ms": [20.0, 40.0]},
    "modalities": {"video+text": {"accuracy": 0.5, "interval": [0.25, 0.75]}},
    "classes": {"open": {"n": 2, "recall": 0.5}, "shut": {"n": 1, "recall": 1.0}},
    "latency_ms": {"p50": 1.5, "p95": 2.5, "clips": 20, "threads": 1, "by": "torch, eager"},
    "deletion": {"clips": 3, "attention": DELETED, "left_out": {**DELETED, "ratio": None}},
    "notes": ["two clips are left out"],
}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> sights.Learned:
    return sights.learned(tmp_path_factory.mktemp("sights"))


def run(learned: sights.Learned, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", *arguments], env={"STREAMER_CACHE": str(learned.cache)})


def test_json_is_one_object(learned: sights.Learned) -> None:
    """Standard output is one JSON object with the figures; progress is not in it."""
    done = run(learned, str(learned.checkpoint), str(learned.folder), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["n"] == 12 and found["accuracy"] >= 0.9 and len(found["intervals"]["balanced_accuracy"]) == 2


def test_options_reach_the_judge(learned: sights.Learned) -> None:
    """A modality taken away, noise, and another split, each by its option."""
    options = ("--without", "video", "--snr", "-40", "--split", "validation", "--json", "--seed", "3")
    found = json.loads(run(learned, str(learned.checkpoint), str(learned.folder), *options).stdout)
    assert (found["n"], found["split"], found["without"], found["snr_db"], found["seed"]) == (
        8,
        "validation",
        ["video"],
        -40.0,
        3,
    )
    assert found["accuracy"] <= 0.6


def test_people_read_a_table(learned: sights.Learned) -> None:
    """Without --json the figures have units, and every class and set of modalities has a row."""
    done = run(learned, str(learned.checkpoint), str(learned.folder))
    assert done.exit_code == 0 and "balanced accuracy" in done.stdout and " %" in done.stdout
    for name in (*sights.CLASSES, "video + audio"):
        assert name in done.stdout


def test_everything_of_a_document_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Conditions, intervals in the figure's unit, deletion with and without a ratio, notes."""
    tell(DOCUMENT)
    said = capsys.readouterr().out
    for line in (
        "without audio, noise at -5 dB",
        "31.3 ms   20.0 ms to 40.0 ms",
        "25.0 % to 75.0 %",
        "video + text",
        "1.50 ms a clip (p95 2.50), torch, eager, 1 thread",
        "costs 0.500, random 0.200: 2.5 times as much (1.5 to no bound)",
        "note: two clips are left out",
    ):
        assert line in said
    assert said.count("times as much") == 1


def test_figures_have_their_units() -> None:
    """Fractions in hundredths, times in milliseconds, counts as they are, nothing for nothing."""
    assert figure("accuracy", 0.934) == "93.4 %" and figure("mae_ms", 12.0) == "12.0 ms"
    assert figure("n", 3) == "3" and figure("loss", 0.12345) == "0.1235" and figure("ratio", None) == "-"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--without", "video", "--without", "audio"), "nothing is left"),
        (("--without", "audio", "--snr", "0"), "no sound"),
        (("--without", "smell"), "smell"),
        (("--snr", "0", "--noise", "nowhere/*.wav"), "no noise files"),
    ],
)
def test_wrong_questions_exit_with_2(learned: sights.Learned, options: tuple[str, ...], said: str) -> None:
    """One line, no traceback."""
    done = run(learned, str(learned.checkpoint), str(learned.folder), *options)
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output


def test_missing_input_exits_with_2(learned: sights.Learned, tmp_path: Path) -> None:
    """No such checkpoint, no such folder, an empty folder, a folder of unknown classes: each is named."""
    other = sights.folder(tmp_path / "other", {"": 1}, seed=2)
    (other / "left-low").rename(other / "sideways")
    (tmp_path / "empty").mkdir()
    checkpoint = str(learned.checkpoint)
    for arguments, said in (
        (("none.safetensors", str(learned.folder)), "none.safetensors"),
        ((checkpoint, str(tmp_path / "nowhere")), "nowhere"),
        ((checkpoint, str(tmp_path / "empty")), "no clips"),
        ((checkpoint, str(other)), "sideways"),
    ):
        done = run(learned, *arguments)
        assert done.exit_code == 2 and said in done.stderr, (arguments, done.output)
        assert done.stderr.count("\n") == 1


def test_tags_names_what_it_has_no_label_for(learned: sights.Learned) -> None:
    """The pretrained checkpoint can be scored where names match; else it says which don't."""
    done = CliRunner().invoke(main, ["eval", "tags", str(learned.folder)])
    if "weights" in done.output and done.exit_code == 2 and "no label" not in done.output:
        pytest.skip(f"no pretrained weights ({done.output.strip()}); bring them with: streamer weights")
    assert done.exit_code == 2 and "tags has no label" in done.stderr and "left-high" in done.stderr


def test_tags_is_scored_where_names_match(shared_data: Path, tmp_path: Path) -> None:
    """Dogs and rain of real recordings: a right label is among the first five of most, each name with its labels."""
    for name in ("dog_bark", "rain"):
        (tmp_path / name).mkdir()
        for file in sorted((shared_data / "esc10" / name).glob("*.opus"))[:3]:
            (tmp_path / name / file.name).symlink_to(file)
    done = CliRunner().invoke(main, ["eval", "tags", str(tmp_path), "--json"])
    if done.exit_code == 2 and "weights" in done.output:
        pytest.skip(f"no pretrained weights ({done.output.strip()}); bring them with: streamer weights")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["n"] == 6 and found["top5"] >= 0.8 and found["mean_average_precision"] >= 0.8
    assert found["classes"]["dog_bark"]["labels"] == ["Dog", "Animal"]
