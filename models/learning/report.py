"""The page about a training: one HTML file that needs nothing else, readable on light and dark ground."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.learning import keep, metrics, plots
from models.learning.keep import Loaded
from models.learning.metrics import Floats, Integers
from models.learning.predict import Predicted
from models.learning.recipe import AudioRecipe, Recipe, TextRecipe, VideoRecipe, as_document
from models.learning.sets import Data, Split

_MATRIX = 30  # classes: beyond, the confusion matrix is left to the list of what is taken for what
_WORST = 12  # rows of lists of examples
_MODALITY = {"video": VideoRecipe, "audio": AudioRecipe, "text": TextRecipe}

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --ground: #ffffff; --line: #d5dae2; --soft: #f4f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe5ee; --ground: #14181f; --line: #353d4a; --soft: #1c222c; }
}
body { color: var(--ink); background: var(--ground); font: 15px/1.5 system-ui, sans-serif; max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; } th, td { padding: .2rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr { border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; border-bottom: 2px solid var(--line); }
.wide { overflow-x: auto; } .matrix td, .matrix th { padding: .15rem .45rem; font-size: 13px; }
.pair { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; } svg { max-width: 100%; height: auto; }
figcaption, .note { font-size: 13px; opacity: .8; } pre { background: var(--soft); padding: .8rem; overflow-x: auto; }
"""


@dataclass(frozen=True)
class Material:
    """What a page is made of. said: by set, of the checkpoint. curves: lines of the journal. seconds: of training."""

    checkpoint: Path
    data: Data
    said: Mapping[str, Predicted]
    curves: Sequence[Mapping[str, Any]]
    seconds: float


def write(path: Path, material: Material) -> Path:
    """Writes the page and gives its path."""
    loaded = keep.load_network(material.checkpoint)
    judged = "test" if "test" in material.said else "validation"
    sections = [
        _head(loaded, judged),
        _figures(loaded),
        _modalities(loaded, judged),
        _curves(loaded, material.curves),
        *_answers(loaded, material, judged),
        _made(loaded, material),
    ]
    title = html.escape(loaded.recipe.name)
    page = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    page += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    page += f"<style>{_STYLE}</style></head><body>\n" + "\n".join(filter(None, sections)) + "\n</body></html>\n"
    path.write_text(page, encoding="utf-8")
    return path


def _head(loaded: Loaded, judged: str) -> str:
    recipe = loaded.recipe
    name, _ = metrics.main_figure(recipe.task)
    value = loaded.learned.figures.get(judged, {}).get(name)
    what = {
        "classes": f"which of {len(loaded.names)} classes",
        "labels": f"which of {len(loaded.names)} labels",
        "numbers": "what number",
        "sequence": "what sequence",
    }[recipe.task]
    text = f"Tells {what}, from {' and '.join(recipe.modalities)}, joined by {recipe.fusion.kind}."
    figure = "" if value is None else f" {_words(name).capitalize()} on the {judged} clips: <b>{_number(value)}</b>."
    return f"<h1>{html.escape(recipe.name)}</h1>\n<p>{text}{figure}</p>"


def _figures(loaded: Loaded) -> str:
    sets = {name: one for name, one in loaded.learned.figures.items() if name != "modalities" and one}
    columns = sorted({name for one in sets.values() for name in one})
    rows = [[name, *(_number(one.get(column)) for column in columns)] for name, one in sets.items()]
    return "<h2>Figures</h2>" + _table(["set", *map(_words, columns)], rows)


def _modalities(loaded: Loaded, judged: str) -> str:
    alone = loaded.learned.figures.get("modalities")
    if not alone:
        return ""
    name, _ = metrics.main_figure(loaded.recipe.task)
    together = {"+".join(loaded.recipe.modalities): loaded.learned.figures[judged][name]}
    values = {_only(loaded, which): value for which, value in {**together, **alone}.items()}
    return (
        f"<h2>With each modality removed</h2><figure>{plots.bars(values, _words(name))}"
        f"<figcaption>The same checkpoint on the {judged} clips, with something taken away.</figcaption></figure>"
    )


def _only(loaded: Loaded, which: str) -> str:
    gone = [name for name in loaded.recipe.modalities if name not in which.split("+")]
    return f"without {' and '.join(gone)}" if gone else "all"


