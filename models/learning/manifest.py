"""Manifests: a table of labelled clips, `manifest.csv` or `manifest.jsonl`, read strictly.

One row (CSV, with a header) or one object a line (JSONL) is one clip:

    media         file, from the manifest's folder; empty for text alone
    start, end    the piece of it in seconds; empty for the whole file
    <target>      the column that the recipe's `data.target` names: a class; labels separated by `;` (JSONL: a list);
                  a number, several separated by `;` (or columns: `data.target = "x,y"`); text that is to be told
    text          what the text encoder reads
    words         the same with times from the clip's start: `0.95:1.18:bin 1.18:1.36:blue` (JSONL also
                  `[[0.95, 1.18, "bin"], ...]`)
    target_start, target_end    when the target is, seconds from the clip's start, for `data.moment = "target"`
    split         train, validation, test; empty: drawn by the recipe
    group         what must stand on one side of a split: a speaker, a source
    name          unique; else made from media and start

Other columns may be there: one manifest serves several targets.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from models.learning.clips import Clip, Split, Word
from models.learning.errors import LearningError
from models.learning.recipe import Recipe
from models.learning.words import cut_words

FILES = ("manifest.csv", "manifest.jsonl")
COLUMNS = ("media", "start", "end", "text", "words", "target_start", "target_end", "split", "group", "name")
OFFSET = "offset"
"""The target that is made, not told: sound and picture are shifted against each other by what is to be found."""
TARGET_MARGIN_S = 0.2
"""Around a target, with `data.moment = "target"`: mouths move before they are heard, and words run into each other."""

_SEPARATOR = ";"
_ALIKE = 0.8  # columns that look as much like a known one as this are taken for a slip


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands; `place` is file and line, for errors."""

    place: str
    values: Mapping[str, Any]
    is_json: bool = False

    def text(self, column: str) -> str:
        """What stands in a column, as text; "" where nothing does."""
        value = self.values.get(column)
        if value is None:
            return ""
        if isinstance(value, bool | list | dict):
            raise LearningError(f"{self.place}: {column} is {value!r}; write text or a number there")
        return str(value).strip()

    def seconds(self, column: str) -> float | None:
        """The seconds in a column; None where nothing stands there."""
        text = self.text(column)
        if not text:
            return None
        value = _number(text)
        if value is None or value < 0:
            raise LearningError(f"{self.place}: {column} is {text!r}; write seconds, like 1.5, not below 0")
        return value


def find(folder: Path) -> Path | None:
    """The folder's manifest, or None. LearningError where it has two."""
    there = [folder / name for name in FILES if (folder / name).is_file()]
    if len(there) > 1:
        raise LearningError(f"{folder}: both {FILES[0]} and {FILES[1]}; keep one")
    return there[0] if there else None


def read(path: Path, recipe: Recipe, faults: list[str] | None = None) -> list[Clip]:
    """The clips of a manifest, in its order; splits as they stand there.

    LearningError names file, line and remedy. With `faults` those are put there instead, and their rows are left out.
    """
    clips: list[Clip] = []
    named: dict[str, str] = {}
    for row in _rows(path, recipe, faults):
        try:
            clip = _clip(row, path.parent, recipe)
            if clip.name in named:
                raise LearningError(
                    f"{row.place}: {clip.name!r} stands at {named[clip.name]} already; "
                    "take one out, or give each a name in a column `name`"
                )
        except LearningError as error:
            if faults is None:
                raise
            faults.append(str(error))
            continue
        named[clip.name] = row.place
        clips.append(clip)
    if not clips and not faults:
        raise LearningError(f"{path}: no clips; write one row a clip below the header")
    return clips


def _rows(path: Path, recipe: Recipe, faults: list[str] | None) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LearningError(f"{path}: can't be read: {error}; it must be a file in UTF-8") from error
    if path.suffix == ".csv":
        yield from _csv_rows(path, text, recipe, faults)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            yield Row(place, _object(place, line, recipe), is_json=True)
        except LearningError as error:
            if faults is None:
                raise
            faults.append(str(error))


