"""Calibration: scores that are probabilities, on clips that it wasn't fitted to."""

from __future__ import annotations

import json

import pytest
import torch

from models.learning import calibration, metrics
from models.learning.calibration import Calibration


def classes(clips: int, sharper: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is the truth, made `sharper` times as sure, and classes drawn by the truth."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(clips, 4, generator=generator)
    return logits * sharper, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


def labels(clips: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three labels: too sure, too unsure, and shifted."""
    generator = torch.Generator().manual_seed(seed)
    truth = 2 * torch.randn(clips, 3, generator=generator)
    target = (torch.rand(clips, 3, generator=generator) < truth.sigmoid()).float()
    return truth * torch.tensor([3.0, 0.4, 1.0]) + torch.tensor([0.0, 0.0, 2.0]), target


@pytest.mark.parametrize("sharper", [0.3, 3.0])
def test_a_temperature_is_found(sharper: float) -> None:
    """Logits that are three times too sure, or a third as sure as they should be, are put right, on other clips; which
    class is likeliest doesn't change."""
    raw, target = classes(800, sharper, 0)
    found = calibration.fit("classes", raw, target)
    assert found.scale[0] == pytest.approx(1 / sharper, rel=0.15) and found.bias == (0.0,)
    other, truth = classes(2000, sharper, 1)
    before = metrics.class_calibration_error(Calibration("classes").apply(other).numpy(), truth.numpy())
    after = metrics.class_calibration_error(found.apply(other).numpy(), truth.numpy())
    assert after < 0.04 < before
    assert found.note["ece_after"] < found.note["ece_before"]
    assert torch.equal(found.apply(other).argmax(dim=1), other.argmax(dim=1))


def test_a_bias_each_where_it_is_asked_for() -> None:
    """Vector scaling finds that one class is said too often; a temperature alone can't."""
    raw, target = classes(1500, 1.0, 0)
    shifted = raw + torch.tensor([2.0, 0.0, 0.0, 0.0])
    found = calibration.fit("classes", shifted, target, vector=True)
    bias = torch.tensor(found.bias) / found.scale[0]
    assert float(bias[0] - bias[1:].mean()) == pytest.approx(-2.0, abs=0.35)


def test_each_label_has_its_own() -> None:
    """Each label's scale and bias undo what was done to it."""
    found = calibration.fit("labels", *labels(1500, 0))
    assert found.scale == pytest.approx((1 / 3, 2.5, 1.0), rel=0.25)
    assert found.bias[2] == pytest.approx(-2.0, abs=0.4)
    raw, target = labels(4000, 1)
    after = found.apply(raw).numpy()
    for label in range(3):
        assert metrics.calibration_error(after[:, label], target[:, label].numpy() > 0.5) < 0.04


def test_a_rare_label_is_scaled_as_all_are() -> None:
    """Of three positives nothing is concluded about their label alone: no bias, and the scale of all together."""
    raw, target = labels(400, 0)
    target[:, 0] = 0
    target[:3, 0] = 1
    found = calibration.fit("labels", raw, target)
    assert found.bias[0] == 0.0 and found.bias[2] < -1.0
    assert found.scale[0] not in (found.scale[1], found.scale[2])


@pytest.mark.parametrize("task", ["classes", "labels"])
def test_too_few_clips_change_nothing(task: str) -> None:
    """A handful of clips leaves the scores as they are, and the note says that nothing was fitted."""
    raw, target = classes(12, 3.0, 0) if task == "classes" else labels(12, 0)
    found = calibration.fit(task, raw, target)
    assert (found.scale, found.bias) == ((1.0,), (0.0,)) and found.note["fitted"] is False


def test_faultless_clips_do_not_make_it_certain() -> None:
    """Where all of 60 validation clips are right, a score isn't driven to 1: it stays near what 60 right ones show."""
    target = torch.arange(60) % 3
    raw = torch.nn.functional.one_hot(target, 3) * 4.0
    scores = calibration.fit("classes", raw, target).apply(raw)
    assert 0.95 < float(scores.max()) < 0.995
    hot = torch.nn.functional.one_hot(target, 3).float()
    said = calibration.fit("labels", 8 * hot - 4, hot).apply(8 * hot - 4)
    assert 0.9 < float(said.max()) < 0.995


def test_noise_is_not_made_sure_of() -> None:
    """Logits that tell nothing end near equal chances."""
    generator = torch.Generator().manual_seed(0)
    raw, target = 5 * torch.randn(400, 4, generator=generator), torch.randint(0, 4, (400,), generator=generator)
    assert float(calibration.fit("classes", raw, target).apply(raw).max()) < 0.45


def test_numbers_are_put_back_into_their_unit() -> None:
    """What was learned as deviations from the mean is told in the target's unit."""
    found = calibration.of_numbers(torch.tensor([100.0]), torch.tensor([20.0]))
    assert found.apply(torch.tensor([[-1.0], [0.0], [0.5]])).squeeze(1).tolist() == [80.0, 100.0, 110.0]


@pytest.mark.parametrize("task", ["classes", "labels", "numbers", "sequence"])
def test_goes_through_a_header(task: str) -> None:
    """As JSON and back it is the same; what isn't one is an error that callers can name."""
    made = Calibration(task, (0.1, 2.0, 1 / 3), (0.0, -1.5, 0.25), {"clips": 3, "fitted": True})
    again = calibration.parse(json.loads(json.dumps(made.as_document())))
    assert again == made
    raw = torch.randn(2, 3)
    assert torch.equal(again.apply(raw), made.apply(raw))
    with pytest.raises(KeyError):
        calibration.parse({"task": task})
