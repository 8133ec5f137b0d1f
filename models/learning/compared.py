"""A comparison on a page: Markdown for documents, HTML that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.learning.advice import Metric, Standing

if TYPE_CHECKING:
    from models.learning.compare import Comparison

_WIDTH = 320  # of the drawing of intervals, in pixels
_ROW = 26
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr { border-bottom: 1px solid #8884; }
.wide { overflow-x: auto; } .choice { font-weight: 600; } .note { font-size: 13px; opacity: .8; }
svg { vertical-align: middle; }
"""


def columns(compared: Comparison) -> list[str]:
    """The heads of the table."""
    missing = [f"without {name}" for name in _missing(compared.standings)]
    return ["", compared.metric.words, "95 % interval", "behind the best", "parameters", "ms a window", *missing]


def rows(compared: Comparison) -> list[list[str]]:
    """The table, best first, as text."""
    return [_row(one, compared.metric, _missing(compared.standings)) for one in compared.standings]


def _missing(standings: Sequence[Standing]) -> list[str]:
    return list(dict.fromkeys(name for one in standings for name in one.without))


def _row(one: Standing, metric: Metric, missing: Sequence[str]) -> list[str]:
    behind = "-" if one.behind <= 0 else f"{metric.gap(one.behind)}{'' if one.is_close else ' *'}"
    cells = [one.label, metric.said(one.figure), f"{metric.said(one.low)} to {metric.said(one.high)}", behind]
    cells += [f"{one.parameters:,}", f"{one.milliseconds:.2f}"]
    return cells + [metric.said(one.without[name]) if name in one.without else "" for name in missing]


def about(compared: Comparison) -> list[str]:
    """What the table rests on: sentences."""
    seeds = len(compared.plan.seeds)
    return [
        f"{compared.recipe}: {compared.clips} clips ({compared.split}), {seeds} seed{'s' * (seeds > 1)} each; 95 % "
        "intervals are of clips and seeds drawn again, the same for all.",
        "* clearly behind: the paired interval of the difference leaves out 0.",
        "Times: torch, eager, on one thread of this machine, from stored features.",
    ]


def as_markdown(compared: Comparison) -> str:
    """For a document."""
    heads = columns(compared)
    lines = [f"# Comparison: {compared.recipe}", "", f"**Use {compared.advice.choice}.**", ""]
    lines += [" ".join(compared.advice.reasons), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(compared)]
    lines += ["", *(f"- {doubt}" for doubt in compared.advice.doubts)]
    return "\n".join([*lines, "", *about(compared), ""])


def as_html(compared: Comparison) -> str:
    """A page of its own."""
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in [*columns(compared), ""])
    drawn = _drawings(compared.standings)
    body = ""
    for one, row, picture in zip(compared.standings, rows(compared), drawn, strict=True):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        chosen = ' class="choice"' if one.label == compared.advice.choice else ""
        body += f"<tr{chosen}>{cells}<td>{picture}</td></tr>\n"
    reasons = " ".join(map(html.escape, compared.advice.reasons))
    doubts = "".join(f"<li>{html.escape(doubt)}</li>" for doubt in compared.advice.doubts)
    notes = "<br>".join(map(html.escape, about(compared)))
    title = html.escape(f"Comparison: {compared.recipe}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n'
        f"<p><strong>Use {html.escape(compared.advice.choice)}.</strong> {reasons}</p>\n"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div>\n'
        f'<ul>{doubts}</ul>\n<p class="note">{notes}</p>\n</body></html>\n'
    )


def _drawings(standings: Sequence[Standing]) -> list[str]:
    """Each one's interval and its figure as a line and a dot, all on one scale."""
    lowest, highest = min(one.low for one in standings), max(one.high for one in standings)
    span = (highest - lowest) or 1.0

    def place(value: float) -> float:
        return 10 + (_WIDTH - 20) * (value - lowest) / span

    return [
        f'<svg width="{_WIDTH}" height="{_ROW}" role="img" aria-label="interval">'
        f'<line x1="{place(one.low):.1f}" x2="{place(one.high):.1f}" y1="13" y2="13" stroke="currentColor" '
        f'stroke-width="2"/><circle cx="{place(one.figure):.1f}" cy="13" r="5" fill="currentColor"/></svg>'
        for one in standings
    ]
