"""YAMNet against its published behaviour."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from models import audio, features
from models.audio import AudioEncoder
from models.weights import Weights

# Which of AudioSet's names each class of the environmental sounds would be called by.
NAMES = {
    "baby_cry": ["Baby cry, infant cry"],
    "chainsaw": ["Chainsaw"],
    "clock_tick": ["Tick", "Tick-tock", "Clock"],
    "dog_bark": ["Dog", "Bark", "Bow-wow", "Yip"],
    "fire_crackling": ["Fire", "Crackle"],
    "helicopter": ["Helicopter"],
    "person_sneeze": ["Sneeze"],
    "rain": ["Rain", "Raindrop", "Rain on surface"],
    "rooster": ["Chicken, rooster", "Crowing, cock-a-doodle-doo"],
    "sea_waves": ["Ocean", "Waves, surf"],
}


@pytest.fixture(scope="module")
def encoder(pretrained: Weights) -> AudioEncoder:
    """The encoder with the published weights."""
    return audio.load(pretrained.audio)


def _patches(path: Path) -> torch.Tensor:
    """A sound file's patches every 0.48 s: float32 `[N, 15600]`."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=features.SAMPLE_RATE)
        pieces = [
            piece.to_ndarray().reshape(-1)
            for decoded in (*container.decode(audio=0), None)
            for piece in resampler.resample(decoded)
        ]
    waveform = torch.from_numpy(np.concatenate(pieces))
    return waveform.unfold(0, features.PATCH_SAMPLES, 7680)


def test_names_environmental_sounds(encoder: AudioEncoder, pretrained: Weights, shared_data: Path) -> None:
    """Asked which of ten kinds of sound it hears, with nothing trained, it is right on over nine clips in ten."""
    with pretrained.audio_classes.open() as file:
        columns = [row["display_name"] for row in csv.DictReader(file)]
    groups = [[columns.index(name) for name in names] for names in NAMES.values()]
    right = []
    for number, kind in enumerate(NAMES):
        paths = sorted((shared_data / "esc10" / kind).iterdir())
        assert len(paths) >= 10
        for path in paths[::4]:
            with torch.no_grad():
                scores = torch.sigmoid(encoder.classifier(encoder(_patches(path)))).mean(dim=0)
            heard = torch.stack([scores[group].max() for group in groups]).argmax().item()
            right.append(heard == number)
    assert np.mean(right) > 0.9


def test_token_shape_and_independence(encoder: AudioEncoder) -> None:
    """A patch's token is float32 [1024], and doesn't depend on its neighbours in the batch."""
    waveform = torch.randn(3, 15600, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        together, alone = encoder(waveform), encoder(waveform[2:])
    assert together.shape == (3, 1024)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[2:], alone, atol=1e-4, rtol=1e-4)


def test_silence_is_called_silence(encoder: AudioEncoder, pretrained: Weights) -> None:
    """Digital silence scores highest as "Silence"."""
    with pretrained.audio_classes.open() as file:
        columns = [row["display_name"] for row in csv.DictReader(file)]
    with torch.no_grad():
        logits = encoder.classifier(encoder(torch.zeros(1, 15600)))
    assert columns[int(logits.argmax())] == "Silence"


@pytest.mark.parametrize("damage", ["text", "empty zip", "other graph"])
def test_another_file_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    """A file that isn't the zipped graph gives an error that names it."""
    path = tmp_path / "other.zip"
    if damage == "text":
        path.write_text("not a zip")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            if damage == "other graph":
                archive.writestr("model.onnx", b"")
    with pytest.raises(ValueError, match=r"other\.zip: not the published weights of YAMNet"):
        audio.load(path)
