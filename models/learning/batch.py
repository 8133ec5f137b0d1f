"""What passes between data, encoders, fusions and heads: clips as tensors, a part a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

MODALITIES = ("video", "audio", "text")  # the order of every axis of 3: presence, shares
PADDING = -1  # in sequences of symbols: no symbol


@dataclass(frozen=True, slots=True)
class Part:
    """One modality of B clips, N items each, padded.

    x: `[B, N, ...]`: raw items (what a feature cache stores), encoded items `[B, N, W]` or tokens `[B, N, D]`.
    mask: bool `[B, N]`, True where there is an item; a clip without any is one that lacks the modality. What stands
    under False may be anything.
    when: float32 `[B, N]`, seconds from the start of the clip to the item's own moment (a picture's time, the middle of
    a patch, the middle of a word).
    """

    x: Tensor
    mask: Tensor
    when: Tensor

    def of(self, x: Tensor) -> Part:
        """The same moments with other contents `[B, N, ...]`."""
        return replace(self, x=x)

    def only(self, kept: Tensor) -> Part:
        """The same, with the modality taken from clips where `kept` (bool `[B]`) is False."""
        return replace(self, mask=self.mask & kept[:, None])

    def present(self) -> Tensor:
        """bool `[B]`: which clips have the modality at all."""
        # Counted, for the greatest of nothing is not defined in a graph that is exported.
        return self.mask.sum(dim=1) > 0


@dataclass(frozen=True, slots=True)
class Mixed:
    """What was mixed into the clips of a batch, in all modalities alike (mixup: Zhang et al., 2018): target as
    Batch.target, of the clips mixed in; weight float32 `[B]`, 0.5 to 1, of the clip itself. The loss is
    weight * loss(batch.target) + (1 - weight) * loss(mixed.target)."""

    target: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B clips: their parts by modality (one that no clip has may be missing), and what is to be learned.

    target: by the recipe's task: `classes` int64 `[B]`; `labels` float32 `[B, L]` of 0 and 1; `numbers` float32
    `[B, K]`; `sequence` int64 `[B, S]`, symbols by index, padded with PADDING.
    clips: what each is called, for messages. times: float32 `[B, S, 2]`, seconds at which each symbol of a sequence
    starts and ends, NaN where nobody says; None for other tasks. mixed: None but where recipes mix clips in training.
    """

    parts: Mapping[str, Part]
    target: Tensor
    clips: Sequence[str]
    mixed: Mixed | None = None
    times: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clips)
