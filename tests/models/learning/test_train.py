"""Training, on a data set that is learned in a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.learning import journal, keep
from models.learning.batch import Mixed
from models.learning.errors import LearningError
from models.learning.learner import Learner, dropped
from models.learning.recipe import Recipe
from models.learning.sets import Data
from models.learning.train import Hooks, Progress, Trained, judged_by, train
from tests.models.learning import tiny

ROOT = Path(__file__).resolve().parents[3]
# Everything that draws at random or remembers: augmentation, dropout, accumulation, averages, holding back.
EVERYTHING = {
    "epochs": 4,
    "accumulate": 2,
    "average": 0.9,
    "modality_dropout": 0.3,
    "balance_modalities": 0.3,
    "label_smoothing": 0.1,
}
CHILD = """
import sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from models.learning.train import Hooks, train
from tests.models.learning import tiny

def told(at):
    print(at.epoch, at.step, flush=True)
    if (at.epoch, at.step) == (2, 2):
        sys.stdin.read()  # here it is killed

train(tiny.recipe(**{settings}), tiny.data(strength=0.1), Path(sys.argv[1]), Hooks(told, save_every_s=0))
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are made in the same order, whatever the machine and whoever else is on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Seen:
    """Notes each step, and asks to stop after some."""

    def __init__(self, stop_after: int = 0) -> None:
        self.steps: list[Progress] = []
        self._stop_after = stop_after

    def __call__(self, at: Progress) -> None:
        self.steps.append(at)

    def stop(self) -> bool:
        return 0 < self._stop_after <= len(self.steps)


def run(
    out: Path, hooks: Hooks | None = None, *, task: str = "classes", strength: float = 0.6, **settings: object
) -> Trained:
    return train(tiny.of_task(tiny.recipe(**settings), task), tiny.data(task, strength=strength), out, hooks)


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in journal.read(out / journal.CURVES) if "epoch" not in line]


@pytest.mark.parametrize(
    ("task", "figure", "at_least"), [("classes", "accuracy", 0.9), ("labels", "f1", 0.9), ("numbers", "r2", 0.8)]
)
def test_learns_every_task(tmp_path: Path, task: str, figure: str, at_least: float) -> None:
    """Clips that can be told are told, also those that it never saw, and the checkpoint says so too."""
    done = run(tmp_path, task=task, epochs=6)
    assert done.figures["test"][figure] >= at_least
    assert keep.read_learned(done.checkpoint).figures == done.figures
    assert set(done.figures["modalities"]) == {"video", "audio"}


def test_learns_sequences(tmp_path: Path) -> None:
    """Sequences of symbols are learned through the decoder, and scored by their word error."""
    done = run(tmp_path, task="sequence", epochs=12, rate=1e-2)
    first = next(line for line in journal.read(tmp_path / journal.CURVES) if "epoch" in line)
    assert done.figures["validation"]["word_error"] < min(0.35, first["word_error"])


def test_numbers_come_in_their_own_unit(tmp_path: Path) -> None:
    """Numbers are learned standardised, and told as they were given: around 100 to 150, not around 0."""
    done = run(tmp_path, task="numbers", epochs=6)
    loaded = keep.load_network(done.checkpoint)
    with torch.no_grad():
        raw = loaded.network(tiny.data("numbers").test.batch(range(6), None).parts)
    said = loaded.calibration.apply(raw)
    assert 80 < float(said.min()) < float(said.max()) < 170
    assert done.figures["test"]["mae"] < 15


def test_a_seed_repeats_bit_for_bit(tmp_path: Path) -> None:
    """The same seed makes the same losses and the same checkpoint to the last bit; another seed makes others."""
    one, again = run(tmp_path / "1", **EVERYTHING), run(tmp_path / "2", **EVERYTHING)
    run(tmp_path / "3", **{**EVERYTHING, "seed": 1})
    assert losses(tmp_path / "1") == losses(tmp_path / "2") != losses(tmp_path / "3")
    assert one.checkpoint.read_bytes() == again.checkpoint.read_bytes()


