"""What the service and its reader processes say to each other, over a pair of connected sockets between them alone."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.footage import Footage
from streamer.media import Effort, SourceEvent, SourceStats
from streamer.sources.assembly import Target
from streamer.sources.faults import Fault
from streamer.sources.inputs import Opener
from streamer.sources.sdp_fragment import Trickle


@dataclass(frozen=True, slots=True)
class Begin:
    """To a worker: read this. `number` names the reader from then on."""

    number: int
    name: str
    opener: Opener
    target: Target
    effort: Effort
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """To a worker: this reader is not wanted any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Ease:
    """To a worker: decode that many pictures of this reader's from now on."""

    number: int
    effort: Effort


@dataclass(frozen=True, slots=True)
class Tell:
    """To a worker: pass this on to whoever sends what this reader reads."""

    number: int
    trickle: Trickle


@dataclass(frozen=True, slots=True)
class Keep:
    """To a worker: whether to keep the last seconds of this reader's pictures."""

    number: int
    on: bool


@dataclass(frozen=True, slots=True)
class Recall:
    """To a worker: send what is kept of this reader's pictures from `begin_ns` to `end_ns`, wall time. `request` comes
    back with them."""

    number: int
    request: int
    begin_ns: int
    end_ns: int


Order = Begin | End | Ease | Tell | Keep | Recall


@dataclass(frozen=True, slots=True)
class Brought:
    """From a worker: packets came, and what they brought (nothing, perhaps); `stats` are the reader's own so far."""

    number: int
    events: list[SourceEvent]
    stats: SourceStats


@dataclass(frozen=True, slots=True)
class Answered:
    """From a worker: whoever sends what this reader reads is to be answered so."""

    number: int
    answer: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """From a worker: a part of what was asked for, or None: nothing is kept, or that was all of it."""

    number: int
    request: int
    part: Footage | None


@dataclass(frozen=True, slots=True)
class Over:
    """From a worker: the reader has read its last packet; `fault` says why, None: the media ended."""

    number: int
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Gone:
    """From a worker: the reader has freed everything."""

    number: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """From a worker, ten times a second: which readers are at work on a packet, and the CPU time of the process."""

    busy: frozenset[int]
    cpu_s: float


Word = Answered | Brought | Recalled | Over | Gone | Pulse
