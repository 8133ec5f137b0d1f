"""One optimiser step, and everything that steps change: the network, its moving average, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.learning import calibration, losses, optimiser
from models.learning.ahead import Ahead
from models.learning.balance import Balance
from models.learning.batch import Batch, Part
from models.learning.calibration import Calibration
from models.learning.errors import LearningError
from models.learning.keep import start_from
from models.learning.network import Network
from models.learning.predict import to_device
from models.learning.recipe import Recipe
from models.learning.sets import Data


class Learner:
    """See the module. steps: optimiser steps an epoch. calibration: what undoes the standardisation of numbers; of
    other tasks it changes nothing yet. kept: the network that is validated and kept."""

    def __init__(self, recipe: Recipe, data: Data, device: torch.device, *, beside: bool | None = None) -> None:
        """`beside`: batches are made while the network computes; where nobody says, on a GPU, which leaves the CPU
        free for it."""
        torch.manual_seed(recipe.train.seed)
        self.network = Network(recipe, data.outline)
        if recipe.start:
            start_from(self.network, Path(recipe.start))
        self.network.to(device).train()
        self.device = device
        self._recipe = recipe
        self._train = data.train
        targets = data.train.targets()
        self.calibration = _standard(recipe, targets)
        self._loss, self._weights = _loss(recipe, targets, len(data.names))
        self.optimiser = optimiser.optimiser(self.network, recipe.train)
        self.average = optimiser.Average(self.network, recipe.train.average) if recipe.train.average else None
        self.balance = Balance(recipe.train.balance_modalities)
        self._clips = min(len(data.train), recipe.train.batch * recipe.train.accumulate)
        self.steps = len(data.train) // self._clips
        self._ahead = Ahead(self._batches, beside=device.type == "cuda" if beside is None else beside)

    @property
    def kept(self) -> Network:
        """The moving average of the weights where there is one, else the weights."""
        return self.network if self.average is None else self.average.network

    def step(self, epoch: int, inside: int, done: int, epochs: int) -> dict[str, float]:
        """Step number `inside` (from 0) of epoch `epoch` (from 0) of `epochs`, after `done` in all: its loss, a clip,
        the rate, the gradients' norm before clipping, and what encoders were held back by.

        LearningError where the loss is no number.
        """
        recipe = self._recipe.train
        following = (epoch, inside + 1) if inside + 1 < self.steps else (epoch + 1, 0)
        seed, batches = self._ahead.take((epoch, inside), following)
        torch.manual_seed(seed)
        factor = optimiser.schedule(done, epochs * self.steps, round(recipe.warm_up * self.steps))
        optimiser.set_rate(self.optimiser, factor)
        self.optimiser.zero_grad()
        whole = 0.0
        for batch in batches:
            loss = self._of(to_device(batch, self.device)).sum() / self._clips
            loss.backward()  # type: ignore[no-untyped-call]
            whole += float(loss.detach())
        factors = self.balance.hold(self.network)
        limit = recipe.clip if recipe.clip > 0 else math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        if not (math.isfinite(whole) and math.isfinite(norm)):
            raise LearningError(
                f"the loss is {whole} and its gradient's norm {norm} at epoch {epoch + 1}, step {inside + 1}: lower "
                "train.rate or train.clip, or use precision float32"
            )
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.network, done)
        held = {f"held_{name}": value for name, value in factors.items()}
        return {"loss": whole, "rate": factor * recipe.rate, "norm": norm, **held}

    def close(self) -> None:
        """Ends what makes batches beside the steps."""
        self._ahead.close()

    def _batches(self, at: tuple[int, int]) -> tuple[int, list[Batch]]:
        """For a step of an epoch: the seed of what the network draws, and its batches, on the CPU."""
        recipe, (epoch, inside) = self._recipe.train, at
        # From 1: numpy takes (seed, epoch) and (seed, epoch, 0) for the same, and the first is the order's.
        rng = np.random.default_rng([recipe.seed, epoch, inside + 1])
        seed = int(rng.integers(1 << 62))
        chosen = self._order(epoch)[inside * self._clips : (inside + 1) * self._clips]
        pieces = [chosen[first : first + recipe.batch] for first in range(0, len(chosen), recipe.batch)]
        return seed, [dropped(self._train.batch(piece, rng), recipe.modality_dropout, rng) for piece in pieces]

    def _of(self, batch: Batch) -> Tensor:
        """The loss of each clip, float32 `[B]`."""
        recipe, network = self._recipe, self.network
        tokens = self._tokens(batch)
        if network.decoder is not None:
            memory = network.fusion.memory(tokens)
            told: Tensor = network.decoder.loss(memory, batch.target, batch.times)  # type: ignore[operator]
            return told
        logits: Tensor = network.fusion(tokens)
        self.balance.watch(network, tokens, batch.target)
        if recipe.task == "numbers":
            mean, deviation = (batch.target.new_tensor(one) for one in (self.calibration.bias, self.calibration.scale))
            return self._loss(logits, (batch.target - mean) / deviation)
        loss = self._loss(logits, batch.target)
        if batch.mixed is None:
            return loss
        return batch.mixed.weight * loss + (1 - batch.mixed.weight) * self._loss(logits, batch.mixed.target)

    def _tokens(self, batch: Batch) -> dict[str, Part]:
        """Items by modality -> tokens. In mixed precision is what sees one item at a time, where the time goes;
        recurrences, fusion and loss stay in float32."""
        mixed = self._recipe.train.precision == "bf16"
        tokens = {}
        for name, part in batch.parts.items():
            if name in self.network.encoders:
                encoder = self.network.encoder(name)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
                    encoded = encoder.encode(part)
                tokens[name] = encoder.tokens(encoded.of(encoded.x.float()))
        return tokens

    def _order(self, epoch: int) -> Sequence[int]:
        """The clips of an epoch: each once, or drawn by how rare its names are."""
        rng = np.random.default_rng([self._recipe.train.seed, epoch])
        count = len(self._train)
        if self._weights is None:
            return [int(index) for index in rng.permutation(count)]
        return [int(index) for index in rng.choice(count, count, p=self._weights)]


def dropped(batch: Batch, chance: float, rng: np.random.Generator) -> Batch:
    """The batch with modalities taken from clips at random: with `chance` a clip keeps some of those it has, any such
    set alike, but not all and never none (Neverova et al., "ModDrop", 2016)."""
    if chance <= 0 or len(batch.parts) < 2:
        return batch
    names = list(batch.parts)
    kept = np.stack([batch.parts[name].present().numpy() for name in names])
    for clip in np.flatnonzero(rng.random(len(batch)) < chance):
        there = np.flatnonzero(kept[:, clip])
        if len(there) > 1:
            stays = rng.integers(1, (1 << len(there)) - 1)  # a set by its bits: neither the empty one nor all
            kept[there, clip] = [bool(stays >> place & 1) for place in range(len(there))]
    parts = {name: batch.parts[name].only(torch.from_numpy(row)) for name, row in zip(names, kept, strict=True)}
    return replace(batch, parts=parts)


def _standard(recipe: Recipe, targets: Tensor) -> Calibration:
    if recipe.task != "numbers":
        return Calibration(recipe.task)
    deviation = targets.double().std(dim=0, correction=0)
    return calibration.of_numbers(targets.double().mean(dim=0), torch.where(deviation > 0, deviation, 1.0))


def _loss(recipe: Recipe, targets: Tensor, names: int) -> tuple[losses.Loss, np.ndarray | None]:
    """The loss, and how often each clip is drawn where that isn't alike."""
    if recipe.task == "sequence":
        losses.check(recipe)
        return losses.huber, None  # the decoder has its own
    if recipe.task == "numbers":
        return losses.loss_of(recipe, (), len(targets)), None
    hot = torch.nn.functional.one_hot(targets, names) if recipe.task == "classes" else targets
    loss = losses.loss_of(recipe, hot.sum(dim=0).tolist(), len(targets))
    if recipe.train.imbalance != "balanced_sampling":
        return loss, None
    return loss, losses.sampling_weights([row.nonzero().flatten().tolist() for row in hot], names)
