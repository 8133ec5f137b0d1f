"""Explanations: shares, moments and places, each against networks of which the right answer is known; deletion tests
that tell a true explanation from a random one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.learning.batch import Part
from models.learning.deletion import DRAWS, FRACTIONS, covering, deletion, ratio
from models.learning.explain import Score, encode, explain, left_out, odds, pulls, score_of
from models.learning.gradcam import frozen_cam, grad_cam
from models.learning.network import Network, Outline
from models.learning.recipe import AudioRecipe, FusionRecipe, Recipe, VideoRecipe

ITEMS = 10


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def part(values: Tensor) -> Part:
    """One clip with these items `[N, W]`, one a tenth of a second."""
    count = len(values)
    return Part(values[None], torch.ones(1, count, dtype=torch.bool), torch.arange(count)[None] / 10)


def summing(parts: Mapping[str, Part]) -> Tensor:
    """A score that is the sum of the first channel of all items that are there: what each counts is known."""
    total = torch.zeros(len(next(iter(parts.values())).mask))
    for each in parts.values():
        total = total + (each.x[..., 0] * each.mask).sum(dim=1)
    return total


def two_parts() -> dict[str, Part]:
    """Pictures of which the fourth alone counts 5, and sound of which each item counts 0.1."""
    video = torch.zeros(ITEMS, 2)
    video[3, 0] = 5.0
    return {"video": part(video), "audio": part(torch.full((ITEMS, 2), 0.1))}


def network(kind: str = "attention", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    recipe = Recipe(
        "x",
        video=VideoRecipe(),
        audio=AudioRecipe(),
        fusion=FusionRecipe(kind=kind, width=16, heads=2, layers=1),  # type: ignore[arg-type]
    )
    return Network(recipe, Outline(outputs=4, longest_s=2.0)).eval()


def stored(seed: int = 0) -> dict[str, Part]:
    torch.manual_seed(seed)
    return {"video": part(torch.randn(6, 1280)), "audio": part(torch.randn(4, 1024))}


def test_odds_of_classes_are_log_odds_of_their_probability() -> None:
    """For classes the score is the logit of the softmax's probability, so what shifts all logits shifts no score."""
    logits = torch.randn(5, 4)
    p = logits.softmax(dim=1)[:, 2]
    assert torch.allclose(odds(logits, 2, "classes"), (p / (1 - p)).log(), atol=1e-5)
    assert torch.allclose(odds(logits + 7, 2, "classes"), odds(logits, 2, "classes"), atol=1e-5)
    assert torch.equal(odds(logits, 2, "labels"), logits[:, 2])


def test_left_out_finds_what_counts() -> None:
    """An item's mass is its part of what the score rests on."""
    mass = left_out(summing, two_parts())
    assert float(mass["video"][3]) == pytest.approx(5 / 6)
    assert float(mass["video"].sum()) == pytest.approx(5 / 6)
    assert mass["audio"].tolist() == pytest.approx([0.1 / 6] * ITEMS)


def test_what_is_not_there_has_no_mass() -> None:
    """A masked item counts nothing, whatever stands in it."""
    parts = two_parts()
    mask = parts["video"].mask.clone()
    mask[0, 3] = False
    parts["video"] = Part(parts["video"].x, mask, parts["video"].when)
    mass = left_out(summing, parts)
    assert float(mass["video"].sum()) == 0 and float(mass["audio"].sum()) == pytest.approx(1)


def test_a_true_explanation_passes_the_deletion_test() -> None:
    """Taking away what counts costs all of it at the smallest fraction; random tokens cost their part in the mean."""
    parts = two_parts()
    found = deletion(summing, parts, left_out(summing, parts), rng(), fractions=(0.05, 0.5))
    assert found.pointed[0] == pytest.approx(5.0)
    assert found.pointed[1] == pytest.approx(5.0 + 9 * 0.1, abs=1e-4)  # 10 of 20: the picture, then nine sounds
    assert found.random[0] == pytest.approx(0.05 * 6, abs=1.2)
    assert found.matched[0] == pytest.approx(0.1 * 5, abs=1.5)


def test_a_random_explanation_fails_it() -> None:
    """Over many clips, an explanation that knows nothing costs what random tokens do: the ratio's interval has 1."""
    pointed, random = [], []
    generator = rng()
    for _ in range(60):
        values = torch.from_numpy(generator.exponential(1.0, (ITEMS, 1))).float()
        parts = {"video": part(values)}
        found = deletion(summing, parts, {"video": torch.from_numpy(generator.random(ITEMS))}, generator, (0.3,))
        pointed.append(found.pointed[0])
        random.append(found.random[0])
    result = ratio(np.array(pointed), np.array(random), rng())
    assert result.low is not None and result.high is not None
    assert result.low < 1 < result.high
    assert result.value == pytest.approx(1, abs=0.15)


