"""Features against an independent slow form of the published recipe, and against torchaudio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio

from models import features
from models.features import LogMel


def _noise(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, features.PATCH_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1


def _slow_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The published recipe word by word, frame by frame, in double precision: `[15600]` -> `[96, 64]`."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    rows = []
    for start in range(0, len(waveform) - 399, 160):
        magnitude = np.abs(np.fft.rfft(waveform[start : start + 400].astype(np.float64) * window, 512))
        bands = np.zeros(64)
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            for number in range(1, 257):
                at = mel(number * 16000 / 512)
                bands[band] += magnitude[number] * max(
                    0.0, min((at - low) / (centre - low), (high - at) / (high - centre))
                )
        rows.append(np.log(bands + 0.001))
    return np.array(rows)


def test_log_mel_follows_the_published_recipe() -> None:
    """On noise the matrix form agrees with the recipe written out slowly, and there are 96 frames."""
    waveform = _noise(1)
    ours = LogMel()(waveform)
    assert ours.shape == (1, 96, 64)
    np.testing.assert_allclose(ours[0].numpy(), _slow_log_mel(waveform[0].numpy()), atol=2e-4)


def test_spectrum_is_torchaudios() -> None:
    """Magnitudes before the mel bands are torchaudio's of the same frames.

    torchaudio puts the 400-sample window in the middle of 512, so its frames begin 56 samples earlier.
    """
    waveform = _noise()
    log_mel = LogMel()
    shifted = torch.nn.functional.pad(waveform, (56, 56))
    spectrum = torchaudio.functional.spectrogram(
        shifted, 0, torch.hann_window(400), 512, 160, 400, power=1.0, normalized=False, center=False
    ).transpose(1, 2)
    bands = spectrum @ torch.from_numpy(features.mel_weights()).float()
    torch.testing.assert_close(log_mel(waveform), torch.log(bands + 0.001), atol=1e-4, rtol=1e-4)


def test_mel_weights_are_near_torchaudios() -> None:
    """The bands are torchaudio's HTK bands, but for triangles straight in mel instead of in Hz: at most 0.005 apart."""
    theirs = torchaudio.functional.melscale_fbanks(257, 125.0, 7500.0, 64, 16000, norm=None, mel_scale="htk")
    np.testing.assert_allclose(features.mel_weights(), theirs.numpy(), atol=0.005)


def test_silence_is_the_floor() -> None:
    """Digital silence gives log(0.001) in every cell."""
    silence = LogMel()(torch.zeros(1, features.PATCH_SAMPLES))
    torch.testing.assert_close(silence, torch.full((1, 96, 64), math.log(0.001)))


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 4000.0])
def test_a_tone_lands_in_its_band(hertz: float) -> None:
    """The loudest band of a pure tone is the one whose triangle peaks nearest to it on the mel scale."""
    time_s = torch.arange(features.PATCH_SAMPLES) / features.SAMPLE_RATE
    loudest = LogMel()(0.5 * torch.sin(2 * math.pi * hertz * time_s)[None]).mean(dim=1).argmax().item()
    edges = np.linspace(*(1127 * np.log1p(limit / 700) for limit in (125.0, 7500.0)), 66)
    assert abs(loudest - np.abs(edges[1:-1] - 1127 * np.log1p(hertz / 700)).argmin()) <= 1


def test_pixels_are_scaled_as_trained() -> None:
    """0, 127 and 255 become -127/128, 0 and 1, channels first, row and column kept."""
    pixels = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    pixels[0, 1, 2] = torch.tensor([0, 127, 255], dtype=torch.uint8)
    scaled = features.normalise_pixels(pixels)
    assert scaled.shape == (1, 3, 2, 3)
    assert scaled.dtype == torch.float32
    assert scaled[0, :, 1, 2].tolist() == [-127 / 128, 0.0, 1.0]


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_resampling_keeps_a_tone(rate: int) -> None:
    """One second of a 1 kHz tone at any usual rate is the same tone at 16 kHz (ends aside)."""
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(rate) / rate)
    resampled = features.resample(tone[None], rate)
    assert resampled.shape == (1, 16000)
    expected = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)
    torch.testing.assert_close(resampled[0, 200:-200], expected[200:-200], atol=0.02, rtol=0)


def test_resampling_refuses_senseless_rates() -> None:
    """A rate of 0 is an error that says so."""
    with pytest.raises(ValueError, match="sample rates must be positive"):
        features.resample(torch.zeros(1, 10), 0)
