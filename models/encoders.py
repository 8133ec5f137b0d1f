"""Encoders that a checkpoint may carry: from items of one modality to tokens that a fusion reads.

An encoder is two modules, because live media come an item at a time and windows overlap: `each` sees one item and is
run once for it; `over` sees the encoded items of a window in time and is run with the fusion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.learning.batch import Part


class Encoder(nn.Module):
    """Base of all encoders.

    prepare: live item -> stored item, without parameters: what the feature cache holds and augmentation changes.
        Pictures come in as uint8 RGB `[N, S, S, 3]` (the whole picture squashed to the square, as live), patches of
        sound as float32 `[N, patch_samples]` in -1..1, words as int64 `[N]`.
    each: stored item -> encoded item float32 `[N, W]`; identity where the cache holds encoded items already (frozen
        encoders).
    over: tokens of a window from its encoded items, `[B, N, W]`, mask `[B, N]`, when `[B, N]` -> `[B, N, D]`. Items may
        only be looked at where the mask is True; no token is added or left out.
    item_width: W. width: D.
    """

    prepare: nn.Module
    each: nn.Module
    over: nn.Module
    item_width: int
    width: int
    local_width: int = 0

    def forward(self, part: Part) -> Part:
        """Stored items `[B, N, ...]` -> tokens `[B, N, D]`."""
        return self.tokens(self.encode(part))

    def encode(self, part: Part) -> Part:
        """Stored items `[B, N, ...]` -> encoded items `[B, N, W]`; only those under the mask are computed."""
        if not part.mask.any():  # batch norms in training refuse to see nothing
            return part.of(torch.zeros(*part.mask.shape, self.item_width, device=part.x.device))
        encoded: Tensor = self.each(part.x[part.mask])
        x = encoded.new_zeros(*part.mask.shape, self.item_width)
        x[part.mask] = encoded
        return part.of(x)

    def local(self, encoded: Part) -> Part | None:
        """Encoded items `[B, N, W]` -> features `[B, N, local_width]` that reach a few items far, of which
        `tokens_of_local` makes the tokens; None for encoders that have none (whose `local_width` is 0)."""
        return None

    def tokens_of_local(self, local: Part) -> Part:
        """What `local` gave -> tokens `[B, N, D]`: with it the same as `tokens`."""
        raise NotImplementedError(f"{type(self).__name__} has no local features")

    def tokens(self, encoded: Part) -> Part:
        """Encoded items `[B, N, W]` -> tokens `[B, N, D]`."""
        tokens: Tensor = self.over(encoded.x, encoded.mask, encoded.when)
        return encoded.of(tokens)
