"""The next thing made while the last one is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key")
Made = TypeVar("Made")


class Ahead(Generic[Key, Made]):
    """Gives `make(key)`, which must depend on the key alone; with `beside`, made in a thread while the one before it
    was used. One thing at the most is made ahead."""

    def __init__(self, make: Callable[[Key], Made], *, beside: bool) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, "ahead") if beside else None
        self._kept: tuple[Key, Future[Made]] | None = None

    def take(self, key: Key, following: Key) -> Made:
        """What `key` makes; `following` is what will probably be asked for next. Whatever `make` raises, this raises,
        for its own key."""
        if self._pool is None:
            return self._make(key)
        kept, self._kept = self._kept, None
        future = kept[1] if kept is not None and kept[0] == key else self._pool.submit(self._make, key)
        made = future.result()
        self._kept = (following, self._pool.submit(self._make, following))
        return made

    def close(self) -> None:
        """Ends the thread; what it made ahead is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
