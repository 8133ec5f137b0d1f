"""Whisper's encoder as a frozen one: the same numbers as where it is used to write down speech, and served live."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from models import data, whisper_encoder
from models.features import PATCH_SAMPLES, SAMPLE_RATE
from models.learning import items, keep
from models.learning.augment import Degrade, Noises
from models.learning.batch import Part
from models.learning.cache import Sources
from models.learning.clips import Clip
from models.learning.items import ItemMaker
from models.learning.recipe import AudioRecipe, AugmentRecipe
from models.weights import Weights, WeightsFetchError
from models.whisper import JOINED_SHA256, ROLE, fetch_roles
from models.whisper_encoder import WIDTH, WhisperEncoder
from streamer import engine as engines
from streamer.media import Coverage, Patch, Window
from tests.learned import FROZEN, learned_checkpoint

HEARS = replace(FROZEN, name="hears", video=None, audio=AudioRecipe("whisper"))
SILENCE_S = 0.4


@pytest.fixture(scope="module")
def fetched() -> Weights:
    """The weights, Whisper's among them; where they can't be had, a skip that says why."""
    try:
        return fetch_roles([ROLE])
    except WeightsFetchError as error:
        pytest.skip(f"no speech model ({error}); `streamer weights` fetches it")


@pytest.fixture(scope="module")
def encoder(fetched: Weights) -> WhisperEncoder:
    return whisper_encoder.load(fetched.files[ROLE])


@pytest.fixture(scope="module")
def digit(shared_data: Path) -> Path:
    """Half a second of somebody who says a digit."""
    return shared_data / "fsdd" / "7_george_10.flac"


@pytest.fixture(scope="module")
def patch(digit: Path) -> NDArray[np.float32]:
    sound = data.sound(digit)[:PATCH_SAMPLES]
    return np.pad(sound, (0, PATCH_SAMPLES - len(sound)))


def test_pictures_are_those_of_whisper(patch: NDArray[np.float32]) -> None:
    """The log-mel of a patch is that of the published extractor, of the same sound between silences."""
    before = round(SILENCE_S * SAMPLE_RATE)
    whole = np.pad(patch, (before, 160 * 160 - before - PATCH_SAMPLES))
    wanted = FeatureExtractor()(whole, padding=0)[:, :160]
    found = whisper_encoder.WhisperMel()(torch.from_numpy(patch)[None])
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-4)


def test_it_gives_what_the_speech_model_gives(
    encoder: WhisperEncoder, fetched: Weights, patch: NDArray[np.float32]
) -> None:
    """Position by position the same as CTranslate2's own encoder; the token is its mean over each fourth."""
    with torch.no_grad():
        mel = encoder.features(torch.from_numpy(patch)[None])
        found, token = encoder.heard(mel)[0].numpy(), encoder(torch.from_numpy(patch)[None])[0].numpy()
    folder = str(fetched.files[ROLE].parent)
    model = ctranslate2.models.Whisper(folder, device="cpu", compute_type="float32", intra_threads=1)
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel.numpy()))
    wanted = np.array(model.encode(view))[0]
    np.testing.assert_allclose(found, wanted, atol=5e-3)
    np.testing.assert_allclose(token, wanted.reshape(4, 20, 512).mean(axis=1).ravel(), atol=1e-3)


def test_how_loud_it_is_does_not_matter(encoder: WhisperEncoder, patch: NDArray[np.float32]) -> None:
    """At a tenth of the level, the same token nearly; silence and full scale give numbers."""
    sounds = np.stack([patch, patch / 10, np.zeros_like(patch), np.ones_like(patch)])
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(sounds))
    assert tokens.shape == (4, WIDTH) and torch.isfinite(tokens).all()
    alike = torch.nn.functional.cosine_similarity(tokens[:1], tokens[1:3])
    assert alike[0] > 0.99 > alike[1]


