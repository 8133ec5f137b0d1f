"""Folders of clips: with a manifest, laid out as a data set that is known here, or a folder a class.

grid_s1    `align.tsv` (id, text, times of words) beside ID.mp4: sentences of six words. Targets: command, colour,
           preposition, letter, digit, adverb; sentence (its words); offset.
esc10      CLASS/FOLD-RECORDING-TAKE.opus; the fold is the group.
us8k       CLASS/RECORDING-CLASS-...; the group is the fold where a MANIFEST.tsv says it, else the recording.
fights     fight/ and nofight/; the group is the source where a MANIFEST.tsv says it. Whether there is a sound track
           gives the class away: learn from the picture alone.
fsdd       DIGIT_SPEAKER_TAKE.flac; the speaker is the group.
else       CLASS/FILE, or train/CLASS/FILE, validation/CLASS/FILE, test/CLASS/FILE.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from models.learning import manifest
from models.learning.clips import Clip, ClipSet, Split, Word
from models.learning.errors import LearningError
from models.learning.recipe import Recipe

MEDIA = frozenset(
    {".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
    | {".avi", ".flv", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
    | {".gif", ".jpeg", ".jpg", ".png"}
)
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

GRID_PLACES = ("command", "colour", "preposition", "letter", "digit", "adverb")
GRID_WORDS: dict[str, tuple[str, ...]] = {
    "command": ("bin", "lay", "place", "set"),
    "colour": ("blue", "green", "red", "white"),
    "preposition": ("at", "by", "in", "with"),
    "letter": tuple("abcdefghijklmnopqrstuvxyz"),
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "adverb": ("again", "now", "please", "soon"),
}
_GRID_VALIDATION = 0.1  # the last tenth of the sorted names
_GRID_SILENCE = frozenset({"sil", "sp"})
_DIGITS = GRID_WORDS["digit"]

_ESC = re.compile(r"(?P<fold>\d)-(?P<recording>\d+)-[A-Z]")
_US8K = re.compile(r"(?P<recording>\d+)-\d+-\d+-\d+")
_FSDD = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_\d+")
_US8K_FOLD = re.compile(r"/fold(\d+)/")
_FIGHT_SOURCE = re.compile(r"\bsource (-?\d+)")
# Whole groups are held out for validation where there are so many; of fewer, one would be too much of the data.
_FEW_GROUPS = 8
_MORE = 1.3  # of a class may be drawn for validation, as a multiple of its part

Read = Callable[[Path, Recipe], list[Clip]]


def read_clips(folder: Path, recipe: Recipe, faults: list[str] | None = None) -> ClipSet:
    """The clips of a folder, every one with a split, and the names of their targets.

    Splits that nobody says are drawn by a hash of group or name (see `fill_splits`), so they stay as clips are added.
    LearningError says what is wrong and the remedy; with `faults`, rows of a manifest that are wrong are told there
    and left out.
    """
    if not folder.is_dir():
        raise LearningError(f"{folder}: no such folder of clips")
    path = manifest.find(folder)
    if path is not None:
        clips, names = manifest.read(path, recipe, faults), None
    else:
        clips, names = _laid_out(folder, recipe)
    if not clips and not faults:
        raise LearningError(f"{folder}: no clips; put a manifest.csv there, or one folder of media a class")
    return ClipSet(folder, fill_splits(clips, recipe.data.validation), names or names_of(clips, recipe))


def usual_target(folder: Path) -> str:
    """What is learned of a folder where no recipe says it."""
    return "digit" if (folder / "align.tsv").is_file() else "label"


def names_of(clips: Iterable[Clip], recipe: Recipe) -> list[str]:
    """Every name that is somebody's target, sorted; none for numbers."""
    if recipe.task == "numbers":
        return []
    return sorted({str(name) for clip in clips for name in clip.target})


def fill_splits(clips: Sequence[Clip], validation: float) -> list[Clip]:
    """Every clip with a split.

    Where some are for validation already, those that say nothing are for training. Else that fraction of what is not
    for testing is kept for validation: whole groups if there are eight or more; otherwise of each class by recording.
    LearningError where it is no fraction.
    """
    if not 0 <= validation < 1:
        raise LearningError(f"data.validation is {validation:g}; write a fraction from 0 to below 1, like 0.1")
    if any(clip.split == "validation" for clip in clips):
        return [clip if clip.split else replace(clip, split="train") for clip in clips]
    open_ = [clip for clip in clips if clip.split != "test"]
    chosen = _held_out(open_, validation)
    return [
        clip if clip.split == "test" else replace(clip, split="validation" if clip.name in chosen else "train")
        for clip in clips
    ]


