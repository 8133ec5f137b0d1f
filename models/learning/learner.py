"""One optimiser step, and everything that steps change: the network, its moving average, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from models.learning.partners import Partners
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
        others = recipe.train.processes - 1 if device.type == "cpu" else 0
        self._partners = Partners(others, self.network, self._share) if others > 0 else None

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
        if self._partners is not None:
            self._partners.ask((epoch, inside))
        made = self._ahead.take((epoch, inside), following)
        factor = optimiser.schedule(done, epochs * self.steps, round(recipe.warm_up * self.steps))
        optimiser.set_rate(self.optimiser, factor)
        self.optimiser.zero_grad()
        whole = self._backward(*made)
        if self._partners is not None:
            whole += self._partners.add()
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
        """Ends what works beside the steps."""
        self._ahead.close()
        if self._partners is not None:
            self._partners.close()

    def _backward(self, seed: int, batches: Sequence[Batch]) -> float:
        """Fills the gradients, and gives the loss."""
        torch.manual_seed(seed)
        whole = 0.0
        for batch in batches:
            loss = self._of(to_device(batch, self.device)).sum() / self._clips
            loss.backward()  # type: ignore[no-untyped-call]
            whole += float(loss.detach())
        return whole

    def _share(self, at: tuple[int, int], share: int) -> float:
        """What another process does of a step."""
        return self._backward(*self._batches(at, share))

    def _batches(self, at: tuple[int, int], share: int = 0) -> tuple[int, list[Batch]]:
        """For a step of an epoch and a process's share of it: the seed of what the network draws, and its batches, on
        the CPU."""
        recipe, (epoch, inside) = self._recipe.train, at
        # From 1: numpy takes (seed, epoch) and (seed, epoch, 0) for the same, and the first is the order's.
        rng = np.random.default_rng([recipe.seed, epoch, inside + 1, share][: 4 if share else 3])
        seed = int(rng.integers(1 << 62))
        chosen = self._order(epoch)[inside * self._clips : (inside + 1) * self._clips]
        whole = [chosen[first : first + recipe.batch] for first in range(0, len(chosen), recipe.batch)]
        count = recipe.processes if self._partners is not None else 1
        pieces = [mine for piece in whole if (mine := piece[share::count])]
        return seed, [dropped(self._train.batch(piece, rng), recipe.modality_dropout, rng) for piece in pieces]

    def _of(self, batch: Batch) -> Tensor:
        """The loss of each clip, float32 `[B]`."""
        recipe, network = self._recipe, self.network
        encoded = self._encoded(batch)
        if network.aligned is not None and batch.times is not None:
            return self._of_aligned(encoded, batch)
        tokens = {name: network.encoder(name).tokens(part) for name, part in encoded.items()}
        if network.decoder is not None:
            told: Tensor = network.decoder.loss(network.fusion.memory(tokens), batch.target, batch.times)  # type: ignore[operator]
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

    def _of_aligned(self, encoded: Mapping[str, Part], batch: Batch) -> Tensor:
        """Of a sequence whose symbols have times. What looks at a few items learns from what is said at each moment
        alone: from what a decoder that knows nothing yet sends back it learns several times slower."""
        network = self.network
        assert network.decoder is not None and network.aligned is not None
        tokens, known = {}, {}
        for name, part in encoded.items():
            local = network.encoder(name).local(part)
            if local is None:
                tokens[name] = network.encoder(name).tokens(part)
            else:
                known[name] = local
                tokens[name] = network.encoder(name).tokens_of_local(local.of(local.x.detach()))
        told: Tensor = network.decoder.loss(network.fusion.memory(tokens), batch.target, batch.times)  # type: ignore[operator]
        lost: Tensor = network.aligned.loss(known, batch.target, batch.times)  # type: ignore[operator]
        return told + self._recipe.sequence.align * lost

    def _encoded(self, batch: Batch) -> dict[str, Part]:
        """Items by modality -> encoded items. In mixed precision is what sees one item at a time, where the time goes;
        recurrences, fusion and loss stay in float32."""
        mixed = self._recipe.train.precision == "bf16"
        found = {}
        for name, part in batch.parts.items():
            if name in self.network.encoders:
                encoder = self.network.encoder(name)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
                    encoded = encoder.encode(part)
                found[name] = encoded.of(encoded.x.float())
        return found

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
