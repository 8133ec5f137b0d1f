"""Explanations on trial: networks of which it is known what they rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.fusion.base import Fusion
from models.learning import judge, keep
from models.learning.batch import Part
from models.learning.cache import Sources
from models.learning.calibration import Calibration
from models.learning.keep import Loaded
from models.learning.network import Network, Outline
from models.learning.recipe import FusionRecipe, Recipe, VideoRecipe
from models.learning.trial import has_convolution, trial
from models.weights import Weights
from tests.models.learning import sights, tiny


def silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


class Knowing(Fusion):
    """A fusion that rests on the first token of the sound alone, of which the more the better, and says where it
    looks: there, or if it isn't honest elsewhere."""

    def __init__(self, inner: Fusion, honest: bool) -> None:
        super().__init__()
        self.modalities, self.size, self._honest = inner.modalities, inner.size, honest

    def forward(self, parts: dict[str, Part]) -> torch.Tensor:  # type: ignore[override]
        sound = parts["audio"]
        pull = (sound.x[:, 0] * (sound.x[:, 0] - sound.x.mean(dim=1)).detach()).sum(dim=1)
        first = (3.0 + pull - pull.detach()) * sound.mask[:, 0]
        return torch.stack([first, torch.zeros_like(first), torch.zeros_like(first)], dim=1)

    def mass(self, parts: dict[str, Part]) -> dict[str, torch.Tensor]:
        mass = {name: torch.zeros(part.mask.shape) for name, part in parts.items()}
        mass["audio"][:, 0 if self._honest else 2] = 1.0
        return mass


def of(honest: bool) -> Loaded:
    data = tiny.data()
    recipe = tiny.recipe()
    torch.manual_seed(0)
    network = Network(recipe, data.outline).eval()
    network.fusion = Knowing(network.fusion, honest)
    return Loaded(network, keep.Learned(recipe, data.outline, data.names, (), Calibration("classes")), {})


def test_an_honest_explanation_costs_all_and_a_random_token_its_part() -> None:
    """Of six tokens one counts: pointing at it costs six times what one at random does, at the smallest fraction."""
    found = trial(of(honest=True), tiny.data().test, 100, 0, silent)
    assert found["clips"] == 12 and found["share"] == {"video": 0.0, "audio": 1.0, "text": 0.0}
    smallest = found["attention"]["by_fraction"][0]
    assert smallest["pointed"] == pytest.approx(3.0, abs=1e-4)
    assert smallest["ratio"] == pytest.approx(6, rel=0.35)
    assert found["attention"]["interval"][0] > 1.5
    assert found["left_out"]["pointed"] == pytest.approx(found["attention"]["pointed"], abs=1e-4)


def test_a_dishonest_explanation_is_found_out() -> None:
    """Attention to a token that counts nothing costs less than random tokens do; leaving out finds the true one."""
    found = trial(of(honest=False), tiny.data().test, 100, 0, silent)
    assert found["attention_alone"]["by_fraction"][0]["pointed"] == pytest.approx(0, abs=1e-6)
    assert found["attention_alone"]["ratio"] < 1 < found["left_out"]["ratio"]


def test_at_most_so_many_clips_are_tried_and_told() -> None:
    """They are drawn by the seed, and progress is told of each."""
    told: list[tuple[str, int, int]] = []
    found = trial(of(honest=True), tiny.data().test, 5, 0, lambda *at: told.append(at))
    assert found["clips"] == 5 and told[-1] == ("deletion", 5, 5)
    assert found == trial(of(honest=True), tiny.data().test, 5, 0, silent)


def test_pictures_of_a_frozen_encoder_are_covered_too(
    pretrained: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network over frozen tokens has no convolution of its own: its pictures are encoded anew with places covered."""
    monkeypatch.setattr(judge, "sources_for", lambda recipe, weights: Sources(tmp_path / "cache", pretrained))
    folder = sights.folder(tmp_path / "clips", {"": 1})
    recipe = Recipe("frozen", video=VideoRecipe(rate=5), fusion=FusionRecipe("concat", 16, 2, 1))
    outline = Outline(4, longest_s=1.0)
    torch.manual_seed(0)
    network = Network(recipe, outline)
    assert not has_convolution(network)
    made = keep.Learned(recipe, outline, sights.CLASSES, (), Calibration("classes"))
    keep.save_checkpoint(tmp_path / "frozen.safetensors", network, made)
    found = judge.judge(str(tmp_path / "frozen.safetensors"), folder, judge.Ask(deletion=2))
    assert found["deletion"]["clips"] == 2 and np.isfinite(found["deletion"]["grad_cam"]["pointed"])
    assert found["deletion"]["share"] == {"video": 1.0, "audio": 0.0, "text": 0.0}
