"""Plots as SVG to stand in a page: in the page's own text colour, so that they can be read on light and dark ground."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.learning.metrics import Floats

COLOURS = ("#2f7ed8", "#d9692c", "#3f9b5b", "#9467bd")  # told apart by most eyes, and on both grounds
_INK = "#010203"  # drawn in this, and replaced by the page's colour of text
_SMOOTH = 50  # points at the most that a curve of many steps is drawn with beside its own


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str, *, smooth: bool = False
) -> str:
    """Curves by name, each x and y. `smooth`: drawn faintly, with means over stretches of it on top."""
    figure, axes = _axes(x_label, y_label)
    for (name, (x, y)), colour in zip(series.items(), COLOURS, strict=False):
        many = smooth and len(x) > 2 * _SMOOTH
        marker = "o" if len(x) <= _SMOOTH and not smooth else None
        axes.plot(x, y, color=colour, linewidth=0.5 if many else 1.5, alpha=0.4 if many else 1, marker=marker,
                  markersize=3, label=None if many else name)  # fmt: skip
        if many:
            parts = np.array_split(np.asarray([x, y], dtype=float), _SMOOTH, axis=1)
            axes.plot(*np.array([part.mean(axis=1) for part in parts]).T, color=colour, linewidth=1.8, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series) > 1:
        axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure)


def reliability(series: Mapping[str, tuple[Floats, Floats, Floats]]) -> str:
    """Share that is right over confidence, from metrics.reliability; areas of dots as so many fell there."""
    figure, axes = _axes("confidence", "share that is right")
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
    for (name, (confidence, right, weight)), colour in zip(series.items(), COLOURS, strict=False):
        axes.plot(confidence, right, color=colour, linewidth=1.2, label=name)
        axes.scatter(confidence, right, s=10 + 300 * weight, color=colour, alpha=0.6, linewidths=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure)


def against(true: Floats, said: Floats, unit: str) -> str:
    """Each clip's number as it was said over what it is."""
    figure, axes = _axes(f"{unit}, true", f"{unit}, said")
    axes.scatter(true, said, s=10, color=COLOURS[0], alpha=0.6, linewidths=0)
    both = [float(min(true.min(), said.min())), float(max(true.max(), said.max()))]
    axes.plot(both, both, color=_INK, linewidth=0.8, linestyle=":")
    return _svg(figure)


def bars(values: Mapping[str, float], x_label: str) -> str:
    """Horizontal bars with their values written beside them."""
    figure, axes = _axes(x_label, "", height=0.8 + 0.32 * len(values))
    names = list(values)[::-1]
    drawn = axes.barh(names, [values[name] for name in names], color=COLOURS[0], height=0.6)
    axes.bar_label(drawn, fmt="%.3g", padding=3, color=_INK)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    return _svg(figure)


def _axes(x_label: str, y_label: str, height: float = 3.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.tick_params(colors=_INK)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as an element to stand in HTML: text as text, nothing that names another place but namespaces."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # The salt makes names within the SVG the same each time; figures that differ give different names all the same.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
