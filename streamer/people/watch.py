"""The people of one stream: what is told of them with each window. Pure: time comes with the windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.media import Scores, Sighting, Window
from streamer.messages import MIN_SCORE, Event, Label, People, Person, Share
from streamer.people.book import EventBook
from streamer.people.places import Passing, Whereabouts
from streamer.people.posture import Stance
from streamer.people.track import Seen, Track, Tracker, presence_of
from streamer.peopleconfig import LABELS, LineConfig, ZoneConfig

PERSON = "Person"
FALL = "Fall"
# How long what was seen last is taken to be so still while nobody looks, for want of time or of pictures.
_STALE_NS = 3_000_000_000
_STALLED_NS = 2_000_000_000
# Somebody who is not seen for a moment is counted on for so long: they may be behind something, or have left.
_COUNTED_NS = 1_000_000_000
# What happens in a moment is a label for so long, so that no segment lost hides it from a rule.
_MOMENT_NS = 1_000_000_000
# In a crowd, and through cuts, nobody is seen twice: somebody is there where so many looks of a window say so.
_LOOKS_AGREE = 2
# From here on a probability is told as somebody.
_LIKELY = 0.5
_FALL_OPENS = 0.5
_FALL_CLOSES = 0.3


@dataclass(frozen=True, slots=True)
class PeopleSettings:
    """What the configuration says of one stream's people. tells: how many, where and how they stand, or the `count`
    alone; zones and lines are asked for by name, and told either way."""

    tells: Literal["presence", "count"] = "presence"
    zones: Mapping[str, ZoneConfig] = field(default_factory=dict)
    lines: Mapping[str, LineConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a window says of people. `people` None: they could not be looked for, or nobody has looked yet."""

    people: People | None = None
    labels: list[Label] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def label_names(settings: PeopleSettings) -> list[str]:
    """The names that labels can have with these settings."""
    of_zones = [f"{what}@{name}" for name in settings.zones for what in (PERSON, "Enter", "Leave", "Dwell")]
    of_lines = [f"{what}@{name}" for name in settings.lines for what in ("Enter", "Leave")]
    return [*LABELS, *of_zones, *of_lines]


class FallJudge(Protocol):
    """Watches one person."""

    def update(self, media_ns: int, aspect: float, box: NDArray[np.float32], points: NDArray[np.float32]) -> float:
        """The probability, in [0, 1], that this person has fallen by `media_ns` and not got up since; called for each
        sighting of them in order. `box`, `points`: of theirs, as in a `Sighting`."""
        ...


@dataclass(slots=True)
class _Followed:
    """What is known of one person beside where they are."""

    track: Track
    whereabouts: Whereabouts
    stance: Stance
    judge: FallJudge | None
    fall: float = 0.0