def test_a_flat_explanation_gains_nothing_from_the_order_of_tokens() -> None:
    """Where all masses are equal, which tokens are taken is drawn anew for every clip."""
    values = torch.arange(ITEMS).float()[:, None]
    flat = {"video": torch.ones(ITEMS)}
    generator = rng()
    costs = {float(deletion(summing, {"video": part(values)}, flat, generator, (0.1,)).pointed[0]) for _ in range(30)}
    assert len(costs) > 3


def test_matched_draws_take_as_many_of_each_modality() -> None:
    """With all that counts in one modality, equally, matched random tokens cost as much as the pointed ones: the
    moments say nothing there, only the modality does."""
    parts = {"video": part(torch.ones(ITEMS, 1)), "audio": part(torch.zeros(ITEMS, 1))}
    found = deletion(summing, parts, left_out(summing, parts), rng(), (0.2,))
    assert found.pointed[0] == pytest.approx(4) and found.matched[0] == pytest.approx(4)
    assert found.random[0] == pytest.approx(2, abs=0.8)


def test_the_ratio_is_none_where_random_tokens_cost_nothing() -> None:
    """A network that random tokens cost nothing has no ratio; its costs are told."""
    found = ratio(np.full(20, 2.0), np.full(20, -0.1), rng())
    assert found.value is None and found.high is None
    assert (found.pointed, found.clips) == (2.0, 20) and found.random == pytest.approx(-0.1)


def test_the_ratio_has_an_interval_over_clips() -> None:
    """Costs three times as large give 3, with an interval around it that narrows with the clips."""
    generator = rng()
    spans = []
    for clips in (20, 500):
        random = generator.uniform(0.5, 1.5, clips)
        found = ratio(3 * random + generator.normal(0, 1, clips), random, generator)
        assert found.low is not None and found.high is not None and found.low < 3.0 < found.high
        spans.append(found.high - found.low)
    assert spans[1] < spans[0] / 2


@pytest.mark.parametrize("kind", ["concat", "hierarchical", "attention"])
@pytest.mark.parametrize("method", ["attention", "left_out", "attention_alone"])
def test_every_fusion_is_explained(kind: str, method: str) -> None:
    """Shares and masses of each of the three fusions sum to 1, and an item's moment is told with its mass."""
    net = network(kind)
    encoded = encode(net, stored())
    found = explain(net, encoded, "classes", method=method)  # type: ignore[arg-type]
    assert sum(found.share) == pytest.approx(1, abs=1e-5) and found.share[2] == 0
    total = sum(float(each.sum()) for each in found.mass.values())
    assert total == pytest.approx(1, abs=1e-5)
    assert {name: tuple(each.shape) for name, each in found.when.items()} == {"video": (6,), "audio": (4,)}


def test_attention_counts_where_it_speaks_for_the_label() -> None:
    """What speaks against a label has no mass for it, however much the fusion looks there; what speaks for it has, and
    where the label changes so does what speaks for it."""
    net = network("concat")
    encoded = encode(net, stored())
    tokens = {name: net.encoder(name).tokens(part) for name, part in encoded.items()}
    masses = []
    for label in range(4):
        pull = pulls(net, tokens, "classes", label)
        found = explain(net, encoded, "classes", label)
        for name, each in found.mass.items():
            assert not each[pull[name] <= 0].any() or not (pull[name] > 0).any()
        masses.append(torch.cat(list(found.mass.values())))
        alone = explain(net, encoded, "classes", label, "attention_alone")
        assert sum(float(each.sum()) for each in alone.mass.values()) == pytest.approx(1, abs=1e-5)
    assert not torch.equal(masses[0] > 0, masses[1] > 0)


def test_a_missing_modality_has_no_share_and_no_mass() -> None:
    """A clip without sound is explained by its pictures alone."""
    net, parts = network(), stored()
    parts["audio"] = parts["audio"].only(torch.tensor([False]))
    found = explain(net, encode(net, parts), "classes")
    assert found.share == (1.0, 0.0, 0.0) and set(found.mass) == {"video"}


def test_deletion_of_a_network_compares_with_its_own_whole() -> None:
    """However many variants go through at once, a regression's cost is its distance from what it said of the whole."""
    net = network()
    encoded = encode(net, stored())
    score: Score = score_of(net, 0, "numbers")
    found = deletion(score, encoded, left_out(score, encoded), rng())
    assert found.pointed.shape == (len(FRACTIONS),) and DRAWS > 1
    assert (found.pointed >= 0).all() and (found.random >= 0).all()


