"""When people are looked for again: something changed, something came to rest, or it has been a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.changes import Changes

S = 1_000_000_000
HOP = S // 2


def yard(x: int | None = None, noise: float = 0.0, seed: int = 0) -> NDArray[np.uint8]:
    """A grey picture of 224 x 224 with somebody a sixth of it high at `x`, as a sensor with that much noise sees it."""
    picture = np.full((224, 224, 3), 100.0)
    if x is not None:
        picture[120:157, x : x + 14] = 60.0
    picture += np.random.default_rng(seed).normal(0, noise, picture.shape) if noise else 0.0
    return np.clip(picture, 0, 255).astype(np.uint8)


def looked(pictures: list[NDArray[np.uint8]]) -> list[int]:
    """Which of these pictures, two a second, are looked at."""
    changes = Changes()
    return [number for number, picture in enumerate(pictures) if changes.wants(picture, number * HOP)]


def test_a_still_picture_is_looked_at_again_after_ten_seconds() -> None:
    """Of a minute in which nothing moves, the noise of a dark sensor included, the first two pictures and one each ten
    seconds are looked at."""
    assert looked([yard(noise=12.0, seed=number) for number in range(120)]) == [0, 1, 21, 41, 61, 81, 101]


def test_somebody_who_comes_is_looked_at_until_they_rest() -> None:
    """Every picture in which somebody stands elsewhere than in the last one is, and the one after that."""
    walk = [None, None, None, 20, 60, 100, 100, 100, 100]
    assert looked([yard(x) for x in walk]) == [0, 1, 3, 4, 5, 6]


def test_what_creeps_is_seen() -> None:
    """Somebody who moves by two pixels a picture is compared with where they were last looked at."""
    found = looked([yard(20 + 2 * number) for number in range(60)])
    assert len(found) > 10 and max(np.diff(found)) <= 10
