"""What became of every segment: the books over a feed, kept message by message. Pure.

Within an epoch `seq` counts from 0 without a hole; the message that ends or begins an epoch names the last `seq` of the
one before. So whoever reads a feed from its beginning can tell whether a segment is missing, also the last one, and
whether one came twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# How long after a store's return what waited for it may still be written, and what is then written be late.
_GRACE_MS = 3_000


@dataclass(slots=True)
class Outage:
    """The store was away from `began_ms` to `ended_ms` (None: still is), on its own clock (Unix milliseconds)."""

    began_ms: int
    ended_ms: int | None = None

    def explains(self, written_ms: int) -> bool:
        """Whether a segment written then may have been late for want of the store."""
        return self.began_ms <= written_ms and (self.ended_ms is None or written_ms <= self.ended_ms + _GRACE_MS)


@dataclass(slots=True)
class _Place:
    """How far a stream has come: its epoch, the last `seq` in it, and whether the feed broke off since."""

    epoch: str | None = None
    seq: int = -1
    broken: bool = False


@dataclass(slots=True)
class Account:
    """The outcomes of all streams of a feed. `take` its messages in order.

    `missing`, `duplicate`, `late`: what must never be. `unexplained_late`: marked as delivered late though no outage
    was reported. `lost_at_breaks`, `again_at_breaks`: where the feed broke off because its store was killed, segments
    that went with it before they were read here, and those that were read but written again after it, because their
    acknowledgement was lost or the new store is to hold them too. Each segment counts once.

    Args:
        whole: the feed is read from its beginning; else a stream's first segment may be any.
    """

    whole: bool = True
    segments: int = 0
    epochs: int = 0
    late: int = 0
    missing: int = 0
    duplicate: int = 0
    delivered_late: int = 0
    unexplained_late: int = 0
    lost_at_breaks: int = 0
    again_at_breaks: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)
    outages: list[Outage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _places: dict[str, _Place] = field(default_factory=dict)

    def take(self, message: Mapping[str, Any], written_ms: int | None = None) -> None:
        """The next message; `written_ms` is the store's time when it was written (None: unknown, explains all)."""
        if message["type"] == "segment":
            self._segment(message, written_ms)
        elif message["type"] == "stream":
            self._turn(message)

    def break_off(self) -> None:
        """The feed's store was emptied, or a gap was told: what had not been read is gone."""
        for place in self._places.values():
            place.broken = True

    def _segment(self, message: Mapping[str, Any], written_ms: int | None) -> None:
        place = self._place(message["stream"])
        epoch, seq = message["epoch"], message["seq"]
        if epoch != place.epoch:
            first = place.epoch is None and not self.whole
            self._begin(place, epoch, seq if first else 0)
        if seq <= place.seq:
            self._again(place, message)
            return
        self._skipped(place, seq - place.seq - 1, message)
        place.seq, place.broken = seq, False
        self.segments += 1
        self.statuses[message["status"]] += 1
        if message["status"] == "shed":
            self.shed[str(message["reason"])] += 1
        self._timing(message, written_ms)

    def _timing(self, message: Mapping[str, Any], written_ms: int | None) -> None:
        if message["delivered_late"]:
            self.delivered_late += 1
            if written_ms is not None and not any(outage.explains(written_ms) for outage in self.outages):
                self.unexplained_late += 1
                self._note(f"delivered late without an outage: {_named(message)}, {message['latency_ms']}")
        elif message["latency_ms"]["total"] > message["bound_ms"]:
            self.late += 1
            self._note(f"late: {_named(message)}, {message['latency_ms']}")

    def _turn(self, message: Mapping[str, Any]) -> None:
        place = self._place(message["stream"])
        before = message.get("previous")
        if before is not None and before["epoch"] == place.epoch:
            self._skipped(place, before["last_seq"] - place.seq, message)
            place.seq = max(place.seq, before["last_seq"])
        epoch = message.get("epoch")
        if epoch is not None and epoch != place.epoch:
            self._begin(place, epoch, 0)

    def _begin(self, place: _Place, epoch: str, seq: int) -> None:
        place.epoch, place.seq = epoch, seq - 1
        self.epochs += 1

    def _again(self, place: _Place, message: Mapping[str, Any]) -> None:
        if place.broken:
            self.again_at_breaks += 1
            return
        self.duplicate += 1
        self._note(f"again: {_named(message)}, after seq {place.seq}")

    def _skipped(self, place: _Place, count: int, message: Mapping[str, Any]) -> None:
        if count <= 0:
            return
        if place.broken:
            self.lost_at_breaks += count
            return
        self.missing += count
        self._note(f"missing: {count} after seq {place.seq} of epoch {place.epoch}, before {_named(message)}")

    def _place(self, stream: str) -> _Place:
        return self._places.setdefault(stream, _Place())

    def _note(self, text: str) -> None:
        # The first ones tell what is wrong; thousands more would tell nothing.
        if len(self.faults) < 20:
            self.faults.append(text)


def _named(message: Mapping[str, Any]) -> str:
    what = f"seq {message['seq']}" if message["type"] == "segment" else str(message.get("state"))
    return f"{message['stream']} epoch {message.get('epoch')} {what}"
