"""Masked pretraining: items are hidden, and what they were is told from those that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.pool import Moment
from models.learning.batch import Part
from models.learning.network import Outline
from models.learning.pretrain.method import EMBEDDING, Method, View
from models.learning.recipe import Recipe

_HIDDEN = 0.6
_WHOLE = 0.25
_PICTURE = 16
_BANDS = 64
_LAYERS = 2


class Masked(Method):
    """Of a clip's items, 60 % at random among all modalities are hidden before any encoder reads them; of one clip in
    four that has several modalities, a whole modality is, so that one is completed from the other. A transformer of two
    layers reads the tokens of the rest, what the fusion says of them, and at each hidden item's moment a learned token;
    with y its answers there and H the hidden items,

        L = 1/|H| sum_(i in H) mean_k smooth_l1(y_ik - t_ik),   t_i = (x_i - mean x_i) / deviation x_i

    after He et al., "Masked autoencoders are scalable vision learners", 2022 (their squared error is smoothed, so that
    a few wild items don't rule). x is the item as a frozen encoder has it; of encoders that learn, what they read: grey
    pictures of 16 x 16, the logarithm of 64 bands of a patch's power. Words are told by cross entropy.
    """

    def __init__(self, recipe: Recipe, outline: Outline) -> None:
        super().__init__(recipe, outline)
        width = recipe.fusion.width
        self._spoken = recipe.audio is not None and recipe.audio.encoder == "speech"
        self.moment = Moment(width, outline.longest_s)
        self.summary = nn.Linear(EMBEDDING, width)
        self.hidden = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in recipe.modalities})
        self.kind = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in recipe.modalities})
        layer = nn.TransformerEncoderLayer(
            width, recipe.fusion.heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        widths = {name: self._goal_width(name, recipe, outline) for name in recipe.modalities}
        self.told = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, wide)) for name, wide in widths.items()}
        )

    def loss(self, views: Sequence[View], player: int) -> Tensor:
        """See the class; 0 where nothing can be hidden, for clips of one item."""
        parts = {name: views[0][name] for name in self.told if name in views[0]}
        hidden = hide(parts)
        told = self._told(parts, hidden)
        total, count = self.summary.bias.sum() * 0.0, 0
        for name, part in parts.items():
            chosen = hidden[name]
            if chosen.any():
                total = total + self._distance(name, told[name][chosen], part.x[chosen])
                count += int(chosen.sum())
        return total / max(1, count)

    def _told(self, parts: View, hidden: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The decoder's answers by modality, `[B, N, goal]`, at every item."""
        seen = {name: Part(part.x, part.mask & ~hidden[name], part.when) for name, part in parts.items()}
        tokens = self.network.tokens(seen)
        rows = [self.summary(self.network.fusion(tokens)).unsqueeze(1)]
        for name, part in parts.items():
            token = torch.where(seen[name].mask.unsqueeze(-1), tokens[name].x, self.hidden[name])
            when = torch.where(part.mask, part.when, torch.zeros_like(part.when))
            rows.append(token + self.moment(when) + self.kind[name])
        absent = torch.cat(
            [torch.zeros_like(rows[0][..., 0], dtype=torch.bool), *(~one.mask for one in parts.values())], 1
        )
        read = self.decoder(torch.cat(rows, dim=1), src_key_padding_mask=absent)
        told, first = {}, 1
        for name, part in parts.items():
            told[name] = self.told[name](read[:, first : first + part.mask.shape[1]])
            first += part.mask.shape[1]
        return told

    def _distance(self, name: str, told: Tensor, items: Tensor) -> Tensor:
        """The sum over items of how far an answer is off: told `[H, goal]`, stored items `[H, ...]`."""
        if name == "text":
            return F.cross_entropy(told, items, reduction="sum")
        goal = F.layer_norm(self._goal(name, items), told.shape[-1:])
        return F.smooth_l1_loss(told, goal, reduction="none").mean(dim=1).sum()

    @torch.no_grad()
    def _goal(self, name: str, items: Tensor) -> Tensor:
        """What of stored items is to be told, `[H, goal]`."""
        if name == "video" and items.dtype == torch.uint8:
            grey = items.float() if items.ndim == 3 else items.float().mean(dim=-1)
            return F.adaptive_avg_pool2d(grey.unsqueeze(1), _PICTURE).flatten(1)
        if name == "audio" and self._spoken:
            power = torch.fft.rfft(items.float()).abs().square()
            return (F.adaptive_avg_pool1d(power.unsqueeze(1), _BANDS).squeeze(1) + 1e-6).log()
        return items.float()

    def _goal_width(self, name: str, recipe: Recipe, outline: Outline) -> int:
        if name == "text":
            return outline.vocabulary + 1
        if name == "audio" and self._spoken:
            return _BANDS
        if name == "video" and recipe.video is not None and recipe.video.encoder != "efficientnet":
            return _PICTURE**2
        return self.network.encoder(name).item_width


def hide(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Which items are hidden, bool `[B, N]` by modality: at least one, and never all, of a clip that has two or more;
    none that isn't there. All chance is torch's own."""
    there = torch.cat([part.mask for part in parts.values()], dim=1)
    order = torch.rand(there.shape, device=there.device).masked_fill(~there, 2.0).argsort(dim=1).argsort(dim=1)
    items = there.sum(dim=1)
    many = (items * _HIDDEN).round().clamp(min=1).minimum(items - 1).unsqueeze(1)
    sizes = [part.mask.shape[1] for part in parts.values()]
    pieces = (there & (order < many)).split(sizes, dim=1)  # type: ignore[no-untyped-call]
    hidden = dict(zip(parts, pieces, strict=True))
    present = torch.stack([part.present() for part in parts.values()], dim=1)
    several = (present.sum(dim=1) > 1) & (torch.rand(len(present), device=there.device) < _WHOLE)
    gone = torch.rand(present.shape, device=there.device).masked_fill(~present, -1.0).argmax(dim=1)
    return {
        name: torch.where(several[:, None], parts[name].mask & (gone == place)[:, None], hidden[name])
        for place, name in enumerate(parts)
    }
