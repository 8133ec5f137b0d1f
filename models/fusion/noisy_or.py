"""Decision-level fusion: two pretrained classifiers on the tokens of a window, joined label by label.

Per modality: class probabilities of each token, merged into labels, pooled over the window's tokens, turned into
calibrated log-odds x. A label is true of a window if it is seen or heard, so the modalities join as a noisy-or (Pearl,
"Probabilistic Reasoning in Intelligent Systems", 1988, section 4.3.2):

    p = 1 - (1 - prior) (1 - p_video) (1 - p_audio)        with p_m = sigmoid(x_m)

which is a sum of evidence, S = s_0 + softplus(x_video) + softplus(x_audio), p = 1 - exp(-S). A modality that is absent
adds nothing: the same code path as one that is present, and exactly what the module would say had it never been there.

A share is the positive part of a modality's Shapley value (Shapley, "A value for n-person games", 1953) of the label's
logit, normalised; the value of a set of modalities is the logit with only that set, and of the empty set the prior's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1, so that every logit is finite in float32
_NO_EVIDENCE = 1e-3  # logits that differ by less differ by rounding: near the prior float32 keeps no more than 1e-4


@dataclass(frozen=True, slots=True)
class HeadConstants:
    """What a head knows beside its classifier.

    `label_of_class` int64 `[C]`: the label each class counts for, of `labels`. `scale`, `bias`: Platt's constants.
    `order`: of the power mean over tokens; 1 is their mean, and the higher it is, the more one token counts.
    `nothing`: for classes of which a token is one alone (softmax: ImageNet), the logit of being none of them; None for
    classes that are each there or not (sigmoid: AudioSet).
    """

    label_of_class: Tensor
    labels: int
    scale: float
    bias: float
    order: float
    nothing: float | None


class ModalityHead(nn.Module):
    """A classifier on the tokens of one modality: tokens `[B, T, W]`, mask `[B, T]` -> calibrated log-odds `[B, L]`.

    Classes that exclude each other add up to a label; the others join as a noisy-or.
    The buffer `raises` `[L]` is 1 where the modality has a class for the label; elsewhere the log-odds mean nothing.
    """

    merge: Tensor
    raises: Tensor
    scale: Tensor
    bias: Tensor
    order: Tensor
    nothing: Tensor | None

    def __init__(self, classifier: nn.Linear, constants: HeadConstants) -> None:
        super().__init__()
        self.classifier = classifier
        merge = F.one_hot(constants.label_of_class, constants.labels).float()
        self.register_buffer("merge", merge)
        self.register_buffer("raises", merge.amax(dim=0))
        self.register_buffer("scale", torch.tensor(constants.scale))
        self.register_buffer("bias", torch.tensor(constants.bias))
        self.register_buffer("order", torch.tensor(constants.order))
        self.register_buffer("nothing", None if constants.nothing is None else torch.tensor(constants.nothing))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See the class. Tokens under a zero of the mask may hold anything, not-a-number included."""
        return self.scale * self.pooled(tokens, mask) + self.bias

    def pooled(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Log-odds of each label in the window before calibration: `[B, T, W]`, `[B, T]` -> `[B, L]`."""
        tokens = torch.where(mask.unsqueeze(-1) > 0, tokens, torch.zeros_like(tokens))
        each = self.label_probabilities(tokens).clamp(SMALLEST, 1 - SMALLEST)
        weight = mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = (each.pow(self.order) * weight.unsqueeze(-1)).sum(dim=1)
        pooled = mean.pow(1 / self.order).clamp(SMALLEST, 1 - SMALLEST)
        return pooled.log() - torch.log1p(-pooled)

    def label_probabilities(self, tokens: Tensor) -> Tensor:
        """Uncalibrated probability of each label in each token: `[B, T, W]` -> `[B, T, L]`."""
        classes: Tensor = self.classifier(tokens)
        if self.nothing is not None:
            # A softmax with one class more, without which the 118 breeds make of every blank wall a bit of a dog.
            total = torch.logaddexp(classes.logsumexp(dim=-1, keepdim=True), self.nothing)
            return torch.exp(classes - total) @ self.merge
        # softplus(z) is -log(1 - sigmoid(z)): sums of it are noisy-ors, and no probability near 1 is ever taken from 1.
        return 1 - torch.exp(-(F.softplus(classes) @ self.merge))


class TagFusion(nn.Module):
    """The checkpoint `tags`: the labels of a window from its tokens, without training.

    `prior` is the probability of any label while nothing is seen and heard.
    """

    prior_evidence: Tensor

    def __init__(self, video: ModalityHead, audio: ModalityHead, prior: float) -> None:
        super().__init__()
        self.video = video
        self.audio = audio
        self.register_buffer("prior_evidence", torch.tensor(-math.log1p(-prior)))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> TagFusion:
        """The module with a state dict's tensors, sized by their shapes; RuntimeError or KeyError if they don't fit."""
        fusion = cls(_empty_head(state, "video"), _empty_head(state, "audio"), prior=0.5)
        fusion.load_state_dict(dict(state))
        return fusion

    def forward(self, video: Tensor, video_mask: Tensor, audio: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Scores float32 `[B, L]` (calibrated probabilities) and shares float32 `[B, L, 3]` (video, audio, text).

        Takes float32 tokens `[B, Tv, 1280]` and `[B, Ta, 1024]`, and masks `[B, Tv]` and `[B, Ta]` (bool or float, 1
        where there is a token). A modality whose mask is all zero is absent. The shares of a label sum to 1.
        """
        video_mask, audio_mask = video_mask.to(video.dtype), audio_mask.to(audio.dtype)
        seen, heard = video_mask.amax(dim=1, keepdim=True), audio_mask.amax(dim=1, keepdim=True)
        evidence_video = F.softplus(self.video(video, video_mask)) * (self.video.raises * seen)
        evidence_audio = F.softplus(self.audio(audio, audio_mask)) * (self.audio.raises * heard)
        scores = 1 - torch.exp(-(self.prior_evidence + evidence_video + evidence_audio))
        return scores, self._shares(evidence_video, evidence_audio, torch.cat([seen, heard], dim=1))

    def _shares(self, video: Tensor, audio: Tensor, present: Tensor) -> Tensor:
        """Normalised Shapley values of two players' evidence `[B, L]`; text takes no part. `present`: `[B, 2]`."""
        nothing = _logit(self.prior_evidence)
        only_video, only_audio = _logit(self.prior_evidence + video), _logit(self.prior_evidence + audio)
        together = _logit(self.prior_evidence + video + audio)
        value_video = (only_video - nothing + together - only_audio) / 2
        value_audio = (only_audio - nothing + together - only_video) / 2
        values = torch.stack([value_video, value_audio, torch.zeros_like(value_video)], dim=-1).clamp(min=0.0)
        total = values.sum(dim=-1, keepdim=True)
        uniform = _uniform(present).unsqueeze(1)
        return torch.where(total > _NO_EVIDENCE, values / total.clamp(min=_NO_EVIDENCE), uniform)


def _empty_head(state: Mapping[str, Tensor], name: str) -> ModalityHead:
    """A head of the sizes that a state dict has, to be filled from it."""
    classes, width = state[f"{name}.classifier.weight"].shape
    nowhere = torch.zeros(classes, dtype=torch.int64)
    nothing = 0.0 if f"{name}.nothing" in state else None
    constants = HeadConstants(nowhere, len(state[f"{name}.raises"]), scale=1.0, bias=0.0, order=1.0, nothing=nothing)
    return ModalityHead(nn.Linear(width, classes), constants)


def _logit(evidence: Tensor) -> Tensor:
    """Log-odds of p = 1 - exp(-evidence): log(exp(evidence) - 1), written so that large evidence does not overflow."""
    return evidence + torch.log(-torch.expm1(-evidence))


def _uniform(present: Tensor) -> Tensor:
    """`[B, 2]` of 0 and 1 (video, audio) -> `[B, 3]`: equal parts for what is present, for all three if nothing is."""
    three = torch.cat([present, torch.zeros_like(present[:, :1])], dim=1)
    count = three.sum(dim=1, keepdim=True)
    return torch.where(count > 0, three / count.clamp(min=1.0), torch.full_like(three, 1 / 3))
