"""Fusion by attention: a few learned latents attend over the tokens of all modalities, softmax kept by modality.

The function is that of kernels/fusion (its README has the maths), here with weights that learn:

    x_t = norm(token_t + modality + time)        s = q . W_k x / sqrt(E)        a(S) = softmax over the tokens of S
    h(S) = prior + W_o a(S)                      logits(S) = W_c (h + W_2 gelu(W_1 norm(h) + b_1) + b_2) + b_c

Any set S of modalities is exactly the merge of its modalities' own attention, so all subsets cost little more than one.
It is computed in two ways that agree: on a GPU by the kernels' op, over ragged tokens, in training and serving; on a
CPU by the dense form below, over padded tokens, which is also the one that is exported.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.fusion.absorbed import Absorbed
from kernels.fusion.op import absorb, fuse
from kernels.fusion.tensors import EPSILON, Fused, Tokens, Weights
from models.fusion.base import Fusion, FusionSize, clips, there
from models.fusion.pool import LOWEST, clean
from models.fusion.timeline import STEP_S, Join, Near, moments
from models.learning.batch import MODALITIES, Part

LATENTS = 4
_INNER = 2  # inner width of the FFN, in widths
_MOST_BINS = 256


class AttentionFusion(Fusion):
    """See the module. D = `size.width`, a multiple of `size.heads`; time is told in steps of 40 ms (longer ones where
    `size.longest_s` would take more than 256). `size.layers` counts the layers of the memory."""

    def __init__(self, modalities: Sequence[str], size: FusionSize) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.size = size
        self.bins = min(_MOST_BINS, max(2, round(size.longest_s / STEP_S) + 1))
        for name, tensor in _initial(size, self.bins).items():
            self.register_parameter(name, nn.Parameter(tensor))
        self.dropout = nn.Dropout(size.dropout)
        self.join = Join(self.modalities, size.width) if size.memory else None
        layers = size.layers if size.memory else 0
        self.near = nn.ModuleList(Near(size.width, size.heads, size.dropout) for _ in range(layers))
        self._held: Absorbed | None = None

    def weights(self) -> Weights:
        """The parameters as the kernels take them."""
        return Weights(**{name: self.get_parameter(name) for name in Weights.__slots__})

    def absorbed(self, dtype: torch.dtype = torch.float32) -> Absorbed:
        """The same with constants multiplied out (kernels.fusion.op.absorb); those that are held, if they are."""
        device = self.get_parameter("prior").device
        held = self._held
        if held is not None and (held.probes.dtype, held.probes.device) == (dtype, device):
            return held
        with torch.autocast(device.type, enabled=False):  # it says itself in what it computes
            return absorb(self.weights(), dtype)

    def hold(self, dtype: torch.dtype = torch.float32) -> AttentionFusion:
        """Multiply the constants out once, for serving and export, where the parameters stay; `train()` lets go."""
        self._held = None
        with torch.no_grad():
            self._held = self.absorbed(dtype)
        return self

    def train(self, mode: bool = True) -> AttentionFusion:
        """As nn.Module's; parameters that may change aren't held multiplied out."""
        self._held = None if mode else self._held
        super().train(mode)
        return self

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """See the base."""
        mine = self.of_mine(parts)
        if mine and next(iter(mine.values())).x.is_cuda and not torch.compiler.is_exporting():
            return self.fused(mine, 0).logits.float()
        return self.coalitions(mine, [self.modalities])[0]

    def fused(self, parts: Mapping[str, Part], k: int) -> Fused:
        """What the kernels' op says of the tokens: logits, the k strongest, their Shapley values, attention mass."""
        tokens = self.tokens(parts)
        return fuse(tokens, self.absorbed(tokens.ring.dtype), k)

    def tokens(self, parts: Mapping[str, Part]) -> Tokens:
        """Parts (at least one) as the op takes them: they are the ring, one behind the other, and what is there is
        gathered from it, by clip and modality; what stands under a False of the mask comes last and is nobody's."""
        mine = {name: clean(part) for name, part in self.of_mine(parts).items()}
        slots, masks, whens, begin = [], [], [], 0
        for part in mine.values():
            slots.append(torch.arange(part.mask.numel(), device=part.x.device).view(part.mask.shape) + begin)
            masks.append(part.mask)
            whens.append(self._bin(part.when))
            begin += part.mask.numel()
        mask = torch.cat(masks, dim=1).flatten()
        # Moved by sorting, not by asking how many there are, which would stall a GPU.
        order = torch.argsort((~mask).int(), stable=True)
        slot, when = (torch.cat(each, dim=1).flatten()[order].int() for each in (slots, whens))
        count = next(iter(mine.values())).mask.new_zeros(clips(mine), dtype=torch.int64)
        counts = [mine[name].mask.sum(dim=1) if name in mine else count for name in MODALITIES]
        offset = F.pad(torch.stack(counts, dim=1).flatten().cumsum(dim=0), (1, 0)).int()
        ring = torch.cat([self._dropped(part.x).flatten(0, 1) for part in mine.values()])
        if torch.is_autocast_enabled(ring.device.type):
            ring = ring.to(torch.get_autocast_dtype(ring.device.type))
        return Tokens(ring, slot, when, offset)

    def coalitions(self, parts: Mapping[str, Part], chosen: Sequence[Collection[str]]) -> Tensor:
        """See the base. Attention runs once a modality; a set costs its merge, which is exact, and the tail."""
        mine = self.of_mine(parts)
        a = self.absorbed()
        (latents, heads, _), length = a.probes.shape, a.value.shape[1]
        attended = a.prior.new_zeros(len(chosen), clips(mine), latents, heads, length)
        if mine:
            stats = {name: self._attend(name, part, a) for name, part in mine.items()}
            weight = _merge(stats, mine, chosen)
            attended = torch.einsum("smblh,mblhe->sblhe", weight, torch.stack([each.value for each in stats.values()]))
        h = a.prior + attended.flatten(2) @ a.out.T
        inside = F.gelu(F.layer_norm(h, h.shape[-1:], eps=EPSILON) @ a.up.T + a.up_bias)
        logits = torch.cat([inside, h.to(inside.dtype)], dim=-1) @ a.head.T + a.base
        return logits.float()

    def strongest(self, parts: Mapping[str, Part], k: int) -> tuple[Tensor, Tensor, Tensor]:
        """See the base; by the op, whose tail runs on Shapley values, where it can."""
        mine = self.of_mine(parts)
        if not mine or torch.compiler.is_exporting():
            return super().strongest(mine, k)
        fused = self.fused(mine, k)
        return fused.logits.float(), fused.top, fused.shares.float()

    def mass(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Each token's part of its clip's attention, float32 `[B, N_m]`: over all modalities of a clip it sums to 1
        (where there is any token), averaged over latents and heads."""
        mine = self.of_mine(parts)
        a = self.absorbed()
        stats = {name: self._attend(name, part, a) for name, part in mine.items()}
        if not mine:
            return {}
        weight = _merge(stats, mine, [self.modalities])[0]
        return {
            name: (each.weight * weight[number].unsqueeze(1)).mean(dim=(2, 3))
            for number, (name, each) in enumerate(stats.items())
        }

    def memory(self, parts: Mapping[str, Part]) -> Part:
        """See the base: the modalities side by side at each step, which then attends over all tokens near it."""
        join = self.built(self.join)
        mine = {name: clean(part) for name, part in self.of_mine(parts).items()}
        when, mask = moments(mine, self.size.longest_s, join.linear.weight.device)
        steps = join(mine, when)
        for layer in self.near:
            steps = layer(steps, when, mine)
        return Part(steps, mask, when)

    def _attend(self, name: str, part: Part, a: Absorbed) -> _Stats:
        """Attention within one modality, over padded tokens."""
        part = clean(part)
        x = self._dropped(part.x) + a.table[MODALITIES.index(name)][self._bin(part.when)]
        x = F.layer_norm(x, x.shape[-1:], eps=EPSILON)
        # One place more, which never counts: a softmax over nothing is not defined.
        x, mask = F.pad(x, (0, 0, 0, 1)), F.pad(part.mask, (0, 1))[..., None, None]
        latents, heads, _ = a.probes.shape
        score = (x @ a.probes.flatten(0, 1).T).float().view(*x.shape[:2], latents, heads).masked_fill(~mask, LOWEST)
        weight = score.softmax(dim=1) * mask
        mean = torch.einsum("bnlh,bnd->blhd", weight.to(x.dtype), x)
        value = torch.einsum("blhd,hed->blhe", mean, a.value) + a.value_bias
        return _Stats(value, score.logsumexp(dim=1), weight[:, :-1])

    def _dropped(self, x: Tensor) -> Tensor:
        """Tokens with dropout, of the same channels for all tokens of a clip: what is left out of one token alone,
        pooling would bring back from the others."""
        dropped: Tensor = x * self.dropout(torch.ones_like(x[:, :1])) if x.shape[1] and self.training else x
        return dropped

    def _bin(self, when: Tensor) -> Tensor:
        """Seconds -> time bins int64; what lies beyond the longest clip counts as its end."""
        return (when * ((self.bins - 1) / self.size.longest_s)).round().long().clamp(0, self.bins - 1)


class _Stats(NamedTuple):
    """Attention within one modality: value `[B, L, H, E]`, lse `[B, L, H]` (`LOWEST` or near it, without tokens), and
    each token's weight `[B, N, L, H]`."""

    value: Tensor
    lse: Tensor
    weight: Tensor


def _merge(stats: Mapping[str, _Stats], parts: Mapping[str, Part], chosen: Sequence[Collection[str]]) -> Tensor:
    """What each modality weighs in each set: `[S, M, B, L, H]`, 0 where it is not chosen or not there."""
    lse = torch.stack([each.lse for each in stats.values()])
    member = torch.stack([there(parts, name, chosen) for name in stats], dim=1)[..., None, None]
    return torch.where(member, lse, LOWEST).softmax(dim=1) * member


def _initial(size: FusionSize, bins: int) -> dict[str, Tensor]:
    """Parameters before training, by their names in kernels.fusion.tensors.Weights.

    It starts near the mean over all tokens: queries are small, and the FFN adds nothing yet. (Queries that are sharp
    from the start choose at random, and few clips don't teach them better.) Maps keep the deviation of what they map;
    moments that are close have embeddings that are close.
    """
    width, heads, length, inner = size.width, size.heads, size.width // size.heads, _INNER * size.width
    if width % (2 * heads):
        raise ValueError(f"attention: width {width} must be an even multiple of its {heads} heads")
    attended = LATENTS * width
    return {
        "modality": torch.randn(len(MODALITIES), width) * 0.1,
        "time": _waves(width, bins) * 0.1,
        "gain": torch.ones(width),
        "shift": torch.zeros(width),
        "query": torch.randn(LATENTS, heads, length) * 0.05,
        "key": torch.randn(heads, length, width) * width**-0.5,
        "value": torch.randn(heads, length, width) * width**-0.5,
        "value_bias": torch.zeros(heads, length),
        "out": torch.randn(width, attended) * attended**-0.5,
        "prior": torch.randn(width) * 0.1,
        "up_gain": torch.ones(width),
        "up_shift": torch.zeros(width),
        "up": torch.randn(inner, width) * width**-0.5,
        "up_bias": torch.zeros(inner),
        "down": torch.zeros(width, inner),
        "down_bias": torch.zeros(width),
        "head": torch.randn(size.outputs, width) * width**-0.5,
        "head_bias": torch.zeros(size.outputs),
    }


def _waves(width: int, bins: int) -> Tensor:
    """Sines and cosines of wave lengths from 4 bins to 4 times all of them: `[bins, width]`."""
    lengths = torch.logspace(math.log10(4.0), math.log10(4.0 * bins), width // 2)
    angle = 2 * math.pi * torch.arange(bins).unsqueeze(1) / lengths
    return torch.cat([angle.sin(), angle.cos()], dim=1)