@pytest.mark.parametrize("task", ["classes", "sequence"])
def test_goes_on_after_a_kill_as_if_nothing_had_been(tmp_path: Path, task: str) -> None:
    """A training killed by SIGKILL within its second epoch and resumed has every loss, every validation and the
    checkpoint of one that was never interrupted, bit for bit."""
    settings = EVERYTHING if task == "classes" else {"epochs": 3, "average": 0.9, "modality_dropout": 0.3}
    child = CHILD.format(settings=settings)
    if task == "sequence":
        child = child.replace("tiny.recipe(", "tiny.of_task(tiny.recipe(").replace(
            "), tiny.data(", "), 'sequence'), tiny.data('sequence', "
        )
    process = subprocess.Popen(
        [sys.executable, "-c", child, str(tmp_path / "killed")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.split())
        if said[-1] == ["2", "2"]:
            break
    process.kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, errors
    assert not (tmp_path / "killed" / "report.html").exists()

    seen = Seen()
    resumed = run(tmp_path / "killed", Hooks(seen, resume=True), task=task, strength=0.1, **settings)
    whole = run(tmp_path / "whole", task=task, strength=0.1, **settings)
    assert (seen.steps[0].epoch, seen.steps[0].step) == (2, 2)  # the step that was told but not saved is made again
    assert journal.read(tmp_path / "killed" / journal.CURVES) == journal.read(tmp_path / "whole" / journal.CURVES)
    assert resumed.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    assert resumed.figures == whole.figures


def test_stops_when_asked_and_goes_on(tmp_path: Path) -> None:
    """Asked to stop within its third epoch, it ends with the best so far scored and reported; resumed, it gets to the
    very same end as one that was never stopped."""
    seen = Seen(stop_after=10)
    stopped = run(tmp_path / "1", Hooks(seen, seen.stop), strength=0.1, **{**EVERYTHING, "accumulate": 1})
    assert stopped.ended == "stopped"
    assert len(seen.steps) == 10 and seen.steps[-1].epoch == 3
    assert stopped.report.is_file() and stopped.figures["test"]
    resumed = run(tmp_path / "1", Hooks(resume=True), strength=0.1, **{**EVERYTHING, "accumulate": 1})
    whole = run(tmp_path / "2", strength=0.1, **{**EVERYTHING, "accumulate": 1})
    assert resumed.ended == whole.ended == "epochs"
    assert losses(tmp_path / "1") == losses(tmp_path / "2")
    assert resumed.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_stopped_before_any_validation_it_keeps_what_it_has(tmp_path: Path) -> None:
    """A training that is stopped after its first step leaves a scored checkpoint all the same."""
    seen = Seen(stop_after=1)
    done = run(tmp_path, Hooks(seen, seen.stop))
    assert done.ended == "stopped" and len(seen.steps) == 1
    assert keep.load_network(done.checkpoint).learned.figures["validation"]
    resumed, whole = run(tmp_path, Hooks(resume=True)), run(tmp_path / "whole")
    assert journal.read(tmp_path / journal.CURVES) == journal.read(tmp_path / "whole" / journal.CURVES)
    assert resumed.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_ends_by_the_minutes_it_is_given(tmp_path: Path) -> None:
    """Where the time is over after a step, it ends there, keeps what it has, and goes on when it is given more."""
    done = run(tmp_path, minutes=1e-9)
    assert done.ended == "minutes" and len(losses(tmp_path)) == 1
    assert done.checkpoint.is_file()
    more = run(tmp_path, Hooks(resume=True), minutes=60.0)
    assert more.ended == "epochs" and len(losses(tmp_path)) == 12


def test_ends_when_nothing_gets_better(tmp_path: Path) -> None:
    """With a patience of two it ends two epochs after its best one; nothing gets better at a rate of nothing."""
    done = run(tmp_path, rate=1e-30, patience=2, epochs=20)
    assert done.ended == "patience"
    epochs = [line["epoch"] for line in journal.read(tmp_path / journal.CURVES) if "epoch" in line]
    assert epochs[-1] == done.epochs + 2 < 20


def test_the_last_epoch_is_kept_where_the_recipe_says_so(tmp_path: Path) -> None:
    """Whatever validation says of it, and then it says nothing about the end either."""
    done = run(tmp_path, rate=1e-30, patience=2, epochs=5, keep="last")
    assert (done.ended, done.epochs) == ("epochs", 5)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    """Resuming what is finished makes no step and gives the same figures; its state holds no tensors any more."""
    first = run(tmp_path)
    seen = Seen()
    again = run(tmp_path, Hooks(seen, resume=True))
    assert not seen.steps and again.figures == first.figures and again.ended == "epochs"
    assert (tmp_path / "state.safetensors").stat().st_size < 10_000


def test_resuming_nothing_begins(tmp_path: Path) -> None:
    """Resume in a folder without a state is a beginning."""
    assert run(tmp_path, Hooks(resume=True)).ended == "epochs"


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    """Another recipe, other clips, and a damaged state are each refused in one line that names the file."""
    seen = Seen(stop_after=2)
    run(tmp_path, Hooks(seen, seen.stop))
    with pytest.raises(LearningError, match=r"state\.safetensors.*another recipe \(train"):
        run(tmp_path, Hooks(resume=True), rate=1e-4)
    with pytest.raises(LearningError, match="other clips"):
        train(tiny.recipe(), tiny.data(clips=39), tmp_path, Hooks(resume=True))
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(LearningError, match="damaged"):
        run(tmp_path, Hooks(resume=True))


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    """Training that has blown up ends with what to change, and its last sound checkpoint stays."""
    data = tiny.data()
    data.train._x["audio"][5] = np.inf  # type: ignore[attr-defined]
    with pytest.raises(LearningError, match=r"epoch 1, step \d.*lower\s+train.rate"):
        train(tiny.recipe(), data, tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation": tiny.Tokens("classes", 0, 2)}, "no clip is for validation"),
        ({"train": tiny.Tokens("classes", 0, 1)}, "no clip is for training"),
    ],
)
def test_sets_without_clips_are_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    """Nothing to learn from, or nothing to judge by, is told before anything is done."""
    with pytest.raises(LearningError, match=message):
        train(tiny.recipe(), replace(tiny.data(), **changed), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def learner(data: Data | None = None, made: Recipe | None = None, **settings: object) -> Learner:
    return Learner(made or tiny.recipe(**settings), data or tiny.data(), torch.device("cpu"))


def still() -> Data:
    """Clips that augmentation doesn't change."""
    data = tiny.data()
    return replace(data, train=tiny.Tokens("classes", 36, 1, change=0.0))


def test_accumulated_batches_count_as_one() -> None:
    """Four batches of 3 accumulated have the gradients of one batch of 12."""
    plain = replace(tiny.recipe(), fusion=replace(tiny.recipe().fusion, dropout=0.0))
    whole = learner(still(), replace(plain, train=replace(plain.train, batch=12)))
    parts = learner(still(), replace(plain, train=replace(plain.train, batch=3, accumulate=4)))
    one, other = whole.step(0, 0, 0, 3), parts.step(0, 0, 0, 3)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert one["norm"] == pytest.approx(other["norm"], rel=1e-4)
    for here, there in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        assert (here.grad is None) == (there.grad is None)
        if here.grad is not None and there.grad is not None:
            torch.testing.assert_close(here.grad, there.grad, rtol=1e-3, atol=1e-6)


def test_mixed_clips_count_for_both_targets() -> None:
    """The loss of a clip that another was mixed into is the weighted sum of both targets' losses."""
    made = learner(still())
    made.network.eval()
    batch = made._train.batch(range(6), None)
    other = torch.roll(batch.target, 1)
    weight = torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    own, foreign = made._of(batch), made._of(replace(batch, target=other))
    mixed = made._of(replace(batch, mixed=Mixed(other, weight)))
    torch.testing.assert_close(mixed, weight * own + (1 - weight) * foreign)


def test_dropping_modalities_leaves_each_clip_one() -> None:
    """With certainty asked to lose a modality, each clip loses one and keeps one, either as often; a clip that has one
    alone keeps it; what was given stays as it was."""
    batch = tiny.Tokens("classes", 400, 1).batch(range(400), None)
    lacking = torch.arange(400) >= 10
    batch = replace(batch, parts={**batch.parts, "audio": batch.parts["audio"].only(lacking)})
    after = dropped(batch, 1.0, np.random.default_rng(0))
    video, audio = after.parts["video"].present(), after.parts["audio"].present()
    assert bool((video ^ audio)[10:].all()) and bool(video[:10].all())
    assert 150 < int(video[10:].sum()) < 240
    assert bool(batch.parts["video"].present().all())
    some = dropped(batch, 0.25, np.random.default_rng(0))
    both = some.parts["video"].present() & some.parts["audio"].present()
    assert 70 < int((~both)[10:].sum()) < 130


def test_mixed_precision_trains(tmp_path: Path) -> None:
    """In bf16 the same is learned."""
    assert run(tmp_path, precision="bf16", epochs=6).figures["test"]["accuracy"] >= 0.9


def test_starts_from_a_checkpoint(tmp_path: Path) -> None:
    """Encoders come from the checkpoint that `start` names, and the fusion where it fits: with other outputs all of it
    but the last layer. A checkpoint of another width is refused."""
    first = run(tmp_path / "first")
    given = keep.load_network(first.checkpoint).network
    data = replace(tiny.data(), outline=replace(tiny.data().outline, outputs=5))
    made = learner(data, replace(tiny.recipe(), start=str(first.checkpoint)))
    for name, tensor in made.network.state_dict().items():
        same = name in given.state_dict() and torch.equal(tensor, given.state_dict()[name])
        assert same == (not name.startswith("fusion.head.4")), name
    wider = replace(tiny.recipe(), fusion=replace(tiny.recipe().fusion, width=32), start=str(first.checkpoint))
    with pytest.raises(LearningError, match=r"video encoder of .* is not the recipe"):
        learner(data, wider)


def test_balanced_sampling_draws_the_rare_as_often() -> None:
    """Where one class has a tenth of the clips, an epoch of balanced sampling has as many of it as of the others."""
    data = tiny.data(clips=300)
    rare = data.train._classes == 2  # type: ignore[attr-defined]
    data.train._classes[np.flatnonzero(rare)[10:]] = 0  # type: ignore[attr-defined]
    drawn = learner(data, imbalance="balanced_sampling")._order(0)
    classes = np.bincount(data.train.targets().numpy()[drawn], minlength=3) / len(drawn)
    assert np.allclose(classes, 1 / 3, atol=0.08)
    assert sorted(learner(data)._order(0)) == list(range(300))
    assert list(learner(data)._order(0)) != list(learner(data)._order(1))


def test_the_curves_are_lines_of_json(tmp_path: Path) -> None:
    """Every step and every epoch has its line, with the validation's figures at each epoch's end."""
    run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "epoch" not in line] == list(range(1, 13))
    assert [(line["epoch"], line["step"]) for line in lines if "epoch" in line] == [(1, 4), (2, 8), (3, 12)]
    assert all({"accuracy", "loss"} <= set(line) for line in lines if "epoch" in line)


def test_rare_classes_count_alike_where_something_is_done_about_them() -> None:
    """The best epoch is chosen by the balanced accuracy then, and by the accuracy else."""
    assert judged_by(tiny.recipe()) == ("accuracy", True)
    assert judged_by(tiny.recipe(imbalance="focal")) == ("balanced_accuracy", True)
    assert judged_by(tiny.of_task(tiny.recipe(), "sequence")) == ("word_error", False)


def test_while_it_trains_cudnn_stays_on_and_repeats(tmp_path: Path) -> None:
    """Its algorithms are the repeatable ones, it isn't switched off, and all is as before afterwards."""
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic
    seen: list[tuple[bool, bool]] = []
    hooks = Hooks(lambda _: seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic)))
    run(tmp_path, hooks, epochs=1)
    assert set(seen) == {(before[0], True)}
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic) == before