@pytest.mark.parametrize(
    "contents",
    [b"", b"neither", struct.pack("<IH4s", 6, 4, b"Tex\0"), struct.pack("<IH12sII", 6, 12, b"WhisperSpec\0", 3, 0)],
)
def test_another_file_is_refused_by_name(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"model\.bin: not the published weights of Whisper base"):
        whisper_encoder.load(path)


def test_items_of_clips_are_its_tokens(
    encoder: WhisperEncoder, fetched: Weights, digit: Path, patch: NDArray[np.float32], tmp_path: Path
) -> None:
    """A clip shorter than a patch is one token, in one form where nothing is changed."""
    assert keep.frozen(HEARS) == {ROLE: JOINED_SHA256}
    maker = ItemMaker(HEARS, Sources(tmp_path, fetched), Noises("", tmp_path))
    stored = maker.patches(Clip("seven", digit, target=("7",)))
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(patch)[None]).numpy()
    assert stored.x.shape == (1, 1, WIDTH)
    np.testing.assert_allclose(stored.x[0], wanted, atol=0.02)
    np.testing.assert_allclose(stored.when, [PATCH_SAMPLES / SAMPLE_RATE / 2])


def test_short_sounds_are_moved_whole(
    fetched: Weights, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forms of a sound that fills no patch begin at different moments, and nothing of it is lost."""
    heard: list[NDArray[np.float32]] = []

    def noted(patches: torch.Tensor) -> torch.Tensor:
        heard.extend(patches.numpy())
        return torch.zeros(len(patches), WIDTH)

    monkeypatch.setitem(items._LOAD, ROLE, lambda weights: noted)  # type: ignore[arg-type]
    recipe = replace(HEARS, augment=AugmentRecipe(sound_shift_s=0.3))
    clip = Clip("seven", digit, target=("7",))
    stored = ItemMaker(recipe, Sources(tmp_path, fetched), Noises("", tmp_path)).patches(clip)
    assert len(stored.x) == len(heard) == items.VARIANTS
    begins = [int(np.flatnonzero(patch)[0]) for patch in heard]
    assert len(set(begins)) == len(begins) and max(begins) - begins[0] <= 0.3 * SAMPLE_RATE
    for patch, begin in zip(heard, begins, strict=True):
        np.testing.assert_array_equal(patch[begin:], heard[0][begins[0] :][: len(patch) - begin])
        assert not heard[0][begins[0] :][len(patch) - begin :].any()
    plain = ItemMaker(recipe, Sources(tmp_path, fetched), Noises("", tmp_path), Degrade()).patches(clip)
    assert len(plain.x) == 1, "in evaluation it is heard as it is"


def test_it_is_served_from_patches_to_scores(
    encoder: WhisperEncoder, patch: NDArray[np.float32], tmp_path: Path
) -> None:
    """A checkpoint that reads it is loaded by its path, and says of live patches what its network says."""
    path = learned_checkpoint(tmp_path / "c.safetensors", HEARS)
    engine = engines.load("cpu", None, model=str(path))
    noise = np.random.default_rng(0).normal(0, 0.1, PATCH_SAMPLES).astype(np.float32)
    middle_ns = PATCH_SAMPLES * 1_000_000_000 // SAMPLE_RATE // 2
    patches = tuple(Patch(index, index * 480_000_000, sound) for index, sound in enumerate((patch, noise)))
    window = Window("a", "e", 0, 0, 3_000_000_000, 0, 1, 0, (), patches, Coverage(1.0, 1.0))
    (scores,) = engine.run([window])
    loaded = keep.load_network(path)
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(np.stack([patch, noise])))[None]
        when = torch.tensor([[0.0, 0.48]]) + middle_ns / 1e9
        part = Part(tokens, torch.ones(1, 2, dtype=torch.bool), when)
        wanted = loaded.network({"audio": part}).softmax(dim=1)[0]
    np.testing.assert_allclose(scores.scores, wanted.numpy(), atol=2e-3)
    assert np.ptp(scores.scores) > 1e-3, "weights that say the same of everything prove nothing"
