"""A learned network as it is served: encoded items of a window in, calibrated probabilities and shares out.

What is told of a label is its log-odds, z_l for labels that don't exclude each other, and for classes, of which one is
true, z_l - log sum of exp z_k over the others: its sigmoid is the softmax. Shares are of these log-odds (as those of
`tags`), because a softmax's logits mean something in comparison only: a modality that raises all of them alike says
nothing about any.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from models.encoders import Encoder
from models.fusion.attention import AttentionFusion
from models.fusion.base import Fusion, explained, shares
from models.learning.batch import MODALITIES, Part
from models.learning.calibration import Calibration
from models.learning.network import Network

LIVE = ("video", "audio")  # what a window brings by itself
_NEVER = -1e30  # a logit that loses to every other, finite


class Items(nn.Module):
    """A carried encoder, one item at a time: live pictures uint8 `[B, S, S, 3]`, or patches of sound float32
    `[B, patch_samples]`, -> encoded items float32 `[B, W]`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.prepare = encoder.prepare
        self.each = encoder.each

    def forward(self, items: Tensor) -> Tensor:
        """See the class."""
        encoded: Tensor = self.each(self.prepare(items))
        return encoded


class Odds(Fusion):
    """A fusion whose logits are calibrated log-odds: `[B, L]`."""

    scale: Tensor
    bias: Tensor

    def __init__(self, fusion: Fusion, calibration: Calibration) -> None:
        super().__init__()
        if calibration.task not in ("classes", "labels"):
            raise ValueError(f"{calibration.task} have no odds")
        self.fusion = fusion
        self.modalities = fusion.modalities
        self.size = fusion.size
        self.exclusive = calibration.task == "classes"
        self.register_buffer("scale", torch.tensor(calibration.scale, dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(calibration.bias, dtype=torch.float32))

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """See the base."""
        return self._odds(self.fusion(parts))

    def coalitions(self, parts: Mapping[str, Part], chosen: Sequence[Collection[str]]) -> Tensor:
        """See the base."""
        return self._odds(self.fusion.coalitions(parts, chosen))

    def _odds(self, raw: Tensor) -> Tensor:
        logits = raw.float() * self.scale + self.bias
        if not self.exclusive:
            return logits
        count = logits.shape[-1]
        own = torch.eye(count, dtype=torch.bool, device=logits.device)
        others = logits.unsqueeze(-2).masked_fill(own, _NEVER)
        return logits - others.logsumexp(dim=-1)


class Served(nn.Module):
    """A network for classes or labels. Text takes no part: no stream brings it by itself.

    score: parts of encoded items -> scores `[B, L]`, shares `[B, L, 3]` (video, audio, text), log-odds `[B, L]`.
    forward: the same with tensors for parts: those of `takes`, in its order.
    """

    def __init__(self, network: Network, calibration: Calibration) -> None:
        super().__init__()
        self.modalities = tuple(name for name in LIVE if name in network.encoders)
        self.over = nn.ModuleDict({name: network.encoder(name).over for name in self.modalities})
        if isinstance(network.fusion, AttentionFusion):
            network.fusion.hold()
        self.odds = Odds(network.fusion, calibration)

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the inputs: a modality's items float32 `[B, N, W]`, mask float32 `[B, N]` (1 where there is one) and
        their seconds from the window's start, float32 `[B, N]`."""
        return tuple(f"{name}{part}" for name in self.modalities for part in ("", "_mask", "_when"))

    def score(self, parts: Mapping[str, Part]) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        tokens = {
            name: part.of(self.over[name](part.x, part.mask, part.when))
            for name, part in parts.items()
            if name in self.modalities
        }
        values, odds = explained(self.odds, tokens)
        nobody = torch.zeros_like(next(iter(tokens.values())).present())
        present = torch.stack([tokens[name].present() if name in tokens else nobody for name in MODALITIES], dim=1)
        return odds.sigmoid(), shares(values, present), odds

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        when: Tensor,
        audio: Tensor | None = None,
        audio_mask: Tensor | None = None,
        audio_when: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the class: the first three are the only modality's, or the video's."""
        parts = {self.modalities[0]: Part(x, mask > 0, when)}
        if audio is not None and audio_mask is not None and audio_when is not None:
            parts["audio"] = Part(audio, audio_mask > 0, audio_when)
        return self.score(parts)