def leave_out(clip_set: ClipSet, group: str, validation: float = 0.1) -> ClipSet:
    """For cross-validation: the clips of one group are for testing, the others for training and validation.

    LearningError where there is no such group.
    """
    groups = sorted({clip.group for clip in clip_set.clips})
    if group not in groups:
        raise LearningError(f"{clip_set.folder}: no group {group!r}; groups are {', '.join(groups)}")
    marked = [replace(clip, split="test" if clip.group == group else "") for clip in clip_set.clips]
    return replace(clip_set, clips=fill_splits(marked, validation))


def recording(clip: Clip) -> str:
    """What several clips were cut from, where their names say so; else the clip's own name."""
    stem = Path(clip.name).stem
    found = _ESC.fullmatch(stem) or _US8K.fullmatch(stem)
    return found["recording"] if found else clip.name


def _held_out(clips: Sequence[Clip], fraction: float) -> set[str]:
    """Names of the clips that are for validation, in the order of a hash, so that it never depends on the machine."""
    groups = {clip.group for clip in clips if clip.group}
    if len(groups) >= _FEW_GROUPS:
        return _first(clips, lambda clip: clip.group or recording(clip), fraction)
    chosen: set[str] = set()
    for kind in sorted({_kind(clip) for clip in clips}):
        chosen |= _first([clip for clip in clips if _kind(clip) == kind], recording, fraction)
    return chosen


def _kind(clip: Clip) -> str:
    """What validation is drawn from evenly: the class, where a clip has one."""
    return str(clip.target[0]) if len(clip.target) == 1 and isinstance(clip.target[0], str) else ""


def _first(clips: Sequence[Clip], unit: Callable[[Clip], str], fraction: float) -> set[str]:
    """Whole units in the order of their hashes until they are that fraction of the clips, but none that would make much
    more of a class than its part; never all."""
    members: dict[str, list[Clip]] = {}
    for clip in clips:
        members.setdefault(unit(clip), []).append(clip)
    wanted = fraction * len(clips)
    most = {kind: max(1.0, _MORE * fraction * count) for kind, count in Counter(map(_kind, clips)).items()}
    chosen: list[Clip] = []
    for each in sorted(members, key=lambda name: hashlib.sha256(name.encode()).digest())[:-1]:
        if len(chosen) + len(members[each]) / 2 > wanted:
            continue
        kinds = Counter(map(_kind, [*chosen, *members[each]]))
        if all(count <= most[kind] for kind, count in kinds.items()):
            chosen += members[each]
    return {clip.name for clip in chosen}


def _laid_out(folder: Path, recipe: Recipe) -> tuple[list[Clip], list[str] | None]:
    """Clips and, where the data set fixes them, names."""
    if (folder / "align.tsv").is_file():
        return _grid(folder, recipe)
    if recipe.data.moment == "target":
        raise LearningError(f"{folder}: nobody says when the target is; write a manifest with target_start, target_end")
    if recipe.data.target == manifest.OFFSET:
        return [_clip(folder, path, ()) for path in _files(folder, "**/*")], None
    if recipe.task not in ("classes", "labels"):
        raise LearningError(f"{folder}: folders tell classes; a recipe of {recipe.task} needs a manifest.csv there")
    flat = _files(folder, "*")
    if flat and all(_FSDD.fullmatch(path.stem) for path in flat):
        return _fsdd(folder, flat)
    return _classes(folder), None


