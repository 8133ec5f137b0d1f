"""What a learned checkpoint's labels rest on: what they lose without it, by the graphs that are served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import checkpoint as checkpoints
from models.learning import explain, gradcam
from models.learning.batch import Part
from models.learning.recipe import Recipe
from streamer import engine as engines
from streamer.errors import WeightsError
from streamer.media import Basis, Coverage, Patch, Picture, Scores, Window
from streamer.why.explain import Asked, Explained, Graphs, session
from streamer.why.jpeg import Jpeg, decode
from streamer.why.variants import VariantExplainer
from tests.builders import S
from tests.learned import FROZEN, LIPS, NAMES, learned_checkpoint

RNG = np.random.default_rng(11)


class Asking:
    """An engine on a learned checkpoint, one window that it scored, and who explains it."""

    def __init__(self, path: Path, recipe: Recipe, pictures: int, patches: int) -> None:
        try:
            self.engine = engines.load("cpu", None, model=str(learned_checkpoint(path, recipe)))
            self.loaded = checkpoints.read(path).learned()
        except WeightsError as error:
            pytest.skip(f"no pretrained weights ({error}); bring them with: streamer weights")
        self.graphs = Graphs(*self.engine.why_graphs)
        self.explainer = VariantExplainer(self.graphs)
        geometry = self.engine.geometry
        side, step = geometry.frame_size, S // geometry.frame_rates[0]
        jpeg = Jpeg()
        self.jpegs = [jpeg.encode(_noise(side)) for _ in range(pictures)]
        self.window = Window(
            *("a", "e", 0, 0, geometry.window_ns, 0, 0, 0),
            tuple(Picture(i, i * step, decode(self.jpegs[i])) for i in range(pictures)),
            tuple(
                Patch(i, i * geometry.patch_hop_ns, RNG.normal(0, 0.1, geometry.patch_samples).astype(np.float32))
                for i in range(patches)
            ),
            Coverage(1.0, 1.0),
        )
        self.scores: Scores = self.engine.run([self.window])[0]

    def asked(self, label: int) -> Asked:
        basis = self.scores.basis
        assert isinstance(basis, Basis)
        middle_ns = self.engine.geometry.patch_ns // 2
        return Asked(
            label,
            [token.values.tobytes() for token in basis.video],
            [token.values.tobytes() for token in basis.audio],
            list(self.jpegs),
            [token.media_ns / S for token in basis.video],
            [(token.media_ns + middle_ns) / S for token in basis.audio],
        )

    def parts(self) -> dict[str, Part]:
        """What the window's scores rest on, as the learning side has it."""
        asked, made = self.asked(0), {}
        for name, tokens, when in (("video", asked.video, asked.video_when), ("audio", asked.audio, asked.audio_when)):
            if tokens:
                x = np.stack([np.frombuffer(token, np.float16) for token in tokens]).astype(np.float32)
                mask = torch.ones(1, len(tokens), dtype=torch.bool)
                made[name] = Part(torch.from_numpy(x)[None], mask, torch.tensor([when]))
        return made

    def why(self, label: int) -> Explained:
        return self.explainer.explain(self.asked(label))


