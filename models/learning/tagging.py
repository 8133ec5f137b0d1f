"""Scoring the checkpoint `tags` on a folder of labelled clips: it is not trained on them, so names have to match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import checkpoint, evaluate, tags
from models.config import Geometry
from models.learning import metrics
from models.learning.augment import Degrade
from models.learning.clips import Clip
from models.learning.dataset import Dataset, Sources
from models.learning.errors import LearningError
from models.learning.judge import Ask, Report, choose
from models.learning.layouts import read_clips
from models.learning.recipe import AudioRecipe, Recipe, VideoRecipe
from models.learning.vocabulary import Vocabulary

if TYPE_CHECKING:
    from models.fusion.noisy_or import TagFusion
    from models.learning.sets import Split

_TOP = 5
_NAMED = 8


def judge_tags(folder: Path, ask: Ask, weights: Path | None, report: Report) -> dict[str, Any]:
    """How `tags` does on the clips of a folder, as JSON has it.

    `mean_average_precision` over the folder's names, `top1` and `top5` (a right label is the first, or among the first
    five), with intervals; `classes`: of each name its labels, n, average precision. A clip's scores are the means over
    its windows, as a file's are.

    LearningError where the folder has names that are no labels of `tags`, none that is known to be.
    """
    sources = Sources.usual(weights)
    assert sources.weights is not None
    if ask.deletion:
        raise LearningError(
            "--deletion: tags is not explained by tokens that are taken away; `why` of a stream shows it"
        )
    geometry = Geometry()
    recipe = Recipe("tags", "labels", video=VideoRecipe(rate=geometry.frame_rates[0]), audio=AudioRecipe())
    found = read_clips(folder, recipe)
    clips, split, note = choose(found, ask.split, "")
    meant = meanings(found.names, folder)
    degrade = Degrade(frozenset(ask.without), ask.snr_db, ask.noise_files)
    dataset = Dataset(recipe, clips, list(found.names), Vocabulary(()), sources, folder=folder, degrade=degrade)
    dataset.prepare(lambda done, total: report("reading clips", done, total))
    loaded = checkpoint.load(checkpoint.TAGS, sources.weights)
    scores = _scores(loaded.fusion(), dataset, report)
    document: dict[str, Any] = {
        "checkpoint": checkpoint.TAGS,
        "digest": loaded.digest(),
        "data": str(folder),
        "task": "labels",
        "target": recipe.data.target,
        "split": split,
        "n": len(clips),
        "without": sorted(ask.without),
        "snr_db": ask.snr_db,
        "seed": ask.seed,
    }
    return document | figures(scores, clips, meant, ask.seed) | {"notes": [note] if note else []}


def meanings(names: Sequence[str], folder: Path) -> dict[str, tuple[int, ...]]:
    """The labels of `tags`, by index, that each name of a folder means: of the same name, or known to mean it."""
    place = {label.name: index for index, label in enumerate(tags.labels())}
    same = {_plain(name): (name,) for name in place}
    known = {**{_plain(name): labels for name, labels in evaluate.SOUND_LABELS.items()}, **same}
    strange = [name for name in names if _plain(name) not in known]
    if strange:
        some = ", ".join(strange[:_NAMED]) + (f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else "")
        raise LearningError(
            f"{folder}: tags has no label {some}; rename them after labels, or train a checkpoint on them"
        )
    return {name: tuple(place[label] for label in known[_plain(name)]) for name in names}


def _plain(name: str) -> str:
    """What is left of a name when spelling doesn't count."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


@torch.no_grad()
def _scores(fusion: TagFusion, clips: Split, report: Report) -> NDArray[np.float64]:
    """Mean scores over its windows of each clip, `[N, labels]`."""
    geometry = Geometry()
    widths = {"video": geometry.video_width, "audio": geometry.audio_width}
    scores = []
    for index in range(len(clips)):
        parts = clips.batch([index], None).parts
        video, audio = (
            parts[name].x[0][parts[name].mask[0]].float() if name in parts else torch.zeros(0, width)
            for name, width in widths.items()
        )
        cut = evaluate.cut_windows(video, audio, geometry)
        scores.append(fusion(cut.video, cut.video_mask, cut.audio, cut.audio_mask)[0].mean(dim=0).double().numpy())
        report("scoring", index + 1, len(clips))
    return np.stack(scores)


def figures(
    scores: NDArray[np.float64], clips: Sequence[Clip], meant: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, Any]:
    """Figures and intervals from scores `[N, labels]` and what each name means."""
    names = sorted(meant)
    said = np.stack([scores[:, list(meant[name])].max(axis=1) for name in names], axis=1)
    true = np.array([[name in clip.target for name in names] for clip in clips], dtype=float)
    ranked = np.argsort(-scores, axis=1)[:, :_TOP]
    right = [{label for name in clip.target for label in meant[str(name)]} for clip in clips]
    first = np.array([float(row[0] in wanted) for row, wanted in zip(ranked, right, strict=True)])
    five = np.array([float(bool(wanted & set(row.tolist()))) for row, wanted in zip(ranked, right, strict=True)])

    def precision(picks: NDArray[Any]) -> float:
        return metrics.mean_average_precision(said[picks], true[picks])

    every = np.arange(len(clips))
    return {
        "mean_average_precision": precision(every),
        "top1": float(first.mean()),
        "top5": float(five.mean()),
        "intervals": {
            "mean_average_precision": list(metrics.statistic_interval(precision, len(clips), seed=seed)),
            "top1": list(metrics.interval([first], seed=seed)),
            "top5": list(metrics.interval([five], seed=seed)),
        },
        "classes": {
            name: {
                "labels": [tags.labels()[label].name for label in meant[name]],
                "n": int(true[:, at].sum()),
                "average_precision": metrics.average_precision(said[:, at], true[:, at]),
            }
            for at, name in enumerate(names)
            if true[:, at].any()
        },
    }
