"""Scoring a checkpoint on a folder of clips: its figures with intervals, by class, by modality, with sound made noisy
or modalities taken away, and whether its explanations are true."""

from __future__ import annotations

import glob
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from models.checkpoint import CheckpointError, find
from models.learning import answers, keep
from models.learning.answers import Answers
from models.learning.augment import Degrade
from models.learning.batch import PADDING, Batch, Part
from models.learning.clips import Clip, ClipSet, unmarked
from models.learning.dataset import Dataset, Sources
from models.learning.errors import LearningError
from models.learning.keep import Loaded
from models.learning.layouts import read_clips
from models.learning.predict import Predicted, batches, only, to_device
from models.learning.recipe import Recipe
from models.learning.sets import Split as Clips
from models.learning.vocabulary import Vocabulary
from models.weights import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

Wanted = Literal["", "all", "train", "validation", "test"]
Report = Callable[[str, int, int], None]  # what is done, how much of it, of how much

_BATCH = 32
_TIMED = 20  # clips whose time is measured
_NAMED = 8  # names that an error lists


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What to score. split: "" leaves out clips that the checkpoint was trained on, see `choose`. without: modalities
    taken away. snr_db: of noise mixed into the sound (noise_files: a pattern; "": the recipe's, else coloured noise).
    deletion: whether explanations are put to the test, on at most so many clips (0: not)."""

    split: Wanted = ""
    without: Collection[str] = frozenset()
    snr_db: float | None = None
    noise_files: str = ""
    seed: int = 0
    deletion: int = 0


def judge(name: str, folder: Path, ask: Ask, weights: Path | None = None, report: Report = _silent) -> dict[str, Any]:
    """Everything about how a checkpoint (a name that ships, or a file) does on the clips of a folder, as JSON has it.

    Keys: checkpoint, digest, data, task, target, split, n, without, snr_db, seed; the task's figures by their names
    (accuracy, balanced_accuracy, ...; mean_average_precision, ...; mae, mae_ms where the numbers are times;
    word_error), `intervals` of them (95 %); `classes` (by name), `modalities` (the main figure with each set of those
    left, and of how many clips they are part), `latency_ms`, `notes` (sentences), and `deletion` where asked for.

    weights: a folder with the pretrained weights, for machines without a network. LearningError says what is wrong with
    the checkpoint, the folder, or the question.
    """
    path = locate(name)
    loaded = keep.load_network(path)
    recipe = loaded.recipe
    notes = _check(recipe, ask)
    clips, split, note = choose(read_clips(folder, recipe), ask.split, str(loaded.learned.data.get("marks", "")))
    _check_names(clips, loaded, folder)
    sources = sources_for(recipe, weights)
    dataset = _dataset(loaded, clips, folder, ask, sources, report)
    kept = [one for one in recipe.modalities if one not in ask.without]
    said = predict(loaded, dataset, subsets(kept), report)
    whole = said[tuple(kept)]
    document = {
        "checkpoint": recipe.name,
        "digest": digest(path),
        "data": str(folder),
        "task": recipe.task,
        "target": recipe.data.target,
        "split": split,
        "n": len(whole),
        "without": sorted(ask.without),
        "snr_db": ask.snr_db,
        "seed": ask.seed,
        **scored(whole, ask.seed),
        "classes": whole.per_name(),
        "modalities": {"+".join(chosen): _of_subset(each, dataset, chosen) for chosen, each in said.items()},
        "latency_ms": latency(loaded, dataset),
        "notes": [*notes, *([note] if note else [])],
    }
    if ask.deletion:
        from models.learning.trial import trial

        frames = sources.weights.files.get("frame") if sources.weights and "frame" in keep.frozen(recipe) else None
        document["deletion"] = trial(loaded, dataset, ask.deletion, ask.seed, report, frames)
    return document


def sources_for(recipe: Recipe, weights: Path | None) -> Sources:
    """The user's cache folder and, where a recipe reads tokens of the frozen encoders, the pretrained weights."""
    roles = keep.frozen(recipe)
    return Sources.usual(weights, roles) if roles else Sources(cache_dir())


def locate(name: str) -> Path:
    """The file of a checkpoint. LearningError where there is none of that name."""
    try:
        return find(name)
    except CheckpointError as error:
        raise LearningError(str(error)) from error


def digest(path: Path) -> str:
    """A short digest of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def choose(found: ClipSet, wanted: Wanted, known: str) -> tuple[list[Clip], str, str]:
    """The clips to score, what they are called, and a sentence where there is something to say about that.

    Without a wish: the test clips, where the folder itself says which; else all that the checkpoint was not trained on
    by its header (`known`, see clips.marks); where it was trained on all of them, those for validation.
    LearningError where none are left.
    """
    if wanted == "all":
        return list(found.clips), "all", ""
    if wanted:
        return _some(found.of(wanted), f"{found.folder}: no clips for {wanted}; leave out --split"), wanted, ""
    tests = found.of("test")
    if tests:
        return tests, "test", ""
    unseen = unmarked(found.clips, known)
    if unseen:
        left = len(found.clips) - len(unseen)
        note = f"{left} clips that it was trained or chosen by are left out" if left else ""
        return unseen, "unseen" if left else "all", note
    clips = _some(
        found.of("validation"), f"{found.folder}: it was trained on all of these clips; --split all scores them"
    )
    return (
        clips,
        "validation",
        "it was trained on these clips' set and chosen by these very clips: expect less on others",
    )


def _some(clips: list[Clip], otherwise: str) -> list[Clip]:
    if not clips:
        raise LearningError(otherwise)
    return clips


def _check(recipe: Recipe, ask: Ask) -> list[str]:
    """What is to be said of a question that can be answered; LearningError where it can't."""
    if ask.snr_db is not None and (recipe.audio is None or "audio" in ask.without):
        raise LearningError(f"--snr: {recipe.name} hears no sound that noise could be mixed into; leave it out")
    if ask.deletion and recipe.task == "sequence":
        raise LearningError(
            f"--deletion: {recipe.name} tells sequences, and a sequence has no single answer to explain"
        )
    if not set(recipe.modalities) - set(ask.without):
        raise LearningError(
            f"--without {', '.join(sorted(ask.without))}: nothing is left of what {recipe.name} reads "
            f"({', '.join(recipe.modalities)})"
        )
    foreign = sorted(set(ask.without) - set(recipe.modalities))
    return [f"it reads no {name} anyway" for name in foreign]


def _check_names(clips: Sequence[Clip], loaded: Loaded, folder: Path) -> None:
    if loaded.recipe.task == "numbers":
        return
    unknown = sorted({str(name) for clip in clips for name in clip.target} - set(loaded.names))
    if unknown:
        some = ", ".join(unknown[:_NAMED]) + (f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else "")
        raise LearningError(
            f"{folder}: {loaded.recipe.name} was not trained to tell {some}; "
            f"it knows {', '.join(loaded.names[:_NAMED])}{' ...' * (len(loaded.names) > _NAMED)}"
        )


def _dataset(
    loaded: Loaded, clips: Sequence[Clip], folder: Path, ask: Ask, sources: Sources, report: Report
) -> Dataset:
    recipe = loaded.recipe
    degrade = Degrade(frozenset(ask.without), ask.snr_db, ask.noise_files or _noises(recipe, folder))
    vocabulary = Vocabulary(loaded.vocabulary)
    dataset = Dataset(recipe, clips, loaded.names, vocabulary, sources, folder=folder, degrade=degrade)
    dataset.prepare(lambda done, total: report("reading clips", done, total))
    return dataset


def _noises(recipe: Recipe, folder: Path) -> str:
    """The noise that a recipe was trained in, where it is beside this folder too; else coloured noise will do."""
    pattern = recipe.augment.noise_files
    return pattern if pattern and glob.glob(str(folder / pattern)) else ""


# -- what is said ------------------------------------------------------------------------------------------------------


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every set of them but the empty one, the smallest first."""
    return [chosen for size in range(1, len(modalities) + 1) for chosen in combinations(modalities, size)]


@torch.no_grad()
def predict(
    loaded: Loaded,
    clips: Clips,
    chosen: Sequence[tuple[str, ...]],
    report: Report = _silent,
) -> dict[tuple[str, ...], Answers]:
    """What a checkpoint says of every clip with each of these sets of modalities alone; tokens are encoded once."""
    network, sequence = loaded.network.eval(), loaded.recipe.task == "sequence"
    device = next(network.parameters()).device
    raw: dict[tuple[str, ...], list[Tensor]] = {each: [] for each in chosen}
    said: dict[tuple[str, ...], list[list[int]]] = {each: [] for each in chosen}
    target: list[Tensor] = []
    true: list[list[int]] = []
    names: list[str] = []
    for each in batches(clips, _BATCH):
        batch = to_device(each, device)
        tokens = Batch(network.tokens(batch.parts), batch.target, batch.clips)
        for subset in chosen:
            parts = only(tokens, subset).parts
            if sequence:
                said[subset] += _decoded(loaded, parts)
            else:
                raw[subset].append(network.fusion(parts).float().cpu())
        target.append(batch.target.cpu())
        true += _symbols(batch.target) if sequence else []
        names += batch.clips
        report("scoring", len(names), len(clips))
    nothing = torch.zeros(0, 0)
    targets = nothing if sequence else torch.cat(target)
    return {
        subset: answers.of(
            Predicted(nothing if sequence else torch.cat(raw[subset]), targets, said[subset], true, names),
            loaded.recipe,
            loaded.names,
            loaded.calibration,
        )
        for subset in chosen
    }


def _decoded(loaded: Loaded, parts: Mapping[str, Part]) -> list[list[int]]:
    assert loaded.network.decoder is not None
    memory = loaded.network.fusion.memory(parts)
    decoded: list[list[int]] = loaded.network.decoder.decode(memory, loaded.recipe.sequence.beam)  # type: ignore[operator]
    return decoded


def _symbols(target: Tensor) -> list[list[int]]:
    return [[symbol for symbol in row if symbol != PADDING] for row in target.tolist()]


def scored(said: Answers, seed: int) -> dict[str, Any]:
    """Its figures, and under `intervals` the 95 % interval of each; calibration error under its full name."""
    figures = said.figures()
    intervals = said.intervals(list(figures), seed)
    return {**_renamed(figures), "intervals": {name: list(span) for name, span in _renamed(intervals).items()}}


def _renamed(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {{"ece": "expected_calibration_error"}.get(name, name): value for name, value in figures.items()}


def _of_subset(said: Answers, clips: Clips, chosen: Sequence[str]) -> dict[str, Any]:
    name, _ = said.main()
    low, high = said.intervals([name], 0, draws=200)[name]
    return {name: said.figures()[name], "interval": [low, high]}


def latency(loaded: Loaded, clips: Clips) -> dict[str, Any]:
    """Milliseconds that the network takes for one clip, from stored features, by torch on one thread of this machine's
    processor: p50 and p95 of `clips` clips. Decoding media and frozen encoders are not in it: they are shared with
    everything else that is live."""
    network, sequence = loaded.network.eval(), loaded.recipe.task == "sequence"
    chosen = [index % len(clips) for index in range(_TIMED + 1)]
    times = []
    with torch.no_grad(), one_thread():
        for index in chosen:
            parts = clips.batch([index], None).parts
            began_ns = time.perf_counter_ns()
            if sequence:
                _decoded(loaded, network.tokens(parts))
            else:
                network(parts)
            times.append((time.perf_counter_ns() - began_ns) / 1e6)
    timed = times[1:]  # the first clip pays for what is set up once
    p50, p95 = (float(np.quantile(timed, at)) for at in (0.5, 0.95))
    return {"p50": p50, "p95": p95, "clips": len(timed), "threads": 1, "by": "torch, eager"}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, and afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
