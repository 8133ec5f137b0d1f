"""A trained encoder of speech: log-mel every 10 ms, in tokens of 40 ms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders import Encoder
from models.features import BANDS, FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, LogMel
from models.learning.batch import Part
from models.lips import TimeEncoder

FRAMES = 4
PATCH_SAMPLES = FRAME_SAMPLES + (FRAMES - 1) * HOP_SAMPLES  # 880, 55 ms
PATCH_HOP_SAMPLES = FRAMES * HOP_SAMPLES  # 640, 40 ms: frames of neighbouring patches go on every 10 ms
ITEM_WIDTH = FRAMES * BANDS
_CHANNELS = 128  # of each frame of 10 ms, seen with its neighbours
# Mean and deviation of the log-mel of close speech, about; what is learned after it does the rest.
_MEAN, _DEVIATION = -3.0, 2.5


class Mel(nn.Module):
    """Patches of sound, float32 `[N, 880]` in -1..1 -> four frames of 64 bands side by side, float32 `[N, 256]`."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = LogMel(FRAMES)

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        mel: Tensor = self.mel(patches)
        return ((mel - _MEAN) / _DEVIATION).flatten(1)


class SpeechOver(nn.Module):
    """Encoded patches `[B, N, 256]`, bool `[B, N]`, seconds `[B, N]` -> tokens `[B, N, D]`.

    The bands' own mean over what is heard of the clip is taken off (cepstral mean normalisation: microphones and rooms
    differ). In training, `bands` and `frames` are the widest stripes that are blanked (Park et al., "SpecAugment",
    2019), two of each.
    """

    def __init__(self, width: int, bands: int, frames: int) -> None:
        super().__init__()
        self.bands = bands
        self.frames = frames
        self.near = nn.Conv1d(BANDS, _CHANNELS, 5, padding=2)
        self.token = nn.Linear(FRAMES * _CHANNELS, ITEM_WIDTH)
        self.time = TimeEncoder(ITEM_WIDTH, width, hidden=128, item_dropout=0.1)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        tokens: Tensor = self.time(self._items(x, mask), mask, when)
        return tokens

    def local(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features of patches and their neighbours, `[B, N, 256]`."""
        return self.time.local(self._items(x, mask), mask)

    def _items(self, x: Tensor, mask: Tensor) -> Tensor:
        x = torch.where(mask[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device))
        mel = x.reshape(*x.shape[:2], FRAMES, BANDS)
        heard = mask.sum(dim=1).clamp(min=1).to(x.dtype)
        mean = mel.sum(dim=(1, 2)) / (heard[:, None] * FRAMES)
        mel = (mel - mean[:, None, None, :]) * mask[:, :, None, None]
        if self.training:
            mel = self._blanked(mel)
        near = F.relu(self.near(mel.flatten(1, 2).transpose(1, 2))).transpose(1, 2)
        return F.relu(self.token(near.reshape(*x.shape[:2], -1)))

    def _blanked(self, mel: Tensor) -> Tensor:
        clips, items = mel.shape[:2]
        for _ in range(2):
            if self.bands:
                mel = mel * ~_stripe(clips, BANDS, self.bands, mel.device)[:, None, None, :]
            if self.frames:
                hidden = _stripe(clips, items * FRAMES, self.frames, mel.device).view(clips, items, FRAMES, 1)
                mel = mel * ~hidden
        return mel


def _stripe(clips: int, length: int, widest: int, device: torch.device) -> Tensor:
    """bool `[clips, length]`, True within one stripe a clip of 0 to `widest` places."""
    width = torch.randint(0, widest + 1, (clips, 1), device=device)
    first = (torch.rand(clips, 1, device=device) * (length - width + 1).clamp(min=1)).long()
    places = torch.arange(length, device=device)
    return (places >= first) & (places < first + width)


class SpeechEncoder(Encoder):
    """See the module. Stored items are patches of sound as they come, float32 `[N, 880]`; tokens `[B, N, width]`.

    `patch_samples`, `patch_hop_ns`: how live sound is cut for it.
    """

    patch_samples = PATCH_SAMPLES
    patch_hop_ns = PATCH_HOP_SAMPLES * 1_000_000_000 // SAMPLE_RATE

    def __init__(self, width: int, bands: int = 0, frames: int = 0) -> None:
        super().__init__()
        self.prepare = nn.Identity()
        self.each = Mel()
        self.over = SpeechOver(width, bands, frames)
        self.item_width = self.local_width = ITEM_WIDTH
        self.width = width

    def local(self, encoded: Part) -> Part:
        """See the base."""
        assert isinstance(self.over, SpeechOver)
        return encoded.of(self.over.local(encoded.x, encoded.mask))

    def tokens_of_local(self, local: Part) -> Part:
        """See the base."""
        assert isinstance(self.over, SpeechOver)
        return local.of(self.over.time.joined(local.x, local.mask))
