"""The loop of pretraining: any method, on clips without labels, that goes on after a kill from its last whole epoch.

All chance is drawn from (seed, epoch, step), as in models.learning.train.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from models.learning import journal, keep, layouts, manifest, optimiser, tensors
from models.learning.calibration import Calibration
from models.learning.clips import Clip, ClipSet
from models.learning.errors import LearningError
from models.learning.journal import CURVES, Journal
from models.learning.keep import PRETRAINED, Learned
from models.learning.predict import to_device
from models.learning.pretrain.contrastive import Contrastive
from models.learning.pretrain.gan import Adversarial
from models.learning.pretrain.masked import Masked
from models.learning.pretrain.method import EMBEDDING, Method, View
from models.learning.recipe import DataRecipe, Recipe, as_document
from models.learning.sets import Data, Split

Name = Literal["masked", "gan", "contrastive"]
METHODS: dict[str, type[Method]] = {"masked": Masked, "gan": Adversarial, "contrastive": Contrastive}
PAGE = "pretrain.html"
STATE = "state.safetensors"
_FORMAT = "streamer-pretraining"
_WHAT = "state of a pretraining"
_OVER = ("epochs", "patience")
_CAREFUL = 0.95  # of the time allowed is planned for
_MOMENTUM = (0.0, 0.99)  # of two players: what the other did long ago is no guide


@dataclass(frozen=True)
class Hooks:
    """What the caller wants to know and say.

    progress: called after every step with how many are done, and of how many. stop: asked after every step whether to
    end now. resume: go on from the state in the folder, if there is one. device: as torch names it; gan is always
    computed on the CPU, for its loss is differentiated twice, which kernels of GPUs can't be.
    """

    progress: Callable[[int, int], None] = lambda _, __: None
    stop: Callable[[], bool] = lambda: False
    resume: bool = False
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """checkpoint, page: files. held_out: its loss on clips kept apart, at the best epoch (from 1). ended: "epochs",
    "patience", "minutes" or "stopped"."""

    checkpoint: Path
    page: Path
    held_out: float
    epoch: int
    seconds: float
    ended: str


@dataclass
class Position:
    """Where it is: whole epochs and steps done, epochs that the schedule is made for, the best held-out loss, epochs
    without a better one, seconds spent, and why it is over."""

    epoch: int = 0
    step: int = 0
    planned: int = 0
    best: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    ended: str = ""


def unlabelled(recipe: Recipe, folder: Path) -> tuple[Recipe, ClipSet]:
    """The clips of a folder without their labels, and the recipe that reads them so.

    A folder as `train` takes it, or any media side by side. Clips for testing stay apart, as there. LearningError as
    models.learning.layouts.
    """
    reads = replace(
        recipe,
        task="classes",
        data=DataRecipe(recipe.data.folder, validation=recipe.data.validation),
        augment=replace(recipe.augment, mix=0.0, trim=0.0),
    )
    try:
        found = layouts.read_clips(folder, recipe)
    except LearningError:
        media = [one for one in sorted(folder.glob("*")) if one.suffix.lower() in layouts.MEDIA]
        if not media or manifest.find(folder) is not None:
            raise
        plain = [Clip(one.name, one, ()) for one in media]
        found = ClipSet(folder, layouts.fill_splits(plain, recipe.data.validation), ())
    return reads, ClipSet(folder, [replace(clip, target=("clip",), times=()) for clip in found.clips], ("clip",))


def pretrain(recipe: Recipe, data: Data, out: Path, method: str, hooks: Hooks | None = None) -> Pretrained:
    """Learns encoders and fusion of the recipe by a method ("masked", "gan", "contrastive"); targets aren't looked at.

    epochs, batch, rate, weight_decay, warm_up, clip, patience, minutes and seed are the recipe's [train]. Leaves in
    `out`: NAME.safetensors (of kind "pretrained", the best by its held-out loss), pretrain.html, curves.jsonl and
    TensorBoard's files, and the state that it can go on from. LearningError where recipe and data don't fit, and where
    the loss is no number any more.
    """
    _check(recipe, data, method)
    run = _Run(recipe, data, out, method, hooks or Hooks())
    at = run.at
    with Journal(out, at.step, at.epoch) as run.journal:
        while not at.ended:
            if not run.epoch():
                break
    page = _page(out, recipe, method, at)
    return Pretrained(run.checkpoint, page, at.best, at.best_epoch, at.seconds, at.ended or "stopped")


def unfinished(out: Path) -> bool:
    """Whether the folder holds a pretraining that could go on. LearningError where its state is damaged."""
    path = out / STATE
    return path.exists() and not json.loads(tensors.read_header(path, _WHAT).get("position", "{}")).get("ended")


class _Run:
    """A pretraining under way."""

    journal: Journal

    def __init__(self, recipe: Recipe, data: Data, out: Path, method: str, hooks: Hooks) -> None:
        torch.manual_seed(recipe.train.seed)
        self.device = torch.device("cpu" if method == "gan" else hooks.device)
        self.method = METHODS[method](recipe, data.outline).to(self.device)
        self.checkpoint = out / f"{recipe.name}.safetensors"
        self._name = method
        self._recipe, self._data, self._out, self._hooks = recipe, data, out, hooks
        self._players = [list(one) for one in self.method.players()]
        momentum = (0.9, 0.999) if len(self._players) == 1 else _MOMENTUM
        self._optimisers = [_optimiser(one, recipe, momentum) for one in self._players]
        self._batch = min(len(data.train), recipe.train.batch)
        self._steps = len(data.train) // self._batch
        self.at = self._load() if hooks.resume else Position()
        self._began = time.monotonic() - self.at.seconds

    def epoch(self) -> bool:
        """All steps of an epoch, then the held-out loss and the state; False where it was told to stop before."""
        at, recipe = self.at, self._recipe.train
        order = np.random.default_rng([recipe.seed, at.epoch]).permutation(len(self._data.train))
        epochs = at.planned or recipe.epochs
        late = False
        for inside in range(self._steps):
            chosen = [int(one) for one in order[inside * self._batch : (inside + 1) * self._batch]]
            figures = self._step(chosen, inside, epochs)
            at.step += 1
            self.journal.step(at.step, figures)
            self._hooks.progress(at.step, epochs * self._steps)
            at.seconds = time.monotonic() - self._began
            late = 0 < recipe.minutes * 60 <= at.seconds
            if late or self._hooks.stop():
                break
        if self._hooks.stop() and inside + 1 < self._steps:
            if math.isinf(at.best):
                self._judge()
            return False  # the state is that of the last whole epoch
        self._judge()
        self._move_on(late)
        return True

    def _step(self, chosen: Sequence[int], inside: int, epochs: int) -> dict[str, float]:
        """One step of each player: their losses, a clip."""
        at, recipe = self.at, self._recipe.train
        factor = optimiser.schedule(at.step, epochs * self._steps, round(recipe.warm_up * self._steps))
        # From 1: numpy takes (seed, epoch) and (seed, epoch, 0) for the same, and the first is the order's.
        rng = np.random.default_rng([recipe.seed, at.epoch, inside + 1])
        torch.manual_seed(int(rng.integers(1 << 62)))
        self.method.train()
        views = [self._view(self._data.train, chosen, rng) for _ in range(self.method.views)]
        figures = {}
        for player, (made, parameters) in enumerate(zip(self._optimisers, self._players, strict=True)):
            optimiser.set_rate(made, factor)
            self.method.zero_grad(set_to_none=True)
            loss = self.method.loss(views, player)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip if recipe.clip > 0 else math.inf)
            if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
                raise LearningError(f"the loss is {float(loss.detach())} at epoch {at.epoch + 1}: lower train.rate")
            made.step()
            figures["loss" if player == 0 else f"loss_{player}"] = float(loss.detach())
        return {**figures, "rate": factor * recipe.rate}

    def _view(self, split: Split, chosen: Sequence[int], rng: np.random.Generator | None) -> View:
        return to_device(split.batch(chosen, rng), self.device).parts

    def _judge(self) -> None:
        """The held-out loss, with the same chance every time; the best network so far is kept."""
        at, split, method = self.at, self._data.validation, self.method
        torch.manual_seed(self._recipe.train.seed)
        method.eval()
        total = 0.0
        with torch.no_grad():
            # As large as in training: what is told from other clips gets harder the more there are.
            for chosen in np.array_split(np.arange(len(split)), math.ceil(len(split) / self._batch)):
                views = [self._view(split, [int(one) for one in chosen], None)] * method.views
                total += float(method.held_out(views)) * len(chosen)
        held_out = total / len(split)
        self.journal.epoch(at.epoch + 1, at.step, {"loss": held_out})
        if held_out < at.best:
            at.best, at.best_epoch, at.stale = held_out, at.epoch + 1, 0
            self._keep()
        else:
            at.stale += 1

    def _keep(self) -> None:
        network, data = self.method.network, self._data
        kept = Learned(
            replace(self._recipe, task="classes"),
            replace(data.outline, outputs=EMBEDDING),
            (),
            data.vocabulary,
            Calibration("classes"),
            {"validation": {"loss": self.at.best}},
            {**data.note, "method": self._name},
            PRETRAINED,
        )
        keep.save_checkpoint(self.checkpoint, network, kept)

    def _move_on(self, late: bool) -> None:
        at, recipe = self.at, self._recipe.train
        at.epoch += 1
        at.seconds = time.monotonic() - self._began
        if at.epoch == 1 and recipe.minutes > 0:
            at.planned = max(1, min(recipe.epochs, int(_CAREFUL * recipe.minutes * 60 / at.seconds)))
        if late:
            at.ended = "minutes"
        elif at.epoch >= (at.planned or recipe.epochs):
            at.ended = "epochs"
        elif 0 < recipe.patience <= at.stale:
            at.ended = "patience"
        self.journal.flush()
        contents = keep.state(self.method, "method")
        for player, made in enumerate(self._optimisers):
            memory = optimiser.optimiser_tensors(made)
            contents |= {f"optimiser{player}.{name}": value for name, value in memory.items()}
        header = {"format": _FORMAT, "version": "1", "position": json.dumps(dataclasses.asdict(at)), **self._known()}
        tensors.write(self._out / STATE, contents, header)

    def _load(self) -> Position:
        path = self._out / STATE
        if not path.exists():
            return Position()
        contents, header = tensors.read(path, _WHAT)
        if header.get("format") != _FORMAT:
            raise LearningError(f"{path}: not the state of a pretraining; name another folder with --out")
        differing = [name for name, value in self._known().items() if header.get(name) != value]
        if differing:
            raise LearningError(
                f"{path}: was begun with another {' and '.join(differing)}; name another folder with --out, or begin "
                "anew without --resume"
            )
        position = Position(**json.loads(header["position"]))
        if position.ended not in _OVER:
            position.ended = ""  # of its time: there is more of that now
        parts = tensors.by_part(contents)
        self.method.load_state_dict(parts["method"])
        for player, made in enumerate(self._optimisers):
            optimiser.restore_optimiser(made, parts.get(f"optimiser{player}", {}))
        return position

    def _known(self) -> dict[str, str]:
        """What must be the same where it goes on."""
        recipe = replace(self._recipe, train=replace(self._recipe.train, minutes=0.0))
        names = "\n".join(clip.name for split in (self._data.train, self._data.validation) for clip in split.clips)
        clips = hashlib.sha256(names.encode()).hexdigest()[:16]
        return {"method": self._name, "recipe": json.dumps(as_document(recipe)), "clips": clips}


def _optimiser(
    parameters: Sequence[torch.nn.Parameter], recipe: Recipe, momentum: tuple[float, float]
) -> torch.optim.AdamW:
    """As models.learning.optimiser has it: matrices decay, vectors don't."""
    train = recipe.train
    groups = [([one for one in parameters if one.ndim > 1], train.weight_decay)]
    groups.append(([one for one in parameters if one.ndim <= 1], 0.0))
    return torch.optim.AdamW(
        [{"params": some, "lr": train.rate, "peak": train.rate, "weight_decay": decay} for some, decay in groups],
        betas=momentum,
    )