def _grid(folder: Path, recipe: Recipe) -> tuple[list[Clip], list[str] | None]:
    target = recipe.data.target
    known = (*GRID_PLACES, "sentence", manifest.OFFSET)
    if target not in known:
        raise LearningError(f"{folder}: data.target is {target!r}; this data set has {', '.join(known)}")
    wanted = {"sentence": "sequence", manifest.OFFSET: "numbers"}.get(target, "classes")
    if recipe.task != wanted:
        raise LearningError(f'{folder}: {target!r} is learned by task = "{wanted}", not {recipe.task!r}')
    if recipe.data.moment == "target" and target not in GRID_PLACES:
        raise LearningError(f'{folder}: {target!r} has no moment of its own; write moment = "clip"')
    rows = sorted(_grid_rows(folder / "align.tsv"))
    kept = len(rows) - int(_GRID_VALIDATION * len(rows))
    clips = [
        _grid_clip(folder, name, words, recipe, "train" if place < kept else "validation")
        for place, (name, words) in enumerate(rows)
    ]
    if target in GRID_PLACES:
        return clips, list(GRID_WORDS[target])
    return clips, sorted(word for words in GRID_WORDS.values() for word in words) if target == "sentence" else []


def _grid_clip(folder: Path, name: str, words: list[Word], recipe: Recipe, split: Split) -> Clip:
    target = recipe.data.target
    clip = Clip(name, folder / f"{name}.mp4", (), words=tuple(words), split=split)
    if target == manifest.OFFSET:
        return clip
    if target == "sentence":
        times = tuple((word.start_s, word.end_s) for word in words)
        return replace(clip, target=tuple(word.text for word in words), words=(), times=times)
    told = words[GRID_PLACES.index(target)]
    clip = replace(clip, target=(told.text,), words=tuple(word for word in words if word is not told))
    if recipe.data.moment == "target":
        return manifest.around(clip, told.start_s, told.end_s)
    return clip


def _grid_rows(path: Path) -> Iterable[tuple[str, list[Word]]]:
    """Id and the six words of each sentence, with their times."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        try:
            name, _, times = cells
            parts = [cell.split(":") for cell in times.split()]
            said = [Word(word, float(start), float(end)) for start, end, word in parts if word not in _GRID_SILENCE]
        except ValueError as error:
            raise LearningError(
                f"{path}:{number}: not id, text, start:end:word ...; mend or remove the line"
            ) from error
        if len(said) != len(GRID_PLACES) or any(
            word.text not in GRID_WORDS[place] for place, word in zip(GRID_PLACES, said, strict=True)
        ):
            raise LearningError(f"{path}:{number}: {name} has not the six words of a sentence; mend or remove the line")
        yield name, said


def _fsdd(folder: Path, files: Sequence[Path]) -> tuple[list[Clip], list[str]]:
    clips = []
    for path in files:
        found = _FSDD.fullmatch(path.stem)
        assert found is not None
        clips.append(_clip(folder, path, (_DIGITS[int(found["digit"])],), group=found["speaker"]))
    return clips, list(_DIGITS)


def _classes(folder: Path) -> list[Clip]:
    """A folder a class, below folders that are called as splits or not."""
    parts = {split: folder / split for split in SPLITS if (folder / split).is_dir()}
    said = _notes(folder)
    clips = []
    for split, root in parts.items() if parts else (("", folder),):
        for path in _files(root, "*/**/*"):
            kind = path.relative_to(root).parts[0]
            group = _group(path, said.get(path.relative_to(folder).as_posix(), ""), folder)
            clips.append(replace(_clip(folder, path, (kind,), group), split=split))
    return clips


def _group(path: Path, note: str, folder: Path) -> str:
    """What of a data set that is known stands together."""
    if found := _ESC.fullmatch(path.stem):
        return found["fold"]
    if found := _US8K.fullmatch(path.stem):
        fold = _US8K_FOLD.search(note)
        return fold[1] if fold else found["recording"]
    if found := _FIGHT_SOURCE.search(note):
        return found[1]
    return ""


def _notes(folder: Path) -> dict[str, str]:
    """What a MANIFEST.tsv beside the folder, or in it, says of each file, by the path below the folder."""
    for path, prefix in ((folder / "MANIFEST.tsv", ""), (folder.parent / "MANIFEST.tsv", f"{folder.name}/")):
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                lines = [line for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if line]
            return {line[0].removeprefix(prefix): " ".join(line[1:]) for line in lines if line[0].startswith(prefix)}
    return {}


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in MEDIA and path.is_file())


def _clip(folder: Path, path: Path, target: tuple[str, ...], group: str = "") -> Clip:
    return Clip(path.relative_to(folder).as_posix(), path, target, group=group)