def _noise(side: int) -> NDArray[np.uint8]:
    """A picture with something in it: blocks, which a JPEG keeps."""
    blocks = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((side // 8, side // 8, 1), np.uint8))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Asking:
    """Frozen encoders: four pictures and three patches."""
    return Asking(tmp_path_factory.mktemp("frozen") / "c.safetensors", FROZEN, 4, 3)


@pytest.fixture(scope="module")
def lips(tmp_path_factory: pytest.TempPathFactory) -> Asking:
    """Carried encoders: forty pictures, 25 a second, and no sound."""
    return Asking(tmp_path_factory.mktemp("lips") / "c.safetensors", LIPS, 40, 0)


def test_moments_count_by_what_is_lost_without_them(frozen: Asking) -> None:
    """Score and share are those that were told; each picture's and patch's part of what single ones cost is in the
    proportion in which the network's own log-odds fall without it."""
    parts = frozen.parts()
    for label in range(len(NAMES)):
        told = frozen.why(label)
        assert told.score == pytest.approx(float(frozen.scores.scores[label]), abs=1e-3)
        assert told.share == pytest.approx(frozen.scores.shares[label].tolist(), abs=1e-2)
        assert (len(told.video), len(told.audio)) == (4, 3)
        expected = explain.left_out(explain.score_of(frozen.loaded.network, label, "classes"), parts)
        for name, moments in (("video", told.video), ("audio", told.audio)):
            mass = expected[name].numpy()
            np.testing.assert_allclose([part for _, part in moments], mass / max(mass.sum(), 1e-9), atol=0.02)
    assert sum(mass for _, mass in told.video) == pytest.approx(1.0) or not any(mass for _, mass in told.video)


def test_a_moment_by_itself_has_its_own_probability(frozen: Asking) -> None:
    """The score of a moment is what the network says of a window with nothing else in it."""
    told, parts = frozen.why(1), frozen.parts()
    alone = Part(parts["audio"].x, torch.tensor([[False, True, False]]), parts["audio"].when)
    with torch.no_grad():
        tokens = {"audio": frozen.loaded.network.encoder("audio").tokens(alone)}
        expected = frozen.loaded.calibration.apply(frozen.loaded.network.fusion(tokens))[0, 1]
    assert told.audio[1][0] == pytest.approx(float(expected), abs=1e-3)


def test_the_heat_over_a_picture_is_grad_cam(frozen: Asking) -> None:
    """With the frozen encoder the map is that of the gradient, which the learning side computes by torch from the same
    feature maps, and lies over the picture whose moment counts most."""
    parts = frozen.parts()
    pixels = np.stack([picture.rgb for picture in frozen.window.pictures])
    features = torch.from_numpy(session(frozen.graphs.features).run(["features"], {"pixels": pixels})[0])
    shown = 0
    for label in range(len(NAMES)):
        told = frozen.why(label)
        if told.picture is None:
            continue  # no single picture speaks for it
        assert told.video[told.picture][1] == max(mass for _, mass in told.video)
        expected = gradcam.frozen_cam(frozen.loaded.network, parts, "classes", label, features)[told.picture].numpy()
        if any(told.heat):
            shown += 1
            assert (told.rows, told.columns) == (7, 7)
            np.testing.assert_allclose(told.heat, expected.ravel() / expected.max(), atol=0.02)
    assert shown


def test_carried_encoders_have_a_map_of_what_they_look_at(lips: Asking) -> None:
    """Where the encoder looks at a part of the picture alone, only that part can count; neighbouring pictures of forty
    share their moment's part."""
    told = lips.why(0)
    assert len(told.video) == 40 and told.audio == [] and told.share[1] == 0.0
    assert sum(mass for _, mass in told.video) == pytest.approx(1.0, abs=1e-6)
    assert told.picture is not None and (told.rows, told.columns) == (28, 28)
    heat = np.array(told.heat).reshape(28, 28)
    assert heat.max() == 1.0
    outside = np.ones((28, 28), bool)
    outside[14:, 7:21] = False
    assert not heat[outside].any()


def test_a_picture_that_is_not_kept_has_no_map(frozen: Asking) -> None:
    """Without its JPEG the moment that counts most is still named."""
    asked = frozen.asked(0)
    told = frozen.explainer.explain(Asked(0, asked.video, asked.audio, [None] * 4, asked.video_when, asked.audio_when))
    assert told.picture is not None and told.heat == []


def test_a_window_with_nothing_in_it_is_explained(frozen: Asking) -> None:
    """No picture and no sound: the prior's score, and no moments."""
    told = frozen.explainer.explain(Asked(0, [], [], []))
    assert told.video == [] and told.audio == [] and told.picture is None and 0 <= told.score <= 1