def _check(recipe: Recipe, data: Data, method: str) -> None:
    if method not in get_args(Name):
        raise LearningError(f"{method}: no such method; known are {', '.join(METHODS)}")
    if recipe.train.epochs < 1 or recipe.train.batch < 2:
        raise LearningError("train: epochs must be at least 1, and batch at least 2 to learn without labels")
    if len(data.train) < 2 or len(data.validation) < 2:
        raise LearningError(
            f"data: {len(data.train)} clips to learn from and {len(data.validation)} kept apart; it takes two of each "
            "at least: add clips, or raise data.validation"
        )


def _page(out: Path, recipe: Recipe, method: str, at: Position) -> Path:
    """One HTML file with the curves."""
    from models.learning import plots

    lines = journal.read(out / CURVES)
    steps = [line for line in lines if "epoch" not in line]
    epochs = [line for line in lines if "epoch" in line]
    names: list[str] = [name for name in ("loss", "loss_1") if steps and name in steps[0]]
    drawn = {name: ([line["step"] for line in steps], [line[name] for line in steps]) for name in names}
    held_out = {"held out": ([line["epoch"] for line in epochs], [line["loss"] for line in epochs])}
    page = out / PAGE
    page.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(recipe.name)}</title><style>:root {{ color-scheme: light dark }} body {{ font: 15px/1.5 "
        "system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }</style></head><body>"
        f"<h1>{html.escape(recipe.name)}, pretrained: {method}</h1><p>{' and '.join(recipe.modalities)}, joined by "
        f"{recipe.fusion.kind}. Best at epoch {at.best_epoch} of {at.epoch}: {at.best:.4g} on clips kept apart.</p>"
        f"<h2>Loss of each step</h2>{plots.lines(drawn, 'step', 'loss', smooth=True)}"
        f"<h2>On clips kept apart</h2>{plots.lines(held_out, 'epoch', _MEANING[method])}</body></html>\n",
        encoding="utf-8",
    )
    return page


_MEANING = {"masked": "loss", "contrastive": "loss", "gan": "energy distance"}
