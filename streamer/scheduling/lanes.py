"""What waits for compute, in a lane a stream: what each window would cost now, and whose turn it is. Pure.

Turns are taken by virtual time (start-time fair queueing, Goyal, Vin and Cheng 1996): the stream that has had the least
for its weight comes first, so that none starves.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streamer.media import Window, WorkCosts
from streamer.scheduling.easing import Encoded, Offer
from streamer.scheduling.ladder import Ladder

# By how many answers for its weight a stream may have had less than the others when it comes back.
_CREDIT = 5.0
# The part of its time that a window should have left when it is answered.
_MARGIN_PART = 10


@dataclass(slots=True, eq=False)
class Lane:
    """One stream: what waits of it in order, what of it was encoded, and what it has had for its weight."""

    name: str
    level: int
    had: float
    encoded: Encoded = field(default_factory=Encoded)
    waiting: list[Item] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Item:
    """A window without an outcome. `cost_ns`: what is new in it by the model, if those of its stream before it are
    computed first (save those that were `skipped`: it was too late for them when they were last looked at). `alone`: it
    is to be computed by itself."""

    window: Window
    lane: Lane
    margin_ns: int
    order: int = 0
    cost_ns: int = 0
    alone: bool = False
    skipped: bool = False
    chosen: bool = False
    is_open: bool = True


class Lanes:
    """All that waits. Costs are kept up to date as windows come, are taken and are given up, so that whoever looks
    through all of them has nothing to reckon."""

    def __init__(self, costs: WorkCosts, ladder: Ladder) -> None:
        self._costs = costs
        self._ladder = ladder
        self._lanes: dict[str, Lane] = {}
        # By deadline, then by arrival.
        self._ordered: list[tuple[int, int, Item]] = []
        self._arrivals = 0
        self._ladder_moves = 0
        self._virtual = 0.0

    def __len__(self) -> int:
        return len(self._ordered)

    def __iter__(self) -> Iterator[Item]:
        """By deadline. Not to be changed meanwhile, but for `skip`."""
        for _, _, item in self._ordered:
            yield item

    def __reversed__(self) -> Iterator[Item]:
        for _, _, item in reversed(self._ordered):
            yield item

    @property
    def earliest_ns(self) -> int | None:
        """The earliest deadline; None where nothing waits."""
        return self._ordered[0][0] if self._ordered else None

    def add(self, window: Window) -> None:
        """A window to wait in its stream's lane."""
        name = window.stream
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self._ladder.level(name), self._virtual)
        lane.had = max(lane.had, self._virtual - _CREDIT / self._ladder.weight(name))
        self.put(Item(window, lane, (window.deadline_ns - window.closed_ns) // _MARGIN_PART))

    def put(self, item: Item) -> None:
        """`item` waits (again)."""
        item.order = self._arrivals
        item.chosen = False
        self._arrivals += 1
        insort(self._ordered, (item.window.deadline_ns, item.order, item))
        insort(item.lane.waiting, item, key=lambda other: other.window.deadline_ns)
        self._reckon(item.lane)

    def _reckon(self, lane: Lane) -> None:
        """What its windows cost now, one after the other."""
        encoded = lane.encoded if len(lane.waiting) == 1 else lane.encoded.copy()
        for item in lane.waiting:
            offer = encoded.offer(item.window, lane.level)
            item.cost_ns = self._costs.of(offer.work) - self._costs.call_ns
            if not item.skipped and len(lane.waiting) > 1:
                encoded.add(offer.window)

    def follow_ladder(self) -> None:
        """Bring the costs to where the ladder stands."""
        if self._ladder.moves == self._ladder_moves:
            return
        self._ladder_moves = self._ladder.moves
        levels = self._ladder.levels
        for lane in self._lanes.values():
            level = levels.get(lane.name, 0)
            if level != lane.level:
                lane.level = level
                self._reckon(lane)

    # -- turns ---------------------------------------------------------------------------------------------------------

    def in_turn(self) -> Iterator[Item]:
        """What waits, as streams take turns by what they have had for their weight, each its earliest first. Whoever
        asks says of each, before the next, whether it was `chosen` or is to `skip`."""
        turns = [(lane.had, lane.waiting[0].order, 0, lane) for lane in self._lanes.values() if lane.waiting]
        heapq.heapify(turns)
        while turns:
            had, _, place, lane = heapq.heappop(turns)
            item = lane.waiting[place]
            yield item
            if item.chosen:
                had += 1.0 / self._ladder.weight(lane.name)
            # A window never overtakes an earlier one of its stream that can still make it.
            if place + 1 < len(lane.waiting) and (item.chosen or item.skipped):
                heapq.heappush(turns, (had, lane.waiting[place + 1].order, place + 1, lane))

    def skip(self, item: Item) -> None:
        """It can't make it by itself: what its stream has after it must be encoded without it."""
        if not item.skipped:
            item.skipped = True
            if len(item.lane.waiting) > 1:
                self._reckon(item.lane)

    def charge(self, items: Iterable[Item]) -> None:
        """Their streams have had so much more."""
        for item in items:
            lane = item.lane
            self._virtual = max(self._virtual, lane.had)
            lane.had += 1.0 / self._ladder.weight(lane.name)

    def refund(self, items: Iterable[Item]) -> None:
        """Their streams were charged for these, and had nothing of it: they come first again."""
        for item in items:
            item.lane.had -= 1.0 / self._ladder.weight(item.lane.name)

    # -- out of it -----------------------------------------------------------------------------------------------------

    def take(self, items: list[Item]) -> list[Offer]:
        """They are computed together now: what of each."""
        offers = []
        for item in items:
            lane = item.lane
            lane.encoded.forget_before(lane.waiting[0].window)
            lane.waiting.remove(item)
            offers.append(lane.encoded.offer(item.window, lane.level))
            lane.encoded.add(offers[-1].window)
        taken = set(map(id, items))
        self._ordered = [waiting for waiting in self._ordered if id(waiting[2]) not in taken]
        for lane in {item.lane for item in items}:
            self._reckon(lane)
        return offers

    def lose(self, items: Iterable[Item]) -> None:
        """Nobody knows what was encoded of their streams."""
        for lane in {item.lane for item in items}:
            lane.encoded = Encoded()
            self._reckon(lane)

    def expired(self, over_ns: int) -> list[Item]:
        """Those with a deadline up to `over_ns`."""
        found = []
        for deadline_ns, _, item in self._ordered:
            if deadline_ns > over_ns:
                break
            found.append(item)
        return found

    def clear(self, items: Iterable[Item]) -> None:
        """Those of `items` that waited do so no more: they have their outcome."""
        self._ordered = [waiting for waiting in self._ordered if waiting[2].is_open]
        for lane in {item.lane for item in items}:
            lane.waiting = [item for item in lane.waiting if item.is_open]
            self._reckon(lane)

    def remove(self, stream: str) -> Lane | None:
        """Forget what is known of `stream`; its windows are to be cleared by whoever calls."""
        return self._lanes.pop(stream, None)
