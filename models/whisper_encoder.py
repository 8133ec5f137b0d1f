"""The encoder of Whisper base as a frozen encoder of sound: 0.975 s in, one token out.

Architecture: two convolutions and six layers of a transformer over a log-mel picture (Radford et al., "Robust speech
recognition via large-scale weak supervision", 2022), with the published weights as CTranslate2 keeps them. It was
trained on pieces of 30 s, most of which may be silence; of so short a piece as a patch, its own front alone is computed
here, and silence is put before and after the patch, for what begins at once is heard badly.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.features import FRAME_SAMPLES, HOP_SAMPLES, PATCH_SAMPLES, SAMPLE_RATE, fourier_basis, framed

BANDS = 80
PARTS = 4
_STATE = 512
_HEADS = 8
_LAYERS = 6
WIDTH = PARTS * _STATE

_FRAMES = 160  # 1.6 s
_BEFORE = 40  # frames of silence, 0.4 s
_POSITIONS = _FRAMES // 2  # the second convolution takes every other
_PADDED = (_FRAMES - 1) * HOP_SAMPLES + FRAME_SAMPLES  # a frame is centred on its hop, so half a frame more at each end
_LEFT = _BEFORE * HOP_SAMPLES + FRAME_SAMPLES // 2

_SPEC = "WhisperSpec"
_TYPES = {0: np.float32, 4: np.float16}  # CTranslate2's numbers of them


class WhisperMel(nn.Module):
    """Log-mel picture of a patch in silence: float32 `[B, 15600]` in [-1, 1] -> float32 `[B, 80, 160]`.

    25 ms Hann window every 10 ms, power of a 400-point Fourier transform, 80 mel bands (Slaney's scale, of equal area)
    from 0 to 8000 Hz, log10, at most 8 below the loudest of the patch, (x + 4) / 4.
    """

    basis: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = FRAME_SAMPLES // 2 + 1
        self.bins = bins
        self.register_buffer("basis", torch.from_numpy(fourier_basis(0, bins, FRAME_SAMPLES)), persistent=False)
        self.register_buffer("bands", torch.from_numpy(slaney_weights().astype(np.float32)), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        silenced = F.pad(waveform, (_LEFT, _PADDED - _LEFT - PATCH_SAMPLES))
        spectrum = framed(silenced, _FRAMES) @ self.basis
        real, imaginary = spectrum[..., : self.bins], spectrum[..., self.bins :]
        power = (real * real + imaginary * imaginary) @ self.bands
        mel = torch.log10(power.clamp(min=1e-10))
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
        return ((mel + 4.0) / 4.0).transpose(1, 2)


class _Layer(nn.Module):
    """Self-attention, then two linear maps, each after a layer norm and added to what came in: `[B, T, 512]`."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(_STATE)
        self.asked = nn.Linear(_STATE, 3 * _STATE)  # queries, keys and values
        self.answered = nn.Linear(_STATE, _STATE)
        self.norm = nn.LayerNorm(_STATE)
        self.up = nn.Linear(_STATE, 4 * _STATE)
        self.down = nn.Linear(4 * _STATE, _STATE)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        heads = self.asked(self.attention_norm(x)).reshape(-1, x.shape[1], 3, _HEADS, _STATE // _HEADS)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        x = x + self.answered(mixed.transpose(1, 2).flatten(2))
        return cast(Tensor, x + self.down(F.gelu(self.up(self.norm(x)))))


class WhisperEncoder(nn.Module):
    """Waveform float32 `[B, 15600]` in [-1, 1] at 16 kHz -> float32 `[B, 2048]`.

    It is the mean of what the encoder gives over each fourth of the picture, the fourths side by side. How loud a patch
    is matters little, for its picture is of the loudest downwards.
    """

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = WhisperMel()
        self.first = nn.Conv1d(BANDS, _STATE, 3, padding=1)
        self.second = nn.Conv1d(_STATE, _STATE, 3, stride=2, padding=1)
        self.register_buffer("positions", torch.zeros(_POSITIONS, _STATE))
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(_STATE)

    def heard(self, mel: Tensor) -> Tensor:
        """Log-mel pictures float32 `[B, 80, 160]` -> what the encoder gives, one each 20 ms, float32 `[B, 80, 512]`."""
        x = F.gelu(self.second(F.gelu(self.first(mel)))).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.norm(x))

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        heard = self.heard(self.features(waveform))
        return heard.reshape(-1, PARTS, _POSITIONS // PARTS, _STATE).mean(dim=2).flatten(1)


def load(path: Path) -> WhisperEncoder:
    """The encoder with the weights of a `model.bin` of CTranslate2 (Whisper base), in evaluation mode.

    Raises ValueError, naming the file, where it holds something else or is damaged.
    """
    encoder = WhisperEncoder()
    try:
        with path.open("rb") as file:
            stored = _read(file)
        state = {name: torch.from_numpy(stored[theirs]) for name, theirs in _names().items()}
        state["positions"] = state["positions"][:_POSITIONS]
        encoder.load_state_dict(state)
    except (KeyError, RuntimeError, UnicodeDecodeError, ValueError, struct.error) as error:
        raise ValueError(f"{path}: not the published weights of Whisper base ({error})") from error
    return encoder.eval()


def _names() -> Mapping[str, str]:
    """CTranslate2's name of each tensor, by its name here."""
    modules = {"first": "conv1", "second": "conv2", "norm": "layer_norm"}
    for layer in range(_LAYERS):
        modules |= {
            f"layers.{layer}.attention_norm": f"layer_{layer}/self_attention/layer_norm",
            f"layers.{layer}.asked": f"layer_{layer}/self_attention/linear_0",
            f"layers.{layer}.answered": f"layer_{layer}/self_attention/linear_1",
            f"layers.{layer}.norm": f"layer_{layer}/ffn/layer_norm",
            f"layers.{layer}.up": f"layer_{layer}/ffn/linear_0",
            f"layers.{layer}.down": f"layer_{layer}/ffn/linear_1",
        }
    names = {"positions": "encoder/position_encodings/encodings"}
    for module, theirs in modules.items():
        weight, bias = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        names |= {f"{module}.weight": f"encoder/{theirs}/{weight}", f"{module}.bias": f"encoder/{theirs}/{bias}"}
    return names


def _read(file: BinaryIO) -> dict[str, NDArray[np.float32]]:
    """The encoder's tensors by name; the decoder's are passed over.

    The format: its version, the kind of model, that one's revision, how many tensors there are, and of each its name,
    shape, type, size in bytes and values (CTranslate2, `python/ctranslate2/specs/model_spec.py`).
    """
    _number(file, "I")
    kind = _text(file)
    if kind != _SPEC:
        raise ValueError(f"a model of kind {kind!r}")
    _number(file, "I")
    found = {}
    for _ in range(_number(file, "I")):
        name = _text(file)
        shape = [_number(file, "I") for _ in range(_number(file, "B"))]
        type_number, size = _number(file, "B"), _number(file, "I")
        if not name.startswith("encoder/"):
            file.seek(size, 1)
            continue
        values = file.read(size)
        if shape:
            if type_number not in _TYPES:
                raise ValueError(f"{name} is of type {type_number}, neither float32 nor float16")
            found[name] = np.frombuffer(values, _TYPES[type_number]).reshape(shape).astype(np.float32)
    return found


def _number(file: BinaryIO, kind: str) -> int:
    size = struct.calcsize(f"<{kind}")
    return int(struct.unpack(f"<{kind}", file.read(size))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


def slaney_weights() -> NDArray[np.float64]:
    """Weights `[201, 80]` from power bins to mel bands: triangles straight in Hz, of equal area, whose corners are
    evenly spaced on Slaney's scale (linear to 1000 Hz, logarithmic above; "Auditory toolbox", 1998)."""
    hertz = (np.arange(FRAME_SAMPLES // 2 + 1) * (SAMPLE_RATE / FRAME_SAMPLES))[:, None]
    edges = _hertz(np.linspace(0.0, _mel(SAMPLE_RATE / 2), BANDS + 2))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.maximum(0.0, np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)))
    return np.asarray(triangles * (2.0 / (high - low)), dtype=np.float64)


_LINEAR_HZ = 200.0 / 3.0  # Hz of a mel, up to 1000 Hz
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    """Slaney's scale, above 1000 Hz."""
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, _LINEAR_HZ * mel, above)
