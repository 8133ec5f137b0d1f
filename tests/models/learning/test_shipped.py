"""The checkpoint `sounds`, on real sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import checkpoint, weights
from models.learning import keep, layouts
from models.learning.cache import Sources
from models.learning.clips import ClipSet
from models.learning.predict import predict
from models.learning.sets import from_clips

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
