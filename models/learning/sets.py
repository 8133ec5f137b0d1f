"""What training reads: three sets of clips, and what their targets and words are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from models.learning.batch import Batch
from models.learning.clips import Clip, ClipSet, marks
from models.learning.network import Outline
from models.learning.recipe import Recipe

if TYPE_CHECKING:
    from models.learning.cache import Sources
    from models.learning.dataset import Dataset

Counted = Callable[[int, int], None]
"""Called with how many clips are prepared, and of how many."""


class Split(Protocol):
    """Clips that can be had as batches."""

    @property
    def clips(self) -> Sequence[Clip]:
        """In the order of their indices."""
        ...

    def __len__(self) -> int: ...

    def targets(self) -> Tensor:
        """The targets of all clips, as Batch.target has them."""
        ...

    def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
        """Those clips, padded to their longest; augmented as the recipe says where `rng` is given, from which then all
        chance comes."""
        ...


@dataclass(frozen=True)
class Data:
    """names: what the outputs stand for (classes, labels, symbols, or the numbers' own names). vocabulary: words that
    the text encoder knows. note: facts about the data for the checkpoint's header. test may be empty."""

    train: Split
    validation: Split
    test: Split
    names: Sequence[str]
    vocabulary: Sequence[str]
    outline: Outline
    note: Mapping[str, object] = field(default_factory=dict)


def open_data(recipe: Recipe, folder: Path, sources: Sources, progress: Counted | None = None) -> Data:
    """The clips of a folder, decoded and made into what the recipe's encoders read, or found in the cache.

    LearningError names what is wrong with the folder, a clip or the recipe.
    """
    from models.learning import layouts

    return from_clips(recipe, layouts.read_clips(folder, recipe), sources, progress)


def from_clips(recipe: Recipe, found: ClipSet, sources: Sources, progress: Counted | None = None) -> Data:
    """The same for clips that were read already, perhaps with other splits (layouts.leave_out)."""
    # Imported here: whoever trains on sets of another make needs nothing that decodes media.
    from models.learning.augment import Degrade
    from models.learning.dataset import Dataset
    from models.learning.vocabulary import Vocabulary

    words = Vocabulary.of(found.of("train"), recipe.text.vocabulary if recipe.text else 0)
    made: list[Dataset] = []
    done = 0
    for split in ("train", "validation", "test"):
        plain = None if split == "train" else Degrade()  # what only augmentation needs is made for training alone
        made.append(Dataset(recipe, found.of(split), found.names, words, sources, found.folder, plain))
        made[-1].prepare(_beyond(progress, done, len(found.clips)))
        done += len(made[-1])
    outputs = len(found.names) or made[0].targets().shape[-1]
    names = list(found.names) or _number_names(recipe.data.target, outputs)
    longest_s = max(one.longest_s for one in made)
    note = {
        "folder": found.folder.name,
        "target": recipe.data.target,
        "clips": {"training": len(made[0]), "validation": len(made[1]), "test": len(made[2])},
        "longest_s": round(longest_s, 3),
        "marks": marks([*found.of("train"), *found.of("validation")]),
    }
    return Data(made[0], made[1], made[2], names, words.words, Outline(outputs, len(words), longest_s), note)


def _beyond(progress: Counted | None, done: int, total: int) -> Counted | None:
    """Progress of one set as progress of all."""
    return None if progress is None else lambda here, _: progress(done + here, total)


def _number_names(target: str, outputs: int) -> list[str]:
    return [target] if outputs == 1 else [f"{target} {place}" for place in range(1, outputs + 1)]
