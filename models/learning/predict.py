"""What a network says about the clips of a set, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.learning import metrics
from models.learning.batch import PADDING, Batch, Mixed, Part
from models.learning.calibration import Calibration
from models.learning.network import Network
from models.learning.sets import Split

Change = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Predicted:
    """raw: what the network says, before calibration, float32 `[N, outputs]` on the CPU (empty for sequences). target:
    as Batch's. said, true: the symbols of each clip by index, for sequences. clips: their names."""

    raw: Tensor
    target: Tensor
    said: Sequence[Sequence[int]]
    true: Sequence[Sequence[int]]
    clips: Sequence[str]

    def figures(self, task: str, calibration: Calibration) -> dict[str, float]:
        """The task's figures (metrics.figures; word_error for sequences); none where there are no clips."""
        if not self.clips:
            return {}
        if task == "sequence":
            right = np.mean([list(one) == list(other) for one, other in zip(self.said, self.true, strict=True)])
            return {"word_error": metrics.word_error(self.said, self.true), "sentences_right": float(right)}
        return metrics.figures(task, calibration.apply(self.raw).numpy(), self.target.numpy())


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with its tensors there."""
    parts = {
        name: Part(part.x.to(device), part.mask.to(device), part.when.to(device)) for name, part in batch.parts.items()
    }
    mixed = batch.mixed and Mixed(batch.mixed.target.to(device), batch.mixed.weight.to(device))
    times = None if batch.times is None else batch.times.to(device)
    return Batch(parts, batch.target.to(device), batch.clips, mixed, times)


def only(batch: Batch, modalities: Collection[str]) -> Batch:
    """The batch without its other modalities."""
    kept = {name: part for name, part in batch.parts.items() if name in modalities}
    if not kept:  # what a fusion says of nothing at all: the number of clips must still be known
        kept = {name: part.only(torch.zeros_like(part.present())) for name, part in batch.parts.items()}
    return replace(batch, parts=kept)


def batches(split: Split, size: int) -> Iterator[Batch]:
    """All clips of a set in their order, as they are."""
    for first in range(0, len(split), size):
        yield split.batch(range(first, min(first + size, len(split))), None)


@torch.no_grad()
def predict(
    network: Network,
    split: Split,
    *,
    change: Change | None = None,
    size: int = 32,
    beam: int = 1,
) -> Predicted:
    """What the network says of every clip, on the device where its weights are; `change` is done to each batch first
    (a modality taken away, noise). The network is left in the mode that it was in."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    raw: list[Tensor] = []
    target: list[Tensor] = []
    said: list[list[int]] = []
    true: list[list[int]] = []
    names: list[str] = []
    for each in batches(split, size):
        batch = to_device(each if change is None else change(each), device)
        names += list(batch.clips)
        if network.decoder is None:
            raw.append(network(batch.parts).float().cpu())
            target.append(batch.target.cpu())
        else:
            said += network.decoder.decode(network.memory(batch.parts), beam)  # type: ignore[operator]
            true += [[symbol for symbol in row if symbol != PADDING] for row in batch.target.tolist()]
    network.train(training)
    nothing = torch.zeros(0, 0)
    return Predicted(
        torch.cat(raw) if raw else nothing, torch.cat(target) if target else nothing, said, true, tuple(names)
    )
