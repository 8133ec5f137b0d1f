"""From what a network says to what can be relied on: probabilities, or numbers in their own unit.

One form for all tasks: `raw * scale + bias`, then softmax (classes), sigmoid (labels) or nothing (numbers). For classes
the scale is 1 / temperature; for labels scale and bias are Platt's, one of each a label; for numbers they undo the
standardisation that training works in. It is part of the checkpoint, and serving applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.learning import metrics

_FEWEST = 10  # clips with a label, and without: below either it is scaled as all labels together are
_FEWEST_CLIPS = 20  # below, nothing is fitted: a temperature from a handful of clips says more about them than about it
_STRONGEST = 100.0  # scales stay within a hundredth and this
_FARTHEST = 20.0  # biases stay within plus and minus this


@dataclass(frozen=True)
class Calibration:
    """See the module. scale, bias: one figure for all outputs, or one an output. note: on what it was fitted."""

    task: str
    scale: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = (0.0,)
    note: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, raw: Tensor) -> Tensor:
        """What the network says `[..., K]` -> scores float32 `[..., K]`; a sequence's is left as it is."""
        if self.task == "sequence":
            return raw
        scaled = raw.float() * raw.new_tensor(self.scale, dtype=torch.float32)
        scaled = scaled + raw.new_tensor(self.bias, dtype=torch.float32)
        if self.task == "classes":
            return scaled.softmax(dim=-1)
        return scaled.sigmoid() if self.task == "labels" else scaled

    def as_document(self) -> dict[str, Any]:
        """For the header of a checkpoint."""
        return {"task": self.task, "scale": list(self.scale), "bias": list(self.bias), "note": dict(self.note)}


def parse(document: Mapping[str, Any]) -> Calibration:
    """What `as_document` gave; KeyError, TypeError or ValueError where it is something else."""
    return Calibration(
        str(document["task"]),
        tuple(float(value) for value in document["scale"]),
        tuple(float(value) for value in document["bias"]),
        dict(document["note"]),
    )


def of_numbers(mean: Tensor, deviation: Tensor) -> Calibration:
    """For numbers that were learned as (x - mean) / deviation; float `[K]` each."""
    return Calibration("numbers", tuple(deviation.double().tolist()), tuple(mean.double().tolist()))


def fit(task: str, raw: Tensor, target: Tensor, *, vector: bool = False) -> Calibration:
    """Fitted on validation clips: classes raw `[N, C]`, int64 `[N]`; labels raw `[N, L]`, 0 or 1 `[N, L]`.

    `vector`: classes get a bias each as well ("vector scaling" with one scale). What doesn't lower the loss on these
    very clips, or would rest on too few of them, is left out. `note` has the calibration error before and after.
    """
    if task == "classes":
        return _fit_classes(raw.double(), target, vector)
    return _fit_labels(raw.double(), target.double())


def _fit_classes(raw: Tensor, target: Tensor, vector: bool) -> Calibration:
    plain = Calibration("classes", note={"clips": len(target), "fitted": False})
    if len(target) < _FEWEST_CLIPS:
        return plain
    bias = torch.zeros(raw.shape[1], dtype=torch.float64)
    # Where none of N clips is told wrong, the next one still is with chance 1 / (N + 2) (Laplace's rule of succession);
    # without it, a temperature for a faultless validation set is zero.
    doubt = 1 / (len(target) + 2)
    softened = F.one_hot(target, raw.shape[1]) * (1 - doubt * raw.shape[1] / (raw.shape[1] - 1))
    softened = softened + doubt / (raw.shape[1] - 1)

    def loss(log_scale: Tensor, bias: Tensor) -> Tensor:
        return F.cross_entropy(raw * log_scale.exp() + bias, softened)

    log_scale = torch.zeros(1, dtype=torch.float64)
    counted = torch.bincount(target, minlength=raw.shape[1])
    if vector and int(counted.min()) >= _FEWEST:
        log_scale, bias = _minimise(loss, log_scale, bias)
        bias = bias - bias.mean()  # softmax knows differences alone
    else:
        (log_scale,) = _minimise(lambda value: loss(value, bias), log_scale)
    if not float(loss(log_scale, bias)) < float(loss(torch.zeros(1), torch.zeros(1))):
        return plain
    fitted = Calibration("classes", (float(log_scale.exp()),), tuple(bias.tolist()) if vector else (0.0,))
    return _noted(fitted, raw, target, lambda scores: metrics.class_calibration_error(scores.numpy(), target.numpy()))


def _fit_labels(raw: Tensor, target: Tensor) -> Calibration:
    """Platt, "Probabilistic outputs for support vector machines", 1999: logistic regression of the target on what is
    said, with his targets, which are a little less sure than 0 and 1."""
    clips, labels = raw.shape
    positives = target.sum(dim=0)
    plain = Calibration("labels", note={"clips": clips, "fitted": False})
    if clips < _FEWEST_CLIPS or float(positives.sum()) < _FEWEST:
        return plain
    softened = torch.where(target > 0.5, (positives + 1) / (positives + 2), 1 / (clips - positives + 2))

    def loss(log_scale: Tensor, bias: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(raw * log_scale.exp() + bias, softened)

    nothing = torch.zeros(labels, dtype=torch.float64)
    (shared,) = _minimise(lambda value: loss(value, nothing), torch.zeros(1, dtype=torch.float64))
    log_scale, bias = _minimise(loss, shared.expand(labels).clone(), nothing)
    few = (positives < _FEWEST) | (clips - positives < _FEWEST)
    log_scale, bias = torch.where(few, shared, log_scale), torch.where(few, nothing, bias)
    if not float(loss(log_scale, bias)) < float(loss(nothing, nothing)):
        return plain
    fitted = Calibration("labels", tuple(log_scale.exp().tolist()), tuple(bias.tolist()))
    right = (target > 0.5).numpy().ravel()
    return _noted(fitted, raw, target, lambda scores: metrics.calibration_error(scores.numpy().ravel(), right))


def _noted(fitted: Calibration, raw: Tensor, target: Tensor, error: Callable[[Tensor], float]) -> Calibration:
    before = error(Calibration(fitted.task).apply(raw))
    note = {"clips": len(target), "fitted": True, "ece_before": before, "ece_after": error(fitted.apply(raw))}
    return Calibration(fitted.task, fitted.scale, fitted.bias, note)


def _minimise(loss: Callable[..., Tensor], *start: Tensor) -> tuple[Tensor, ...]:
    """The parameters, from `start`, with the least loss, by L-BFGS (convex but for the scale's logarithm)."""
    found = [value.clone().requires_grad_() for value in start]
    search = torch.optim.LBFGS(found, max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)
    limit = torch.tensor(_STRONGEST, dtype=torch.float64).log()

    def step() -> float:
        search.zero_grad()
        # A weak pull towards no change at all: perfectly separated clips would drive everything to infinity.
        pulled = loss(*found) + 1e-4 * sum(value.square().mean() for value in found)
        pulled.backward()  # type: ignore[no-untyped-call]
        return float(pulled.detach())

    search.step(step)  # type: ignore[no-untyped-call]
    kept = [value.detach() for value in found]
    return (kept[0].clamp(-limit, limit), *(value.clamp(-_FARTHEST, _FARTHEST) for value in kept[1:]))
