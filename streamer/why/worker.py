"""The process that explains: `python -m streamer.why.worker`. It ends with its input."""

from __future__ import annotations

from collections.abc import Callable

from streamer.ondemand import answer_all
from streamer.why.explain import Asked, Explained, Explainer, Graphs
from streamer.why.variants import VariantExplainer


def begin(graphs: Graphs) -> Callable[[Asked], Explained]:
    """Who answers; `graphs`: where what it computes with is."""
    return Explainer(graphs).explain if graphs.moments else VariantExplainer(graphs).explain


if __name__ == "__main__":
    answer_all(Graphs, Asked, begin)