class PeopleWatch:
    """One stream's people, epoch after epoch; windows come in order.

    Args:
        falls: makes a judge for each person that is followed; None: nobody says who has fallen.
    """

    def __init__(self, stream: str, settings: PeopleSettings, falls: Callable[[], FallJudge] | None = None) -> None:
        self._settings = settings
        self._falls = falls if settings.tells == "presence" else None
        self._book = EventBook(stream)
        self._begin("")

    def _begin(self, epoch: str) -> None:
        self._epoch = epoch
        self._book.begin(epoch)
        self._tracker = Tracker()
        self._last_index = -1
        self._known_ns: int | None = None
        self._forget()

    def _forget(self) -> None:
        """Nobody has looked yet, or too long ago."""
        self._looked = False
        self._first_look_ns: int | None = None
        self._followed: dict[int, _Followed] = {}
        self._moments: dict[str, tuple[int, float]] = {}

    def update(self, window: Window, scores: Scores) -> Findings:
        """What the answered `window` says; sightings that an earlier window brought count once."""
        self._turn_to(window)
        seen_now = False
        for sighting in sorted(scores.sightings, key=lambda sighting: sighting.index):
            if sighting.index > self._last_index:
                self._see(sighting, window)
                seen_now = True
        if window.pictures and "people" not in window.degraded:
            self._stand_still_until(max(picture.media_ns for picture in window.pictures), window)
        elif not seen_now:
            self._blind(window, _STALE_NS)
        self._dwell()
        return self._findings(window, scores.sightings)

    def nothing_there(self, window: Window) -> Findings:
        """`window` held no media at all: nobody is known to be there."""
        self._turn_to(window)
        self._blind(window, _STALLED_NS)
        return Findings(events=self._book.take())

    def finish(self) -> list[Event]:
        """The epoch has ended: what lasts ends with the last window seen."""
        self._lose_all()
        events = self._book.take()
        self._begin("")
        return events

    def _turn_to(self, window: Window) -> None:
        if window.epoch != self._epoch:
            self._lose_all()
            self._begin(window.epoch)
        self._book.at(window.wall_offset_ns)

    # -- what was seen ---------------------------------------------------------------------------------------------

    def _see(self, sighting: Sighting, window: Window) -> None:
        self._last_index = sighting.index
        self._known_ns = max(sighting.media_ns, self._known_ns or sighting.media_ns)
        if not self._looked:
            self._looked, self._first_look_ns = True, sighting.media_ns
        self._end(self._tracker.see(sighting), window)
        for track in self._tracker.people:
            self._follow(track, window)

    def _follow(self, track: Track, window: Window) -> None:
        person = self._followed.get(track.number)
        if person is None:
            whereabouts = Whereabouts(self._settings.zones, self._settings.lines)
            judge = self._falls() if self._falls is not None else None
            person = self._followed[track.number] = _Followed(track, whereabouts, Stance(), judge)
        for seen in track.read():
            self._take(person, seen, window)
        self._book.last(PERSON, track.number, track.first_ns, track.presence)

    def _take(self, person: _Followed, seen: Seen, window: Window) -> None:
        passed = person.whereabouts.step(seen)
        # Who stood there when the first look was taken did not come in.
        first = seen.media_ns == self._first_look_ns
        self._pass([] if first else passed, person.track, window)
        for name, since_ns in person.whereabouts.inside.items():
            self._book.last(f"{PERSON}@{name}", person.track.number, since_ns, person.track.presence)
        for passing in passed:
            if passing.way == "Leave":
                self._close_stay(passing.place, person.track.number, passing.at_ns)
        person.stance.update(seen)
        if person.judge is not None:
            person.fall = person.judge.update(seen.media_ns, seen.aspect, seen.box, seen.points)
            if person.fall >= _FALL_OPENS:
                self._book.last(FALL, person.track.number, seen.media_ns, person.fall)
            elif person.fall < _FALL_CLOSES:
                self._book.close(FALL, person.track.number, seen.media_ns)

    def _pass(self, passed: list[Passing], track: Track, window: Window) -> None:
        for passing in passed:
            label, score = f"{passing.way}@{passing.place}", track.presence
            self._book.moment(label, track.number, passing.at_ns, score)
            until_ns, before = self._moments.get(label, (0, 0.0))
            still = before if until_ns > window.end_ns else 0.0
            self._moments[label] = window.end_ns + _MOMENT_NS, max(score, still)

    def _close_stay(self, zone: str, number: int, end_ns: int) -> None:
        self._book.close(f"Dwell@{zone}", number, end_ns)
        self._book.close(f"{PERSON}@{zone}", number, end_ns)

    # -- time passes -----------------------------------------------------------------------------------------------

    def _stand_still_until(self, now_ns: int, window: Window) -> None:
        """Pictures were there until `now_ns`, and those without a look are as the ones before them."""
        if not self._looked:
            return
        self._known_ns = max(now_ns, self._known_ns or now_ns)
        self._end(self._tracker.pass_to(self._known_ns), window)

    def _dwell(self) -> None:
        for person in self._followed.values():
            track = person.track
            for name, since_ns in person.whereabouts.dwells(track.last_ns):
                self._book.last(f"Dwell@{name}", track.number, since_ns, track.presence)

    def _blind(self, window: Window, patience_ns: int) -> None:
        if self._known_ns is not None and window.end_ns - self._known_ns > patience_ns:
            self._lose_all()
            self._forget()

    def _end(self, tracks: list[Track], window: Window) -> None:
        """These people are not in the picture any more."""
        for track in tracks:
            person = self._followed.pop(track.number)
            self._pass(person.whereabouts.over(track.last_ns), track, window)
            self._book.close_all_of(track.number, track.last_ns)

    def _lose_all(self) -> None:
        """It is not known any more who is there, so nobody has left."""
        for track in self._tracker.end():
            self._followed.pop(track.number)
            self._book.close_all_of(track.number, track.last_ns)

    # -- what is told ----------------------------------------------------------------------------------------------

    def _findings(self, window: Window, sightings: Sequence[Sighting]) -> Findings:
        events = self._book.take()
        if not self._looked:
            return Findings(events=events)
        counted = [person for person in self._followed.values() if self._counts(person.track)]
        labels = self._labels(window, sightings)
        count = len(counted)
        if not count and any(label.name == PERSON and label.score >= _LIKELY for label in labels):
            # A crowd, or who is there for a moment only: nobody can be followed, and somebody is there.
            count = max(1, _seen_at_once(sightings))
        told = People(count) if self._settings.tells == "count" else People(count, [_told(one) for one in counted])
        return Findings(told, labels, events)

    def _counts(self, track: Track) -> bool:
        assert self._known_ns is not None
        return track.missed_ns is None or self._known_ns - track.missed_ns < _COUNTED_NS

    def _labels(self, window: Window, sightings: Sequence[Sighting]) -> list[Label]:
        """Of each name the likeliest, by falling score."""
        scores: dict[str, float] = {}
        self._moments = {name: told for name, told in self._moments.items() if told[0] > window.end_ns}
        found = [(name, score) for name, (_, score) in self._moments.items()]
        found.append((PERSON, _anybody(sightings)))
        for person in self._followed.values():
            found += self._labels_of(person)
        for name, score in found:
            scores[name] = max(score, scores.get(name, 0.0))
        likely = sorted(((score, name) for name, score in scores.items() if score >= MIN_SCORE), reverse=True)
        return [Label(name, round(score, 4), Share(video=1.0, audio=0.0, text=0.0)) for score, name in likely]

    def _labels_of(self, person: _Followed) -> list[tuple[str, float]]:
        presence, stance = person.track.presence, person.stance.now
        found = [(PERSON, presence), (FALL, person.fall)]
        found += [(f"{PERSON}@{name}", presence) for name in person.whereabouts.inside]
        found += [(f"Dwell@{name}", presence) for name, _ in person.whereabouts.dwells(person.track.last_ns)]
        if stance is None or self._settings.tells == "count":
            return found
        return [*found, (stance[0].capitalize(), stance[1] * presence)]


def _anybody(sightings: Sequence[Sighting]) -> float:
    """The probability that there is somebody, whoever they are, by the likeliest detection of each of a window's
    looks; 0 where these are too few to agree."""
    best = sorted((float(sighting.scores.max()) for sighting in sightings if len(sighting.scores)), reverse=True)
    return presence_of(best[_LOOKS_AGREE - 1]) if len(best) >= _LOOKS_AGREE else 0.0


def _seen_at_once(sightings: Sequence[Sighting]) -> int:
    """How many are seen in the newest look in which anybody is likely."""
    likely = [sum(presence_of(float(score)) >= _LIKELY for score in sighting.scores) for sighting in sightings]
    return next((count for count in reversed(likely) if count), 0)


def _told(person: _Followed) -> Person:
    seen, stance = person.track.seen, person.stance.now
    left, top, right, bottom = (round(float(side), 4) for side in seen.box)
    return Person(
        track=person.track.number,
        score=round(person.track.presence, 4),
        box=(left, top, right, bottom),
        points=[(round(float(x), 4), round(float(y), 4), round(float(sure), 3)) for x, y, sure in seen.points],
        posture=None if stance is None else stance[0],
        zones=list(person.whereabouts.inside),
    )
