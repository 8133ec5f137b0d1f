"""Checkpoints that come along, on real sounds, faces and voices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models import checkpoint, weights
from models.learning import keep, layouts
from models.learning.cache import Sources
from models.learning.clips import ClipSet
from models.learning.keep import Loaded
from models.learning.predict import only, predict
from models.learning.sets import Split, from_clips

CLASSES = ("chainsaw", "rain", "rooster")


def test_sounds_names_sounds(shared_data: Path, tmp_path: Path) -> None:
    """Of two clips of each of three classes it names at least five, and its figures are in its header."""
    path = checkpoint.SHIPPED / "sounds.safetensors"
    if not path.is_file():
        pytest.skip(f"no checkpoint sounds: runs/sounds.sh FOLDER 1 {path} makes it")
    try:
        pretrained = weights.fetch()
    except weights.WeightsFetchError as error:
        pytest.skip(f"no pretrained weights ({error}): streamer weights brings them")
    loaded = keep.load_network(path)
    found = layouts.read_clips(shared_data / "esc10", loaded.recipe)
    chosen = [clip for kind in CLASSES for clip in [one for one in found.clips if one.target == (kind,)][:2]]
    data = from_clips(loaded.recipe, ClipSet(found.folder, chosen, loaded.names), Sources(tmp_path, pretrained))
    told = [predict(loaded.network, split) for split in (data.train, data.validation) if len(split)]
    right = np.concatenate([(one.raw.argmax(1) == one.target).numpy() for one in told])
    assert len(right) == 6 and right.sum() >= 5
    assert loaded.learned.figures["validation"]["accuracy"] > 0.8


SENTENCES = 8


def faces(name: str, shared_data: Path, cache: Path) -> tuple[Loaded, Split]:
    """A checkpoint learned from one talker's face and voice, and some sentences that it was not trained on."""
    path = checkpoint.SHIPPED / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no checkpoint {name}: {checkpoint.SCRIPTS[name]} makes it")
    loaded = keep.load_network(path)
    recipe = replace(loaded.recipe, augment=replace(loaded.recipe.augment, noise=0.0))
    found = layouts.read_clips(shared_data / "grid_s1", recipe)
    kept = [clip for clip in found.clips if clip.split == "validation"][:SENTENCES]
    data = from_clips(recipe, ClipSet(found.folder, kept, loaded.names), Sources(cache))
    return loaded, data.validation


def test_sentences_are_read_from_lips_and_voice(shared_data: Path, tmp_path: Path) -> None:
    """Most words from the lips alone, nearly all from both."""
    loaded, sentences = faces("grid-sentence", shared_data, tmp_path)
    wrong = {}
    for modalities in (("video",), ("video", "audio")):
        told = predict(loaded.network, sentences, change=partial(only, modalities=modalities))
        wrong[modalities] = told.figures("sequence", loaded.calibration)["word_error"]
    assert wrong["video",] < 0.35 and wrong["video", "audio"] < 0.15


def test_digits_are_read_from_lips_and_voice(shared_data: Path, tmp_path: Path) -> None:
    """With either away, and with both."""
    loaded, sentences = faces("grid-digit", shared_data, tmp_path)
    for modalities in (("video",), ("audio",), ("video", "audio")):
        told = predict(loaded.network, sentences, change=partial(only, modalities=modalities))
        assert told.figures("classes", loaded.calibration)["accuracy"] >= 0.75
