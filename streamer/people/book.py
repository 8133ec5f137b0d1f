"""The events of one stream's people: what lasts and since when, told when it begins, grows and ends."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.clock import rfc3339
from streamer.messages import Event, EventState

# An event is told again when its score has risen by this much.
_STEP = 0.1


@dataclass(slots=True)
class _Lasting:
    id: str
    start_ns: int
    peak: float
    told: float


class EventBook:
    """Open events by label and person; `take` gives what is to be told since the last time."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._epoch = ""
        self._serial = 0
        self._wall_offset_ns = 0
        self._open: dict[tuple[str, int], _Lasting] = {}
        self._told: list[Event] = []

    def begin(self, epoch: str) -> None:
        """A new epoch; everything of the one before is closed."""
        self._epoch, self._serial = epoch, 0

    def at(self, wall_offset_ns: int) -> None:
        """What is added to media time from now on to give wall time."""
        self._wall_offset_ns = wall_offset_ns

    def last(self, label: str, track: int, start_ns: int, score: float) -> None:
        """`label` of this person lasts, since `start_ns` where it did not last before."""
        lasting = self._open.get((label, track))
        if lasting is None:
            # A letter, where events of other labels have the number of a segment: no two ids are the same.
            lasting = self._open[label, track] = _Lasting(f"{self._epoch}-p{self._serial}", start_ns, score, score)
            self._serial += 1
            self._tell(label, lasting, "open", None)
        lasting.peak = max(lasting.peak, score)
        if score >= lasting.told + _STEP:
            lasting.told = score
            self._tell(label, lasting, "update", None)

    def close(self, label: str, track: int, end_ns: int) -> None:
        """It is over since `end_ns`, where it lasted."""
        lasting = self._open.pop((label, track), None)
        if lasting is not None:
            self._tell(label, lasting, "close", max(end_ns, lasting.start_ns))

    def close_all_of(self, track: int, end_ns: int) -> None:
        """Whatever lasts of this person is over since `end_ns`."""
        for label in [label for label, of in self._open if of == track]:
            self.close(label, track, end_ns)

    def moment(self, label: str, track: int, at_ns: int, score: float) -> None:
        """Something that happened and took no time."""
        self.last(label, track, at_ns, score)
        self.close(label, track, at_ns)

    def take(self) -> list[Event]:
        """What is to be told, in its order."""
        told, self._told = self._told, []
        return told

    def _tell(self, label: str, lasting: _Lasting, state: EventState, end_ns: int | None) -> None:
        self._told.append(
            Event(
                stream=self._stream,
                id=lasting.id,
                label=label,
                state=state,
                start=rfc3339(lasting.start_ns + self._wall_offset_ns),
                end=None if end_ns is None else rfc3339(end_ns + self._wall_offset_ns),
                score=round(lasting.peak, 4),
            )
        )
