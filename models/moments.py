"""What a window's label rests on within a modality: each token's own probability, and its part in the pooled one.

A head pools by a power mean, `pooled^order = sum(weight * each^order)`, which is a sum over tokens: so the part of
token t is exact and needs no gradient,

    mass_t = weight_t each_t^order / sum(weight_u each_u^order).

Leaving a token out changes the pooled value by the more the greater its mass, because what is left is the mean of the
other terms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fusion.noisy_or import SMALLEST, ModalityHead, TagFusion


def masses(head: ModalityHead, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of each label in each token before calibration, and its mass: both `[B, T, L]`.

    Takes tokens `[B, T, W]` and a mask `[B, T]` (float). The masses of a label sum to 1 over the tokens; both results
    are 0 for a masked token and for a label that the modality can't raise.
    """
    present = mask.unsqueeze(-1)
    tokens = torch.where(present > 0, tokens, torch.zeros_like(tokens))
    each = head.label_probabilities(tokens).clamp(SMALLEST, 1 - SMALLEST)
    terms = each.pow(head.order) * present * head.raises
    # The least sum there can be: one token at the least probability.
    least = SMALLEST**2 * torch.finfo(terms.dtype).eps
    mass = terms / terms.sum(dim=1, keepdim=True).clamp(min=least)
    return each * present * head.raises, mass


class Moments(nn.Module):
    """A fusion that also says what each label rests on.

    forward: as `TagFusion` -> scores `[B, L]`, shares `[B, L, 3]`, then for video and for audio the tokens' own
    probabilities and their masses, `[B, Tv, L]` twice and `[B, Ta, L]` twice.
    """

    def __init__(self, fusion: TagFusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, video: Tensor, video_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        scores, shares = self.fusion(video, video_mask, audio, audio_mask)
        seen = masses(self.fusion.video, video, video_mask.to(video.dtype))
        heard = masses(self.fusion.audio, audio, audio_mask.to(audio.dtype))
        return scores, shares, *seen, *heard
