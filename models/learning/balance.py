"""Balance between modalities while they learn: the encoder of the one that is ahead is held back.

OGM-GE (Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation", 2022): where a modality alone
says the truth with rho times the probability that the others do, rho > 1, its encoder's gradients are multiplied by
1 - tanh(alpha rho), and noise as large as they vary is added, so that what chance did for generalisation isn't lost.

It can hurt as well: holding back the better modality costs what it knows. So it acts only where the modalities are far
apart, and is switched off for good once the validation has got worse under it for some epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.learning.batch import Part
from models.learning.network import Network

_FAR = 1.25  # times that one modality must be ahead of the others before it is held back
_PATIENCE = 3  # epochs in a row without a new best score under it, after which it is off


@dataclass
class Balance:
    """strength: alpha; 0 does nothing. off, losing, acted: whether it was switched off, epochs in a row that were no
    better under it, and whether it did anything in this epoch."""

    strength: float
    off: bool = False
    losing: int = 0
    acted: bool = False
    _told: dict[str, float] = field(default_factory=dict)

    @property
    def on(self) -> bool:
        """Whether it may act."""
        return self.strength > 0 and not self.off

    def watch(self, network: Network, tokens: Mapping[str, Part], target: Tensor) -> None:
        """Adds up how well each modality alone tells a batch: tokens by modality, target of classes or labels. Clips
        that lack one of them aren't looked at."""
        if not self.on or len(tokens) < 2:
            return
        whole = torch.stack([part.present() for part in tokens.values()]).all(dim=0)
        if not bool(whole.any()):
            return
        with torch.no_grad():
            alone = network.fusion.contribution({name: part.of(part.x.detach()) for name, part in tokens.items()})
            for name, logits in alone.items():
                told = float(_truth(logits[whole].float(), target[whole]).sum())
                self._told[name] = self._told.get(name, 0.0) + told

    def hold(self, network: Network) -> dict[str, float]:
        """Changes the encoders' gradients before an optimiser step; gives what each was multiplied by."""
        told, self._told = self._told, {}
        factors = coefficients(told, self.strength) if self.on else {}
        for name, factor in factors.items():
            if factor < 1:
                self.acted = True
                for parameter in network.encoder(name).parameters():
                    if parameter.grad is not None and parameter.ndim > 1:
                        spread = float(parameter.grad.std())
                        parameter.grad.mul_(factor).add_(torch.randn_like(parameter.grad), alpha=spread)
        return factors

    def judge(self, better: bool) -> None:
        """After an epoch's validation: whether its score was the best so far."""
        if self.acted and not better:
            self.losing += 1
        elif better:
            self.losing = 0
        self.off = self.off or self.losing >= _PATIENCE
        self.acted = False


def coefficients(told: Mapping[str, float], strength: float) -> dict[str, float]:
    """What each modality's gradients are multiplied by: 1 but for one that is ahead. `told`: how much of the truth each
    one says alone, added up over the same clips."""
    found = {}
    for name, own in told.items():
        others = [value for other, value in told.items() if other != name]
        mean = sum(others) / len(others) if others else own
        ahead = own / mean if mean > 0 else 1.0
        found[name] = 1 - math.tanh(strength * ahead) if ahead > _FAR else 1.0
    return found


def _truth(logits: Tensor, target: Tensor) -> Tensor:
    """The probability given to what is true, float `[B]`: of the class; of each label's being there or not, the
    mean."""
    if target.ndim == 1:
        return logits.softmax(dim=1).gather(1, target[:, None]).squeeze(1)
    return torch.sigmoid(logits * (2 * target - 1)).mean(dim=1)
