"""What an engine keeps of each stream between batches, and what a fusion is fed of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.clock import NS_PER_S
from streamer.media import Patch, Picture, Sighting, Token


@dataclass(slots=True)
class Ring:
    """Tokens of one modality of one stream: float32 `[R, D]`, row `index % R`, with the index that each row holds, and
    the same for keeping."""

    tokens: NDArray[np.float32]
    holds: NDArray[np.int64]
    kept: list[Token]

    @classmethod
    def of(cls, rows: int, width: int) -> Ring:
        """An empty one."""
        nothing = Token(-1, 0, np.zeros(0, np.float16))
        return cls(np.zeros((rows, width), np.float32), np.full(rows, -1, np.int64), [nothing] * rows)

    def has(self, index: int) -> bool:
        """Whether the token of that item is there."""
        return bool(self.holds[index % len(self.holds)] == index)

    def put(self, item: Picture | Patch, token: NDArray[np.float32]) -> None:
        """Keep the token `[D]` of an item, in the place of one that is a whole ring older."""
        row = item.index % len(self.holds)
        self.tokens[row] = token
        self.holds[row] = item.index
        # In half precision: the numbers are means of 0 to 6, and no score moves by more than a thousandth.
        self.kept[row] = Token(item.index, item.media_ns, token.astype(np.float16))

    def get(self, index: int) -> NDArray[np.float32]:
        """The token `[D]` of an item that is there."""
        token: NDArray[np.float32] = self.tokens[index % len(self.holds)]
        return token

    def basis(self, items: Sequence[Picture | Patch]) -> tuple[Token, ...]:
        """The same of several, as they are kept."""
        return tuple(self.kept[item.index % len(self.kept)] for item in items)


@dataclass(frozen=True, slots=True)
class StreamTokens:
    """One stream's tokens, and by picture who was seen in it."""

    video: Ring
    audio: Ring
    sightings: dict[int, Sighting] = field(default_factory=dict)

    def see(self, sighting: Sighting) -> None:
        """Keep it for as long as windows reach back to it."""
        self.sightings[sighting.index] = sighting
        while len(self.sightings) > len(self.video.holds):
            del self.sightings[min(self.sightings)]


@dataclass(frozen=True, slots=True)
class Fed:
    """One modality of a batch as the fusion takes it: tokens float32 `[B, N, D]`, their mask `[B, N]`, and when each
    was, `[B, N]`, seconds from its window's start."""

    tokens: NDArray[np.float32]
    mask: NDArray[np.float32]
    when: NDArray[np.float32]

    @classmethod
    def of(cls, items: Sequence[Sequence[Picture | Patch]], width: int) -> Fed:
        """Room for the items of each window, all of it masked."""
        shape = len(items), max(1, *map(len, items))
        return cls(np.zeros((*shape, width), np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def fill(self, row: int, ring: Ring, items: Sequence[Picture | Patch], from_ns: int) -> None:
        """Put in the tokens of one window's items; `from_ns`: the media time that seconds count from."""
        for column, item in enumerate(items):
            self.tokens[row, column] = ring.get(item.index)
            self.when[row, column] = (item.media_ns - from_ns) / NS_PER_S
        self.mask[row, : len(items)] = 1.0

    def feeds(self, name: str) -> dict[str, NDArray[np.float32]]:
        """By the names of the fusion's inputs."""
        return {name: self.tokens, f"{name}_mask": self.mask, f"{name}_when": self.when}
