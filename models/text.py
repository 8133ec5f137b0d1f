"""Words to tokens: an embedding, and a recurrent network that reads the words of a window in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.encoders import Encoder
from models.learning.recipe import TextRecipe
from models.recurrent import MaskedRecurrent

_DROPOUT = 0.2  # of what passes between the layers, in training


class TextEncoder(Encoder):
    """Words by number -> tokens: LSTM (Hochreiter and Schmidhuber, 1997) or GRU (Cho et al., 2014), bidirectional
    (Schuster and Paliwal, 1997), which costs live no delay: a window's words are all known when it is computed.

    Items are int64 `[N]`: 1 to `vocabulary` are words, 0 is any other, and so is what is out of range. Width W of an
    encoded item is D. Words are read in the order in which they stand, and those under a False of the mask are passed
    over as if they were not there, wherever they stand.
    """

    def __init__(self, recipe: TextRecipe, vocabulary: int, width: int) -> None:
        """`vocabulary`: words that are told apart. `width`: D, even (ValueError else)."""
        super().__init__()
        if width % 2:
            raise ValueError(f"text: the width must be even for two directions, not {width}")
        self.item_width = width
        self.width = width
        self.prepare = nn.Identity()
        self.each = _Embedding(vocabulary, width)
        self.over = _Reader(recipe, width)


class _Embedding(nn.Module):
    """Numbers of words int64 `[N]` -> float32 `[N, W]`. Row 0, the unknown word, is learned like any other."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary + 1, width)

    def forward(self, words: Tensor) -> Tensor:
        """See the class."""
        known = (words >= 0) & (words < self.table.num_embeddings)
        vectors: Tensor = self.table(torch.where(known, words, torch.zeros_like(words)))
        return vectors


class _Reader(nn.Module):
    """Encoded words `[B, N, W]`, mask and when `[B, N]` -> tokens `[B, N, W]`, zeros under a False of the mask."""

    def __init__(self, recipe: TextRecipe, width: int) -> None:
        super().__init__()
        self.recurrent = MaskedRecurrent(width, width // 2, recipe.layers, _DROPOUT, recipe.encoder)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        tokens: Tensor = self.recurrent(x, mask)
        return tokens