def _object(place: str, line: str, recipe: Recipe) -> Mapping[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise LearningError(f"{place}: not JSON ({error}); write one object a line") from error
    if not isinstance(values, dict):
        raise LearningError(f"{place}: {line[:40]!r} is no object; write one object a line")
    check_columns(place, list(values), recipe)
    return values


def _csv_rows(path: Path, text: str, recipe: Recipe, faults: list[str] | None) -> Iterator[Row]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        check_columns(f"{path}:1", header, recipe)
        for cells in reader:
            place = f"{path}:{reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == len(header):
                yield Row(place, dict(zip(header, cells, strict=True)))
                continue
            said = f"{place}: {len(cells)} cells under {len(header)} columns; quote cells that have commas"
            if faults is None:
                raise LearningError(said)
            faults.append(said)
    except csv.Error as error:
        raise LearningError(f"{path}:{reader.line_num}: not CSV ({error}); save it as comma-separated UTF-8") from error


def check_columns(place: str, columns: Sequence[str], recipe: Recipe) -> None:
    """Raises LearningError where columns are double, misspelt, or the target is missing."""
    double = sorted({name for name in columns if columns.count(name) > 1})
    if double:
        raise LearningError(f"{place}: column {double[0]!r} stands twice; rename one")
    if recipe.data.target == OFFSET and OFFSET in columns:
        raise LearningError(f"{place}: the target `offset` is made by shifting the sound; rename the column")
    if not {"media", "text", "words"} & set(columns):
        raise LearningError(f"{place}: no column `media`; columns are {', '.join(columns) or 'none'}")
    targets = target_columns(recipe)
    for name in targets:
        if name not in columns:
            raise LearningError(
                f"{place}: no column {name!r}, which the recipe's data.target names; columns are {', '.join(columns)}"
            )
    for name in columns:
        near = difflib.get_close_matches(name.casefold(), COLUMNS, 1, _ALIKE)
        if near and name not in COLUMNS and name not in targets:
            raise LearningError(f"{place}: column {name!r} looks like {near[0]!r}; write that, or another name")


def target_columns(recipe: Recipe) -> list[str]:
    """The columns that the target is read from; none for the one that is made."""
    if recipe.data.target == OFFSET:
        return []
    return [name.strip() for name in recipe.data.target.split(",")]


def _clip(row: Row, folder: Path, recipe: Recipe) -> Clip:
    media, start_s, end_s = row.text("media"), row.seconds("start"), row.seconds("end")
    if end_s is not None and end_s <= (start_s or 0.0):
        raise LearningError(f"{row.place}: end {end_s:g} is not after start {start_s or 0.0:g}")
    words = _words(row)
    if not media and not words:
        raise LearningError(f"{row.place}: no media and no text; name a file in the column `media`")
    piece = "" if start_s is None and end_s is None else f"#{start_s or 0.0:g}"
    clip = Clip(
        name=row.text("name") or (f"{media}{piece}" if media else row.place.rpartition("/")[2]),
        media=folder / media if media else None,
        target=_target(row, recipe),
        start_s=start_s or 0.0,
        end_s=end_s,
        words=words,
        split=_split(row),
        group=row.text("group"),
    )
    return _at_target(row, clip) if recipe.data.moment == "target" else clip


def _at_target(row: Row, clip: Clip) -> Clip:
    start_s, end_s = row.seconds("target_start"), row.seconds("target_end")
    if start_s is None or end_s is None or end_s <= start_s:
        raise LearningError(
            f'{row.place}: data.moment is "target", which needs seconds in `target_start` and `target_end`'
        )
    return around(clip, start_s, end_s)


def around(clip: Clip, start_s: float, end_s: float) -> Clip:
    """The clip cut down to its target, which is from `start_s` to `end_s` of it, with a margin; words keep their time,
    now told from the new start, so that those before it have times below 0."""
    first_s = max(0.0, start_s - TARGET_MARGIN_S)
    last_s = clip.start_s + end_s + TARGET_MARGIN_S
    if clip.end_s is not None:
        last_s = min(last_s, clip.end_s)
    words = tuple(replace(word, start_s=word.start_s - first_s, end_s=word.end_s - first_s) for word in clip.words)
    return replace(clip, start_s=clip.start_s + first_s, end_s=last_s, words=words)


def _target(row: Row, recipe: Recipe) -> tuple[str, ...] | tuple[float, ...]:
    if recipe.data.target == OFFSET:
        return ()
    columns = target_columns(recipe)
    if recipe.task == "numbers":
        return tuple(value for column in columns for value in _numbers(row, column))
    column = columns[0]
    if recipe.task == "sequence":
        symbols = _listed(row, column) or cut_words(row.text(column))
        if not symbols:
            raise LearningError(f"{row.place}: {column} is empty; write the words that are to be told")
        return symbols
    if recipe.task == "labels":
        return _labels(row, column)
    name = row.text(column)
    if not name:
        raise LearningError(f"{row.place}: {column} is empty; write the class, or take the row out")
    return (name,)


def _listed(row: Row, column: str) -> tuple[str, ...]:
    """A list of JSON as texts; () where something else stands there."""
    value = row.values.get(column)
    if not isinstance(value, list):
        return ()
    if not all(isinstance(each, str) and each.strip() for each in value):
        raise LearningError(f"{row.place}: {column} must be a list of texts, not {value!r}")
    return tuple(each.strip() for each in value)


def _labels(row: Row, column: str) -> tuple[str, ...]:
    if isinstance(row.values.get(column), list):
        names = _listed(row, column)
    else:
        names = tuple(name.strip() for name in row.text(column).split(_SEPARATOR) if name.strip())
        if not names and row.is_json:
            raise LearningError(f"{row.place}: {column} is empty; write the labels, or [] where there is none")
    if len(set(names)) < len(names):
        raise LearningError(f"{row.place}: {column} names a label twice: {', '.join(names)}")
    return names


def _numbers(row: Row, column: str) -> Iterator[float]:
    value = row.values.get(column)
    cells = [str(each) for each in value] if isinstance(value, list) else row.text(column).split(_SEPARATOR)
    for cell in cells:
        number = _number(cell)
        if number is None:
            raise LearningError(f"{row.place}: {column} is {cell.strip()!r}; write a number, several separated by ;")
        yield number


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _split(row: Row) -> Split:
    split = row.text("split")
    if split not in get_args(Split):
        raise LearningError(f"{row.place}: split is {split!r}; write train, validation or test, or leave it empty")
    return cast(Split, split)


def _words(row: Row) -> tuple[Word, ...]:
    """Of the column `words`, with times; else of `text`, without."""
    value = row.values.get("words")
    if isinstance(value, list):
        return tuple(_timed(row, each) for each in value)
    text = row.text("words")
    if text:
        return tuple(_timed(row, cell.split(":", 2)) for cell in text.split())
    return tuple(Word(word, math.nan, math.nan) for word in cut_words(row.text("text")))


def _timed(row: Row, cells: Any) -> Word:
    wanted = "write start:end:word, or [start, end, word] in JSON, with seconds from the clip's start"
    if not isinstance(cells, list) or len(cells) != 3:
        raise LearningError(f"{row.place}: words has {cells!r}; {wanted}")
    start_s, end_s = (_number(str(cell)) for cell in cells[:2])
    word = str(cells[2]).strip()
    if start_s is None or end_s is None or end_s < start_s or not word:
        raise LearningError(f"{row.place}: words has {':'.join(map(str, cells))!r}; {wanted}")
    return Word(word, start_s, end_s)