class _Pictures(nn.Module):
    """A picture encoder of one convolution that passes red on: items uint8 `[N, S, S, 3]` -> `[N, 1]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.conv(pixels.permute(0, 3, 1, 2).float() / 255)
        return maps.mean(dim=(2, 3))


def red_network() -> Network:
    """Logits of two classes, the second of which is how red the pictures are."""
    net = network("concat")
    encoder = net.encoder("video")
    encoder.each, encoder.item_width = _Pictures(), 1

    class Over(nn.Module):
        def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
            return x

    class Fuse(nn.Module):
        modalities = ("video",)

        def forward(self, parts: Mapping[str, Part]) -> Tensor:
            red = (parts["video"].x[..., 0] * parts["video"].mask).sum(dim=1)
            return torch.stack([torch.zeros_like(red), red], dim=1)

    encoder.over, net.fusion = Over(), Fuse()  # type: ignore[assignment]
    return net


def test_grad_cam_points_at_what_the_label_was_told_by() -> None:
    """The map is high where the picture is red and nowhere else, and highest in the reddest of the clip's pictures."""
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    pixels[0, 2:4, 5:7, 0] = 255
    pixels[1, 6:, :2, 0] = 100
    maps = grad_cam(red_network(), {"video": part(pixels)}, "classes", 1)
    assert maps.shape == (2, 8, 8)
    assert torch.equal(maps[0] > 0, pixels[0, ..., 0] > 0) and torch.equal(maps[1] > 0, pixels[1, ..., 0] > 0)
    assert float(maps[0].max()) == 1.0 and float(maps[1].max()) == pytest.approx(100 / 255)


def test_grad_cam_of_the_other_label_is_empty() -> None:
    """What speaks against a label is no place that it was told by."""
    pixels = torch.full((1, 8, 8, 3), 200, dtype=torch.uint8)
    assert not grad_cam(red_network(), {"video": part(pixels)}, "classes", 0).any()


def test_grad_cam_leaves_missing_pictures_empty() -> None:
    """A masked picture has an empty map, and doesn't shift those of the others."""
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    pixels[1, 1, 1, 0] = 255
    there = part(pixels)
    there = Part(there.x, torch.tensor([[False, True]]), there.when)
    maps = grad_cam(red_network(), {"video": there}, "classes", 1)
    assert not maps[0].any() and float(maps[1, 1, 1]) == 1.0


def test_grad_cam_needs_a_convolution() -> None:
    """An encoder whose tokens were made elsewhere is refused: `frozen_cam` has its map."""
    with pytest.raises(ValueError, match="frozen_cam"):
        grad_cam(network(), stored(), "classes", 0)


def redness(pixels: Tensor) -> float:
    return float(pixels[..., 0].float().mean())


def test_covering_what_a_map_points_at_costs_more_than_covering_anything() -> None:
    """Where all red is in one cell of 64, covering a fifth of the cells costs its redness if the map points there, and
    less than half of that if they are drawn."""
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    pixels[0, 16:24, 40:48, 0] = 255
    pointed, random = covering(redness, pixels, (pixels[..., 0] > 0).float(), rng())
    assert pointed == pytest.approx(redness(pixels), rel=0.3)  # the mean colour has a little red in it
    assert random < pointed / 2


def test_a_flat_map_costs_what_random_cells_do() -> None:
    """A map that points everywhere alike is no better than chance."""
    pixels = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def edges(each: Tensor) -> float:
        return float(each.float().std(dim=(1, 2)).mean())

    found = [covering(edges, pixels, torch.ones(1, 8, 8), np.random.default_rng(seed)) for seed in range(10)]
    pointed, random = np.mean(found, axis=0)
    assert pointed == pytest.approx(random, rel=0.1)


def test_frozen_cam_follows_the_token_gradient() -> None:
    """Moving the token by the feature map at the map's highest place raises the label more than at its lowest."""
    net, parts = network("concat"), stored()
    torch.manual_seed(3)
    features = torch.randn(6, 1280, 7, 7)
    maps = frozen_cam(net, encode(net, parts), "classes", 1, features)
    assert maps.shape == (6, 7, 7) and float(maps.max()) == 1.0 and float(maps.min()) == 0.0
    picture, row, column = (int(each[0]) for each in torch.where(maps == 1))
    low_row, low_column = (int(each[0]) for each in torch.where(maps[picture] == 0))
    score = score_of(net, 1, "classes")

    @torch.no_grad()
    def moved(row: int, column: int) -> float:
        x = parts["video"].x.clone()
        x[0, picture] += 1e-3 * features[picture, :, row, column]
        return float(score(encode(net, {**parts, "video": parts["video"].of(x)})))

    assert moved(row, column) > moved(low_row, low_column)
