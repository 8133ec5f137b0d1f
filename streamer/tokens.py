"""What an engine keeps of each stream between batches, and what a fusion is fed of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models import people
from streamer.clock import NS_PER_S
from streamer.media import Patch, Picture, ReadWord, SaidWord, Sighting, Token

_EASED_S = 1.0


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

    def people_at(self, picture: Picture, *, eased: bool) -> NDArray[np.float32]:
        """Who is in a picture, as models.people tells them: those who were seen in it or, as long as nothing changed,
        last before it. `eased`: they are not looked for in every picture that changed, so a second later nothing is
        known."""
        before = [index for index in self.sightings if index <= picture.index]
        if not before:
            return np.zeros(people.WIDTH, np.float32)
        last = self.sightings[max(before)]
        age_s = (picture.media_ns - last.media_ns) / NS_PER_S
        if eased and age_s > _EASED_S:
            return np.zeros(people.WIDTH, np.float32)
        return people.numbers(last.aspect, last.scores, last.boxes, last.points, age_s)


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


@dataclass(frozen=True, slots=True)
class FedWords:
    """The words of a batch as the fusion takes them: numbers int64 `[B, N]`, their mask `[B, N]`, and when each was
    said, `[B, N]`, seconds from its window's start."""

    numbers: NDArray[np.int64]
    mask: NDArray[np.float32]
    when: NDArray[np.float32]

    @classmethod
    def of(cls, read: Sequence[Sequence[ReadWord]], starts_ns: Sequence[int]) -> FedWords:
        """Those of each window, and when it starts."""
        shape = len(read), max(1, *map(len, read))
        fed = cls(np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        for row, (words, start_ns) in enumerate(zip(read, starts_ns, strict=True)):
            fed.numbers[row, : len(words)] = [word.number for word in words]
            fed.when[row, : len(words)] = [word.seconds_from(start_ns) for word in words]
            fed.mask[row, : len(words)] = 1.0
        return fed

    def feeds(self) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """By the names of the fusion's inputs."""
        return {"text": self.numbers, "text_mask": self.mask, "text_when": self.when}


def as_read(words: Sequence[SaidWord], numbers: Mapping[str, int]) -> tuple[ReadWord, ...]:
    """Words by their numbers; 0 for one that has none."""
    return tuple(ReadWord(numbers.get(word.text, 0), word.start_ns, word.end_ns) for word in words)
