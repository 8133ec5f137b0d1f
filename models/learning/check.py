"""Is a folder of clips fit to be learned from? Files, leaks between splits, balance; before anything is trained.

A fault is what makes figures wrong or training impossible. A note is what should be known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.data import Tracks, UnreadableError, tracks
from models.learning import layouts, manifest
from models.learning.cache import content_digest
from models.learning.clips import Clip, ClipSet
from models.learning.dataset import OFFSET_LIMIT_S, OFFSET_PIECE_S
from models.learning.errors import LearningError
from models.learning.recipe import Recipe, parse

Progress = Callable[[int, int], None]

SLACK_S = 0.1
"""A piece may reach so far beyond its media: containers round."""
UNBALANCED = 10.0
"""From this ratio of the largest to the smallest class on, imbalance is noted."""
TELLING = 0.1
"""From so much more accuracy on, than the largest class gives, a missing modality is noted to tell the class."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `counts`: clips a split by name of target (empty for numbers). `lacks`: clips without a modality.
    `seconds`: the shortest, the mean and the longest clip, of those with media that can be read."""

    folder: Path
    clips: int
    splits: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]
    groups: int
    lacks: Mapping[str, int]
    seconds: tuple[float, float, float]
    faults: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        shortest, mean, longest = (round(each, 3) for each in self.seconds)
        return {
            "folder": str(self.folder),
            "clips": self.clips,
            "splits": dict(self.splits),
            "counts": {name: dict(each) for name, each in self.counts.items()},
            "groups": self.groups,
            "lacks": dict(self.lacks),
            "seconds": {"shortest": shortest, "mean": mean, "longest": longest},
            "faults": list(self.faults),
            "notes": list(self.notes),
        }


def check(folder: Path, asked: Recipe | None = None, progress: Progress | None = None) -> Report:
    """Looks at every clip of a folder. LearningError only where the folder can't be read as clips at all.

    Without a recipe its usual target is looked at, as classes, and no modality is missed that no clip has.
    """
    recipe = asked or _usual(folder)
    faults: list[str] = []
    clip_set = layouts.read_clips(folder, recipe, faults)
    found: dict[Path, Tracks] = {}
    files = sorted({clip.media for clip in clip_set.clips if clip.media is not None})
    for done, path in enumerate(files, 1):
        try:
            content_digest(path)
            found[path] = tracks(path)
        except (LearningError, UnreadableError) as error:
            faults.append(str(error))
        if progress is not None:
            progress(done, len(files))
    readable = [clip for clip in clip_set.clips if clip.media is None or clip.media in found]
    faults += _times(readable, found, recipe)
    faults += _copies(readable)
    faults += _split_groups(clip_set, _said_splits(folder, recipe))
    faults += _unlearnable(clip_set)
    lacks = _lacks(readable, found, recipe)
    never = [name for name, who in lacks.items() if len(who) == len(readable)]
    lacks = {name: who for name, who in lacks.items() if name not in never}
    if asked is not None:
        faults += [f"no clip has {name}; take it out of the recipe" for name in never]
    notes = [*_balance(clip_set), *_tells(readable, lacks)]
    return Report(
        folder=folder,
        clips=len(clip_set.clips),
        splits=Counter(clip.split for clip in clip_set.clips),
        counts=_counts(clip_set),
        groups=len({clip.group for clip in clip_set.clips if clip.group}),
        lacks={name: len(who) for name, who in lacks.items()},
        seconds=_seconds(readable, found),
        faults=faults,
        notes=notes,
    )


def _usual(folder: Path) -> Recipe:
    document = {"name": "check", "data": {"target": layouts.usual_target(folder)}, "video": {}, "audio": {}}
    return parse(document, "check")


def _said_splits(folder: Path, recipe: Recipe) -> dict[str, str]:
    """The splits that a manifest says, by clip; what is drawn keeps to its own rules."""
    path = manifest.find(folder)
    return {clip.name: clip.split for clip in manifest.read(path, recipe, [])} if path else {}


def _piece(clip: Clip, found: Mapping[Path, Tracks]) -> tuple[float, float]:
    if clip.media is None:
        return 0.0, 0.0
    return clip.start_s, found[clip.media].duration_s if clip.end_s is None else clip.end_s


def _times(clips: Iterable[Clip], found: Mapping[Path, Tracks], recipe: Recipe) -> Iterator[str]:
    needed_s = OFFSET_PIECE_S + 2 * OFFSET_LIMIT_S if recipe.data.target == manifest.OFFSET else 0.0
    for clip in clips:
        if clip.media is None:
            continue
        start_s, end_s = _piece(clip, found)
        duration_s = found[clip.media].duration_s
        # A target's margin may reach beyond the end of its media; nobody wrote that time down.
        beyond_s = SLACK_S + (manifest.TARGET_MARGIN_S if recipe.data.moment == "target" else 0.0)
        if start_s >= duration_s or end_s > duration_s + beyond_s:
            yield (
                f"{clip.name}: {start_s:g} to {end_s:g} s, but its media are {duration_s:.2f} s long; correct its times"
            )
        elif end_s - start_s < needed_s:
            yield f"{clip.name}: {end_s - start_s:.2f} s, and the offset task needs {needed_s:g} s; take the clip out"


def _copies(clips: Iterable[Clip]) -> Iterator[str]:
    """The same moments of the same content as two clips."""
    by_content: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.media is not None:
            by_content[content_digest(clip.media)].append(clip)
    for same in by_content.values():
        ordered = sorted(same, key=lambda clip: (clip.start_s, clip.name))
        for place, clip in enumerate(ordered):
            for other in ordered[place + 1 :]:
                if clip.end_s is not None and other.start_s >= clip.end_s:
                    break
                if clip.split != other.split:
                    sides = f"{clip.name} is for {clip.split}, {other.name} for {other.split}"
                    yield f"leak: {sides}, and they have the same content; give both one split, or take one out"
                elif clip.media != other.media or (clip.start_s, clip.end_s) == (other.start_s, other.end_s):
                    yield f"{other.name}: the same content as {clip.name}; take one out"


def _split_groups(clip_set: ClipSet, said: Mapping[str, str]) -> Iterator[str]:
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for clip in clip_set.clips:
        if clip.group and said.get(clip.name) == clip.split:
            sides[clip.group].add(clip.split)
    for group, splits in sorted(sides.items()):
        if len(splits) > 1:
            yield f"leak: group {group!r} is in {' and '.join(sorted(splits))}; give all of its clips one split"


def _unlearnable(clip_set: ClipSet) -> Iterator[str]:
    for name, each in _counts(clip_set).items():
        if not each["train"]:
            others = sum(each.values())
            yield f"{name!r}: no clip for training ({others} in other splits); add some, or take the name out"
    if clip_set.clips and not clip_set.of("train"):
        yield f"{clip_set.folder}: no clip for training; add some"


def _counts(clip_set: ClipSet) -> dict[str, dict[str, int]]:
    counts = {name: dict.fromkeys(layouts.SPLITS, 0) for name in clip_set.names}
    for clip in clip_set.clips:
        for name in clip.target:
            if name in counts:
                counts[str(name)][clip.split] += 1
    return {name: {str(split): number for split, number in each.items()} for name, each in counts.items()}


def _lacks(clips: Sequence[Clip], found: Mapping[Path, Tracks], recipe: Recipe) -> dict[str, set[Clip]]:
    """Who lacks each modality of the recipe."""
    has: dict[str, Callable[[Clip], bool]] = {
        "video": lambda clip: clip.media is not None and found[clip.media].video,
        "audio": lambda clip: clip.media is not None and found[clip.media].audio,
        "text": lambda clip: bool(clip.words),
    }
    return {name: {clip for clip in clips if not has[name](clip)} for name in recipe.modalities}


def _balance(clip_set: ClipSet) -> Iterator[str]:
    train = {name: each["train"] for name, each in _counts(clip_set).items() if each["train"]}
    if len(train) > 1:
        most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        if train[most] >= UNBALANCED * train[least]:
            yield (
                f"unbalanced: {train[most]} clips of {most!r} and {train[least]} of {least!r} for training; see "
                "train.imbalance"
            )


def _tells(clips: Sequence[Clip], lacks: Mapping[str, set[Clip]]) -> Iterator[str]:
    """A network learns whether a track is there at all, where that tells the class."""
    labelled = [clip for clip in clips if len(clip.target) == 1 and isinstance(clip.target[0], str)]
    if not labelled:
        return
    largest = Counter(clip.target for clip in labelled).most_common(1)[0][1]
    for name, who in lacks.items():
        there, not_there = (Counter(clip.target for clip in labelled if (clip in who) is out) for out in (False, True))
        if not there or not not_there:
            continue
        right = sum(counted.most_common(1)[0][1] for counted in (there, not_there))
        if right - largest >= TELLING * len(labelled):
            yield f"whether there is {name} tells the class of {right} of {len(labelled)} clips; leave {name} out"
        yield f"{len(who)} of {len(clips)} clips have no {name}"


def _seconds(clips: Iterable[Clip], found: Mapping[Path, Tracks]) -> tuple[float, float, float]:
    lengths = [end_s - start_s for start_s, end_s in (_piece(clip, found) for clip in clips if clip.media is not None)]
    return (min(lengths), sum(lengths) / len(lengths), max(lengths)) if lengths else (0.0, 0.0, 0.0)


def plot(report: Report, path: Path) -> None:
    """The clips of each name by split as a bar chart, PNG or SVG by the file's ending. LearningError where it can't be
    drawn or written."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise LearningError(f"{path}: a picture is .png or .svg; name it so")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LearningError("pictures are drawn by matplotlib; pip install matplotlib") from error
    names = list(report.counts) or ["clips"]
    counts = report.counts or {"clips": report.splits}
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    left = [0] * len(names)
    for split in layouts.SPLITS:
        width = [counts[name].get(split, 0) for name in names]
        if not any(width):
            continue
        axes.barh(names, width, left=left, label=split)
        left = [before + each for before, each in zip(left, width, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("clips")
    axes.set_title(f"{report.folder.name}: {report.clips} clips")
    figure.legend(loc="outside lower center", ncols=len(layouts.SPLITS))
    try:
        figure.savefig(path)
    except OSError as error:
        raise LearningError(f"{path}: can't be written ({error.strerror}); name another file") from error
