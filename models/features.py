"""From media to what the encoders' first layers see; the same code in training, serving and export."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SAMPLE_RATE = 16_000  # Hz
FRAME_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FRAMES = 96
PATCH_SAMPLES = FRAME_SAMPLES + (FRAMES - 1) * HOP_SAMPLES  # 15600, 0.975 s
FFT_SAMPLES = 512
BANDS = 64
LOWEST_HZ = 125.0
HIGHEST_HZ = 7500.0
LOG_OFFSET = 0.001

PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0


def normalise_pixels(pixels: Tensor) -> Tensor:
    """uint8 RGB `[B, H, W, 3]` -> float32 `[B, 3, H, W]`, (x - 127) / 128, as EfficientNet-Lite was trained."""
    return (pixels.permute(0, 3, 1, 2).to(torch.float32) - PIXEL_MEAN) / PIXEL_SCALE


class LogMel(nn.Module):
    """Log-mel picture of a patch: float32 `[B, 15600]` in [-1, 1] -> float32 `[B, 96, 64]` (frames, bands); patches of
    another number of `frames` are 240 + 160 * frames samples.

    The recipe YAMNet was trained on (Hershey et al., "CNN architectures for large-scale audio classification", 2017, as
    published with its weights): 25 ms Hann window every 10 ms, magnitude of a 512-point Fourier transform, 64 HTK mel
    bands from 125 to 7500 Hz, log(x + 0.001). No frame is padded or centred: 15600 samples are 96 frames exactly.

    The transform is a product with a fixed basis: on one core a small matrix product is quicker than any transform the
    inference runtime offers, and only bins that reach a band are computed.
    """

    basis: Tensor
    bands: Tensor

    def __init__(self, frames: int = FRAMES) -> None:
        super().__init__()
        self.frames = frames
        weights = mel_weights()
        used = np.flatnonzero(weights.any(axis=1))
        first, last = int(used[0]), int(used[-1]) + 1
        self.bins = last - first
        self.register_buffer("basis", torch.from_numpy(fourier_basis(first, last)), persistent=False)
        self.register_buffer("bands", torch.from_numpy(weights[first:last].astype(np.float32)), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        spectrum = framed(waveform, self.frames) @ self.basis
        real, imaginary = spectrum[..., : self.bins], spectrum[..., self.bins :]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        return torch.log(magnitude @ self.bands + LOG_OFFSET)


def framed(waveform: Tensor, frames: int) -> Tensor:
    """Overlapping frames, `[B, 240 + 160 * frames]` -> `[B, frames, 400]`.

    A frame is two and a half hops, so frames are three shifted views of the hops side by side: plain copies, where a
    gather by index costs more than the transform.
    """
    tail = FRAME_SAMPLES % HOP_SAMPLES
    hops = nn.functional.pad(waveform, (0, HOP_SAMPLES - tail)).reshape(-1, frames + 2, HOP_SAMPLES)
    return torch.cat([hops[:, :-2], hops[:, 1:-1], hops[:, 2:, :tail]], dim=2)


def fourier_basis(first: int, last: int, points: int = FFT_SAMPLES) -> NDArray[np.float32]:
    """Hann window and Fourier transform of `points` in one: `[400, 2 * (last - first)]`, cosines then sines of those
    bins."""
    n = np.arange(FRAME_SAMPLES)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / FRAME_SAMPLES)
    phase = 2 * np.pi * np.outer(n, np.arange(first, last)) / points
    return (np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * window[:, None]).astype(np.float32)


def mel_weights() -> NDArray[np.float64]:
    """Weights `[257, 64]` from magnitude bins to mel bands: triangles straight on the mel scale, as TensorFlow has.

    (torchaudio draws them straight in Hz, 0.005 apart at most; the network was trained on these.)
    """
    hertz: NDArray[np.float64] = np.arange(FFT_SAMPLES // 2 + 1) * np.float64(SAMPLE_RATE / FFT_SAMPLES)
    mel = _mel(hertz)[:, None]
    edges = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel - low) / (centre - low)
    falling = (high - mel) / (high - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # a constant offset of the microphone is no sound
    return np.asarray(weights, dtype=np.float64)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The HTK mel scale."""
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0), dtype=np.float64)


def resample(waveform: Tensor, rate: int, to_rate: int = SAMPLE_RATE) -> Tensor:
    """A whole recording `[..., n]` at another rate, `[..., ceil(n * to_rate / rate)]`.

    For whole files only: cut into short chunks and resampled piece by piece, every joint would be wrong.
    """
    if rate <= 0 or to_rate <= 0:
        raise ValueError(f"sample rates must be positive, not {rate} and {to_rate}")
    if rate == to_rate:
        return waveform
    # Imported here: serving never resamples with it, and need not load it.
    import torchaudio.functional  # type: ignore[import-untyped]

    divisor = math.gcd(rate, to_rate)
    resampled: Tensor = torchaudio.functional.resample(waveform, rate // divisor, to_rate // divisor)
    return resampled
