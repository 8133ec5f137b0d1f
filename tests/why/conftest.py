"""The real graphs, for the tests that explain."""

from __future__ import annotations

import pytest

from streamer import engine as engines
from streamer.errors import WeightsError
from streamer.why.explain import Graphs


@pytest.fixture(scope="package")
def engine() -> engines.Engine:
    """The engine on its real weights; where they can't be had, a skip that says what would bring them."""
    try:
        return engines.load("cpu", None)
    except WeightsError as error:
        pytest.skip(f"no pretrained weights ({error}); bring them with: streamer weights")


@pytest.fixture(scope="package")
def graphs(engine: engines.Engine) -> Graphs:
    return Graphs(*engine.why_graphs)
