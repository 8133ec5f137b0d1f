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
    """A network for classes or labels.

    score: parts of encoded items (of text: the words' numbers) -> scores `[B, L]`, shares `[B, L, 3]` (video, audio,
    text), log-odds `[B, L]`. forward: the same with tensors for parts: those of `takes`, in its order.
    """

    def __init__(self, network: Network, calibration: Calibration) -> None:
        super().__init__()
        self.modalities = tuple(name for name in MODALITIES if name in network.encoders)
        self.over = nn.ModuleDict({name: network.encoder(name).over for name in self.modalities})
        # A word's number is as good as its vector, and smaller: they are looked up here, not before.
        self.words = network.encoder("text").each if "text" in network.encoders else nn.Identity()
        if isinstance(network.fusion, AttentionFusion):
            network.fusion.hold()
        self.odds = Odds(network.fusion, calibration)

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the inputs: a modality's items float32 `[B, N, W]` (of text: int64 `[B, N]`), mask float32 `[B, N]`
        (1 where there is one) and their seconds from the window's start, float32 `[B, N]`."""
        return tuple(f"{name}{part}" for name in self.modalities for part in ("", "_mask", "_when"))

    def score(self, parts: Mapping[str, Part]) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        tokens = {name: self._tokens(name, part) for name, part in parts.items() if name in self.modalities}
        values, odds = explained(self.odds, tokens)
        nobody = torch.zeros_like(next(iter(tokens.values())).present())
        present = torch.stack([tokens[name].present() if name in tokens else nobody for name in MODALITIES], dim=1)
        return odds.sigmoid(), shares(values, present), odds

    def _tokens(self, name: str, part: Part) -> Part:
        if name == "text":
            count, items = part.x.shape
            part = part.of(self.words(part.x.flatten()).view(count, items, -1))
        return part.of(self.over[name](part.x, part.mask, part.when))

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        when: Tensor,
        second: Tensor | None = None,
        second_mask: Tensor | None = None,
        second_when: Tensor | None = None,
        third: Tensor | None = None,
        third_mask: Tensor | None = None,
        third_when: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the class: three of each modality there is, in their order."""
        given = ((x, mask, when), (second, second_mask, second_when), (third, third_mask, third_when))
        parts = {}
        for name, (items, there, at) in zip(self.modalities, given, strict=False):
            assert items is not None and there is not None and at is not None
            parts[name] = Part(items, there > 0, at)
        return self.score(parts)
