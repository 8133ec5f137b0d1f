"""What goes into the fusion and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

MODALITIES = 3  # video, audio, text, in this order everywhere
SUBSETS = 1 << MODALITIES  # numbered by bit mask: video 1, audio 2, text 4
EPSILON = 1e-5  # of both layer norms


class Tokens(NamedTuple):
    """Tokens of B windows by index: `ring` `[R, D]` holds every stream's rings; `slot` and `when` int32 `[N]` are a
    token's row there and its time bin. Segment s = 3 * window + modality is tokens `offset[s]` to `offset[s + 1]` of
    them, `offset` int32 `[3B + 1]` from 0. Tokens past the last offset are nobody's; their index may be anything."""

    ring: Tensor
    slot: Tensor
    when: Tensor
    offset: Tensor


@dataclass(frozen=True, slots=True)
class Weights:
    """Learned tensors. D width, T time bins, L latents, H heads of E, F inner width, C labels."""

    modality: Tensor  # [3, D]
    time: Tensor  # [T, D]
    gain: Tensor  # [D], layer norm of the tokens, with shift
    shift: Tensor  # [D]
    query: Tensor  # [L, H, E]
    key: Tensor  # [H, E, D]; a bias would cancel in the softmax
    value: Tensor  # [H, E, D]
    value_bias: Tensor  # [H, E]
    out: Tensor  # [D, L * H * E]
    prior: Tensor  # [D], the state before any token is attended to
    up_gain: Tensor  # [D], layer norm of the FFN, with up_shift
    up_shift: Tensor  # [D]
    up: Tensor  # [F, D]
    up_bias: Tensor  # [F]
    down: Tensor  # [D, F]
    down_bias: Tensor  # [D]
    head: Tensor  # [C, D]
    head_bias: Tensor  # [C]


class Fused(NamedTuple):
    """`logits` `[B, C]`; `top` int64 `[B, k]`, the strongest labels, falling; `shares` `[B, k, 3]`, their Shapley
    values, which sum to logit - logit of the empty set; `mass` `[N]`, a token's part of a window's attention (sums to
    1)."""

    logits: Tensor
    top: Tensor
    shares: Tensor
    mass: Tensor
