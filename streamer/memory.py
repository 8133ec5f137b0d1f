"""What the garbage collector need not look at: a look at all of it holds up every thread of the process meanwhile."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def settle_memory() -> None:
    """What was loaded up to here stays for good: the collector need not go through it again, which with the engine's
    libraries takes a third of a second."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def settled_memory() -> Iterator[None]:
    """The same for as long as the block lasts."""
    settle_memory()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def collected_seldom() -> Iterator[None]:
    """While the block lasts, the collector looks at young objects a hundred times as seldom as by itself: for work that
    makes many and leaves no cycles, of which a tenth went into looking."""
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