def _curves(loaded: Loaded, curves: Sequence[Mapping[str, Any]]) -> str:
    steps = [line for line in curves if "epoch" not in line]
    epochs = [line for line in curves if "epoch" in line]
    loss = {"loss": ([line["step"] for line in steps], [line["loss"] for line in steps])}
    drawn = [(plots.lines(loss, "step", "loss", smooth=True), "The loss of each step, a clip.")]
    name, _ = metrics.main_figure(loaded.recipe.task)
    shown = [one for one in (name, "loss") if epochs and one in epochs[0]]
    for one in shown:
        values = {one: ([line["epoch"] for line in epochs], [line[one] for line in epochs])}
        drawn.append((plots.lines(values, "epoch", _words(one)), f"Validation: {_words(one)} after each epoch."))
    held = sorted({key for line in steps for key in line if key.startswith("held_")})
    if held:
        values = {
            key.removeprefix("held_"): (
                [line["step"] for line in steps if key in line],
                [line[key] for line in steps if key in line],
            )
            for key in held
        }
        drawn.append((plots.lines(values, "step", "factor"), "What each encoder's gradients were multiplied by."))
    return "<h2>Curves</h2>" + _side_by_side(drawn)


def _answers(loaded: Loaded, material: Material, judged: str) -> Iterable[str]:
    """What the task's answers are like."""
    said = material.said[judged]
    task = loaded.recipe.task
    if task == "sequence":
        yield _sentences(loaded.names, said, judged)
        return
    scores, target = loaded.calibration.apply(said.raw).numpy(), said.target.numpy()
    if task == "numbers":
        yield _numbers(loaded.names, scores, target, said.clips, judged)
        return
    yield _reliability(loaded, said, scores, target, judged)
    split = material.data.test if judged == "test" else material.data.validation
    if task == "classes":
        yield _each_class(loaded.names, material.data.train, scores, target, judged)
        yield _confusion(loaded.names, scores.argmax(axis=1), target, split, judged)
    else:
        yield _each_label(loaded.names, material.data.train, scores, target, judged)


def _reliability(loaded: Loaded, said: Predicted, scores: Floats, target: Integers, judged: str) -> str:
    raw = type(loaded.calibration)(loaded.recipe.task).apply(said.raw).numpy()
    series = {}
    for name, values in (("before", raw), ("after calibration", scores)):
        if loaded.recipe.task == "classes":
            series[name] = metrics.reliability(values.max(axis=1), values.argmax(axis=1) == target)
        else:
            series[name] = metrics.reliability(values.ravel(), target.ravel() > 0.5)
    note = loaded.calibration.note
    fitted = f"Fitted to {note['clips']} validation clips" if note.get("fitted") else "Nothing was fitted"
    caption = f"Is a score a probability? On the {judged} clips; dots lie on the dotted line where it is. {fitted}."
    return "<h2>Calibration</h2>" + _side_by_side([(plots.reliability(series), caption)])


def _each_class(names: Sequence[str], train: Split, scores: Floats, target: Integers, judged: str) -> str:
    said = scores.argmax(axis=1)
    learned = np.bincount(train.targets().numpy(), minlength=len(names))
    f1 = metrics.f1_scores(metrics.one_hot(said, len(names)), metrics.one_hot(target, len(names)))
    rows = []
    for place, name in enumerate(names):
        hits = int(((said == place) & (target == place)).sum())
        there, told = int((target == place).sum()), int((said == place).sum())
        shares = [_number(hits / told if told else None), _number(hits / there if there else None)]
        rows.append([name, str(learned[place]), str(there), *shares, _number(f1[place])])
    return "<h2>Each class</h2>" + _table(["class", "for training", judged, "precision", "recall", "F1"], rows)


def _each_label(names: Sequence[str], train: Split, scores: Floats, target: Floats, judged: str) -> str:
    learned = train.targets().sum(dim=0)
    f1 = metrics.f1_scores(scores > 0.5, target > 0.5)
    rows = [
        [
            name,
            str(int(learned[place])),
            str(int(target[:, place].sum())),
            _number(metrics.average_precision(scores[:, place], target[:, place])),
            _number(f1[place]),
        ]
        for place, name in enumerate(names)
    ]
    return "<h2>Each label</h2>" + _table(["label", "for training", judged, "average precision", "F1 at 0.5"], rows)


def _confusion(names: Sequence[str], said: Integers, target: Integers, split: Split, judged: str) -> str:
    table = metrics.confusion(said, target, len(names))
    wrong = [
        (int(table[row, column]), row, column)
        for row in range(len(names))
        for column in range(len(names))
        if row != column and table[row, column]
    ]
    text = f"<h2>Confusion</h2><p class=note>Rows: what the {judged} clips are; columns: what was said.</p>"
    if len(names) <= _MATRIX:
        text += _matrix(names, table)
    if wrong:
        rows = []
        for count, row, column in sorted(wrong, reverse=True)[:_WORST]:
            clips = [split.clips[index].name for index in np.flatnonzero((target == row) & (said == column))[:3]]
            rows.append([names[row], names[column], str(count), ", ".join(clips)])
        text += _table(["is", "was said to be", "clips", "for example"], rows)
    return text


