"""Pretraining on made-up tokens: it learns, stops, goes on, and a task starts from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.learning import journal, keep
from models.learning.errors import LearningError
from models.learning.learner import Learner
from models.learning.pretrain import effect, loop
from models.learning.pretrain.contrastive import Contrastive
from models.learning.recipe import Recipe
from tests.models.learning import tiny


def curve(out: Path) -> list[float]:
    """The held-out loss of each epoch."""
    return [line["loss"] for line in journal.read(out / journal.CURVES) if "epoch" in line]


@pytest.mark.parametrize("method", ["masked", "gan", "contrastive"])
def test_it_learns_and_a_task_starts_from_it(tmp_path: Path, method: str) -> None:
    """Each method learns (a lower held-out loss; of gan, whose is no loss of its players, a generator that is told from
    real clips less than it was), and leaves a checkpoint whose encoders a task's network takes as they
    are, and a page with curves."""
    data = tiny.data(strength=1.0)
    done = loop.pretrain(tiny.recipe(epochs=4), data, tmp_path, method)
    losses = curve(tmp_path)
    made = [line["loss_1"] for line in journal.read(tmp_path / journal.CURVES) if "loss_1" in line]
    learned = made if method == "gan" else losses
    assert len(losses) == 4 and learned[-1] < learned[0]
    assert done.held_out == min(losses) and done.ended == "epochs"
    assert keep.read_learned(done.checkpoint).kind == "pretrained"
    assert done.page.read_text().count("<svg") == 2

    learner = Learner(replace(tiny.recipe(), start=str(done.checkpoint)), data, torch.device("cpu"))
    kept = load_file(done.checkpoint)
    own = learner.network.state_dict()
    taken = [name for name in own if name.startswith("encoders.")]
    assert taken and all(torch.equal(own[name], kept[name]) for name in taken)
    assert torch.isfinite(torch.tensor(learner.step(0, 0, 0, 1)["loss"]))


def test_views_of_one_modality() -> None:
    """With one modality, contrastive pretraining learns which two views are of one clip, of three clips."""
    torch.manual_seed(0)
    data = tiny.data(strength=0.05)
    method = Contrastive(replace(tiny.recipe(), video=None), data.outline)
    assert method.views == 2
    views = [data.train.batch([0, 1, 2], None).parts] * 2
    made = torch.optim.Adam(method.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = method.loss(views, 0)
        made.zero_grad()
        loss.backward()
        made.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) / 10 < 0.5 * sum(losses[:5]) / 5


def test_resumed_is_as_never_stopped(tmp_path: Path) -> None:
    """Stopped in its second epoch and resumed, it ends with the very weights and curves of one that was not."""
    recipe, data = tiny.recipe(epochs=3), tiny.data()
    loop.pretrain(recipe, data, tmp_path / "whole", "masked")
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 7  # asked after each of 4 steps, and at the end of the epoch

    stopped = loop.pretrain(recipe, data, tmp_path / "cut", "masked", loop.Hooks(stop=stop))
    assert stopped.ended == "stopped" and loop.unfinished(tmp_path / "cut")
    resumed = loop.pretrain(recipe, data, tmp_path / "cut", "masked", loop.Hooks(resume=True))
    assert resumed.ended == "epochs" and not loop.unfinished(tmp_path / "cut")
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")
    whole, cut = (load_file(tmp_path / one / "tiny.safetensors") for one in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)

    with pytest.raises(LearningError, match=r"another method.*--out"):
        loop.pretrain(recipe, data, tmp_path / "cut", "contrastive", loop.Hooks(resume=True))


def test_it_stops_when_it_gets_no_better(tmp_path: Path) -> None:
    """With a rate of nothing the held-out loss stays, and patience ends it."""
    recipe = tiny.recipe(epochs=9, rate=0.0, patience=2)
    done = loop.pretrain(recipe, tiny.data(), tmp_path, "masked")
    assert (done.ended, done.epoch) == ("patience", 1) and len(curve(tmp_path)) == 3


@pytest.mark.parametrize(
    ("recipe", "clips", "method", "said"),
    [
        (tiny.recipe(), 36, "jigsaw", "no such method; known are masked, gan, contrastive"),
        (tiny.recipe(batch=1), 36, "masked", "batch at least 2"),
        (tiny.recipe(), 3, "masked", "it takes two of each"),
        (tiny.recipe(rate=float("inf")), 36, "masked", "lower train.rate"),
    ],
)
def test_what_cannot_be(tmp_path: Path, recipe: Recipe, clips: int, method: str, said: str) -> None:
    """A wrong method, batch, number of clips or rate is one clear error."""
    with pytest.raises(LearningError, match=said):
        loop.pretrain(recipe, tiny.data(clips=clips), tmp_path, method)


def test_media_side_by_side(tmp_path: Path) -> None:
    """A folder of media without labels is read, some kept apart; one with nothing in it is an error."""
    with pytest.raises(LearningError):
        loop.unlabelled(tiny.recipe(), tmp_path)
    for place in range(20):
        (tmp_path / f"{place}.wav").write_bytes(b"")
    _, found = loop.unlabelled(tiny.recipe(), tmp_path)
    assert len(found.clips) == 20 and {clip.target for clip in found.clips} == {("clip",)}
    assert found.of("train") and found.of("validation")


def test_labels_are_drawn_of_each_class() -> None:
    """A tenth of 20, 10 and 1 clips are 2, 1 and 1; all are all."""
    targets = torch.tensor([0] * 20 + [1] * 10 + [2])
    assert torch.bincount(targets[effect.labelled(targets, 0.1, 0)]).tolist() == [2, 1, 1]
    assert effect.labelled(targets, 1.0, 0) == list(range(31))


def test_the_curve_is_drawn() -> None:
    """Each start has its line, named."""
    rows = [
        {"start": start, "labels": labels, "accuracy": labels} for start in ("masked", "gan") for labels in (0.1, 1.0)
    ]
    drawn = effect.curve(json.loads(json.dumps({"rows": rows})))
    assert drawn.startswith("<svg") and "masked" in drawn and "gan" in drawn
