"""What of a stream will not be stored, and how its subscribers are told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamer.messages import FeedMessage, Segment, StreamMessage
from streamer.storage.records import Claim, Record

# Epochs of which losses are told one by one; of a stream that lost more, the oldest are told as a sum.
_EPOCHS = 16


@dataclass(slots=True)
class Lost:
    """What is missing of an epoch, and not told yet."""

    epoch: str | None
    segments: int = 0
    others: int = 0
    first: int = -1
    last: int = -1

    def add(self, message: FeedMessage) -> None:
        """One more that will not be stored; segments come in order."""
        if not isinstance(message, Segment):
            self.others += 1
            return
        self.first = message.seq if not self.segments else self.first
        self.last = message.seq
        self.segments += 1

    def told(self) -> str:
        """What is missing, in words."""
        which = f" (seq {self.first} to {self.last})" if self.segments else ""
        return f"{self.segments} segments{which} and {self.others} other messages were not stored"


class Losses:
    """The messages of one stream that had to make room, by epoch, until they are told."""

    def __init__(self) -> None:
        self._epochs: dict[str | None, Lost] = {}

    def add(self, messages: Iterable[FeedMessage]) -> None:
        """These will not be stored."""
        for message in messages:
            epoch = message.epoch if isinstance(message, Segment | StreamMessage) else None
            # Events and bare states belong to the epoch around them; None stands for "before any was named".
            key = epoch if epoch is not None else next(reversed(self._epochs), None)
            self._epochs.setdefault(key, Lost(key)).add(message)
        while len(self._epochs) > _EPOCHS:
            oldest = self._epochs.pop(next(iter(self._epochs)))
            heir = self._epochs[next(iter(self._epochs))]
            heir.others += oldest.segments + oldest.others

    def take(self) -> list[Lost]:
        """What is to be told now, oldest epoch first; forgotten here."""
        taken, self._epochs = list(self._epochs.values()), {}
        return taken


def bereft(claim: Claim, first: Record | None) -> str:
    """In words: the store lost what it had acknowledged between what `claim` says that it holds and the segment `first`
    (None: it is not known which comes first)."""
    what = "store_lost: the store lost what it had acknowledged, "
    if first is None:
        return f"{what}all that was before"
    begin, end = claim.seq + 1 if claim.epoch == first.epoch else 0, int(first.mark) - 1
    if begin > end:
        return f"{what}other messages than segments"
    return f"{what}segments (seq {begin} to {end} of epoch {first.epoch})"