def _matrix(names: Sequence[str], table: Integers) -> str:
    totals = np.maximum(table.sum(axis=1), 1)
    body = ""
    for row, name in enumerate(names):
        cells = ""
        for column, count in enumerate(table[row]):
            colour = "63,155,91" if row == column else "217,105,44"
            share = 0.75 * float(count) / float(totals[row])
            cells += f'<td style="background:rgba({colour},{share:.2f})">{count or ""}</td>'
        body += f"<tr><th>{html.escape(name)}</th>{cells}</tr>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class=wide><table class=matrix>{rows}</table></div>"


def _numbers(names: Sequence[str], said: Floats, target: Floats, clips: Sequence[str], judged: str) -> str:
    drawn = [
        (plots.against(target[:, place], said[:, place], name), f"{html.escape(name)}, the {judged} clips.")
        for place, name in enumerate(names or ["number"])
    ]
    error = np.abs(said - target).mean(axis=1)
    rows = [[clips[index], _row(target[index]), _row(said[index])] for index in np.argsort(-error)[:_WORST]]
    return "<h2>Numbers</h2>" + _side_by_side(drawn) + "<p>The worst:</p>" + _table(["clip", "true", "said"], rows)


def _sentences(names: Sequence[str], said: Predicted, judged: str) -> str:
    wrong = [metrics.edits(one, other) for one, other in zip(said.said, said.true, strict=True)]
    order = np.argsort(-np.array(wrong), kind="stable")[:_WORST]
    rows = [
        [said.clips[index], _spoken(names, said.true[index]), _spoken(names, said.said[index]), str(wrong[index])]
        for index in order
    ]
    text = f"<h2>Sequences</h2><p>{sum(one == 0 for one in wrong)} of {len(wrong)} {judged} clips without a fault. "
    return text + "The worst:</p>" + _table(["clip", "true", "said", "edits"], rows)


def _made(loaded: Loaded, material: Material) -> str:
    data = material.data
    counts = [
        ["training", str(len(data.train))],
        ["validation", str(len(data.validation))],
        ["test", str(len(data.test))],
    ]
    parameters = keep.parameters(loaded.network)
    sizes = [[name, f"{count:,}"] for name, count in parameters.items()]
    sizes.append(["all", f"{sum(parameters.values()):,}"])
    facts = [
        [name, json.dumps(value, ensure_ascii=False)] for name, value in loaded.learned.data.items() if name != "marks"
    ]
    facts += [[name, value] for name, value in json.loads(loaded.header["made"]).items()]
    facts.append(["seconds of training", f"{material.seconds:.0f}"])
    return (
        '<h2>How it was made</h2><div class="pair">'
        + _table(["clips", "number"], counts)
        + _table(["parameters", "number"], sizes)
        + _table(["fact", ""], facts)
        + "</div><h2>Recipe</h2><p class=note>What it doesn't name is as usual.</p>"
        + f"<pre>{html.escape(_toml(loaded))}</pre>"
    )


def _toml(loaded: Loaded) -> str:
    """The recipe as somebody would write it: what differs from the usual alone."""
    usual = as_document(Recipe(""))
    lines, tables = [], []
    for name, value in as_document(loaded.recipe).items():
        if isinstance(value, dict):
            plain = usual[name] or dataclasses.asdict(_MODALITY[name]())
            inside = [f"{key} = {_toml_value(one)}" for key, one in value.items() if one != plain[key]]
            if inside or name in _MODALITY:
                tables += ["", f"[{name}]", *inside]
        elif value is not None and (value != usual[name] or name == "task"):
            lines.append(f"{name} = {_toml_value(value)}")
    return "\n".join(lines + tables)


def _toml_value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _side_by_side(drawn: Sequence[tuple[str, str]]) -> str:
    figures = "".join(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" for svg, caption in drawn)
    return f'<div class="pair">{figures}</div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _words(name: str) -> str:
    return {"ece": "calibration error", "f1": "F1", "mae": "mean error", "r2": "R²"}.get(name, name.replace("_", " "))


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}"


def _row(values: Floats) -> str:
    return ", ".join(_number(float(value)) for value in values)


def _spoken(names: Sequence[str], symbols: Sequence[int]) -> str:
    return " ".join(names[symbol] if 0 <= symbol < len(names) else "?" for symbol in symbols)
