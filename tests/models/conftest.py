"""The pretrained weights, for the tests that run the real networks."""

from __future__ import annotations

import pytest

from models import weights as weights_module
from models.weights import Weights, WeightsFetchError


@pytest.fixture(scope="session")
def pretrained() -> Weights:
    """The real weights, from the cache or fetched now; where neither works, a skip that says what would bring them."""
    try:
        return weights_module.fetch()
    except WeightsFetchError as error:
        pytest.skip(f"no pretrained weights ({error}); bring them with: streamer weights")
