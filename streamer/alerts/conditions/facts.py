"""What one evaluation of a rule sees of one stream, at one media time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamer.messages import CoverageBody, Label, Segment
from streamer.peopleconfig import is_of_people
from streamer.spoken import between_separators, plain_words

NOTHING = CoverageBody(0.0, 0.0, 0.0)


@dataclass(slots=True)
class Facts:
    """One segment, or (by the defaults) a stream of which there is none at this time. Built once a message, read by
    every rule, never changed.

    group: "" where the stream has none. status: the segment's, "" where there is none. reason: the segment's, or what
    the stream's state has for one. start_ns, at_ns: begin and end of the segment's window, nanoseconds since 1970.
    labels: by name. people: how many, 0 where nobody counts them. looked: somebody looked at this window; where False,
    labels and people are not known, which is not the same as absent. blind: people are looked for in this stream, and
    were not in this window, for want of time: they and their labels are not known.
    """

    stream: str
    at_ns: int
    group: str = ""
    state: str = ""
    status: str = ""
    reason: str = ""
    coverage: CoverageBody = NOTHING
    words: Sequence[str] = ()
    people: int = 0
    labels: Mapping[str, Label] = field(default_factory=dict)
    start_ns: int = 0
    looked: bool = False
    blind: bool = False
    _spoken: str | None = None

    @classmethod
    def of(cls, segment: Segment, group: str | None, state: str, start_ns: int, at_ns: int) -> Facts:
        """What `segment` says; its `start` and `end` as numbers are given, because its reader has them already.

        Nobody looked at a window that was shed, nor at one of which no modality was there.
        """
        coverage = segment.coverage
        return cls(
            stream=segment.stream,
            at_ns=at_ns,
            group=group or "",
            state=state,
            status=segment.status,
            reason=segment.reason or "",
            coverage=coverage,
            words=segment.speech.words if segment.speech is not None else (),
            people=segment.people.count if segment.people is not None else 0,
            labels={label.name: label for label in segment.labels},
            start_ns=start_ns,
            blind=segment.people is None and "people" in segment.degraded,
            looked=segment.status != "shed" and (coverage.video > 0 or coverage.audio > 0 or coverage.text > 0),
        )

    def knows(self, label: str) -> bool:
        """Whether a label of this name was looked for in this window."""
        return self.looked and not (self.blind and is_of_people(label))

    def spoken(self) -> str:
        """The words as `plain_words` has them, each between two unit separators; "" where there are none."""
        if self._spoken is None:
            self._spoken = between_separators(plain_words(self.words))
        return self._spoken
