"""The states of one source as a table, and the clockwork that moves through it. Pure: time and chance are arguments.

Whoever drives it says what happened (`media`, `lost`, `refused`, `finished`) and asks at `next_ns` what to do (`tick`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from streamer.media import SourceState, StateChange

_MS = 1_000_000
# What a packet leaves of the longest pause.
_KEPT_A_PACKET = 63 / 64
_S = 1_000_000_000


class Signal(Enum):
    """What can happen to a source."""

    MEDIA = auto()  # a packet arrived
    SILENT = auto()  # nothing has arrived for `stall_ns`
    LOST = auto()  # the connection ended or never came to be; a new one may heal it
    REFUSED = auto()  # the connection was refused in a way that trying again will not heal
    FINISHED = auto()  # the media ended as they should


TRANSITIONS: dict[tuple[SourceState, Signal], SourceState] = {
    ("connecting", Signal.MEDIA): "live",
    ("connecting", Signal.LOST): "reconnecting",
    ("connecting", Signal.REFUSED): "failed",
    ("connecting", Signal.FINISHED): "ended",
    ("live", Signal.MEDIA): "live",
    ("live", Signal.SILENT): "stalled",
    ("live", Signal.LOST): "reconnecting",
    ("live", Signal.REFUSED): "failed",
    ("live", Signal.FINISHED): "ended",
    ("stalled", Signal.MEDIA): "live",
    ("stalled", Signal.SILENT): "stalled",
    ("stalled", Signal.LOST): "reconnecting",
    ("stalled", Signal.REFUSED): "failed",
    ("stalled", Signal.FINISHED): "ended",
    ("reconnecting", Signal.MEDIA): "live",
    ("reconnecting", Signal.LOST): "reconnecting",
    ("reconnecting", Signal.REFUSED): "failed",
    ("reconnecting", Signal.FINISHED): "ended",
    ("failed", Signal.MEDIA): "live",
    ("failed", Signal.LOST): "reconnecting",
    ("failed", Signal.REFUSED): "failed",
    ("failed", Signal.FINISHED): "ended",
}


class Action(Enum):
    """What the driver must do now."""

    CONNECT = auto()
    ABANDON = auto()  # give up the connection (attempt) that is open


@dataclass(frozen=True, slots=True)
class Policy:
    """The patience of a source, all in nanoseconds.

    A stall is told from the silence a slow camera always keeps: see `Machine.media`. `forgive_ns`: how long after it
    was last healthy a source goes on reconnecting through refusals, because a camera that starts up may know neither
    its users nor its paths yet. `publisher_silence_ns`: a publisher may pause for longer than a camera, as long as it
    is there.
    """

    connect_timeout_ns: int = 10 * _S
    stall_ns: int = 1500 * _MS
    silence_ns: int = 5 * _S
    backoff_ns: int = 250 * _MS
    backoff_cap_ns: int = 1 * _S
    healthy_after_ns: int = 5 * _S
    forgive_ns: int = 30 * _S
    failed_retry_ns: int = 30 * _S
    publisher_silence_ns: int = 30 * _S


# When a source that waits to be called has to be looked at, even if nothing happens.
_NEVER_NS = 1 << 62


class Machine:
    """One source's state.

    Args:
        chance: a number in [0, 1), drawn anew for every retry.
        awaits: it makes no attempts of its own: somebody connects to it, and says so by `opened`.
    """

    def __init__(self, policy: Policy, now_ns: int, chance: Callable[[], float], *, awaits: bool = False) -> None:
        self._policy = policy
        self._chance = chance
        self.state: SourceState = "connecting"
        self._awaits = self._is_idle = awaits
        self.reason: str | None = "waits for a publisher" if awaits else None
        self._attempt_ns: int | None = (
            None if awaits else now_ns
        )  # when to connect; None while a connection (attempt) is open
        self._opened_ns = now_ns
        self._backoff_ns = policy.backoff_ns
        self._live_since_ns: int | None = None
        self._healthy_ns: int | None = None  # when media last arrived
        self._gap_ns = 0  # the longest usual pause between media, slowly forgotten

    @property
    def stall_ns(self) -> int:
        """The silence that is a stall: the policy's, or three usual pauses of a camera slower than that."""
        return max(self._policy.stall_ns, min(3 * self._gap_ns, self._policy.silence_ns))

    @property
    def silence_ns(self) -> int:
        """The silence that ends a connection; always longer than a stall."""
        patience_ns = self._policy.publisher_silence_ns if self._awaits else self._policy.silence_ns
        return max(patience_ns, 2 * self.stall_ns)

    @property
    def next_ns(self) -> int | None:
        """When `tick` is due even if nothing happens; None: never."""
        if self.state == "ended":
            return None
        if self._is_idle:
            return _NEVER_NS
        if self._attempt_ns is not None:
            return self._attempt_ns
        if self.state == "live":
            return self._newest_ns + self.stall_ns
        if self.state == "stalled":
            return self._newest_ns + self.silence_ns
        return self._opened_ns + self._policy.connect_timeout_ns

    @property
    def _newest_ns(self) -> int:
        return self._opened_ns if self._healthy_ns is None else max(self._opened_ns, self._healthy_ns)

    def start(self, now_ns: int) -> StateChange:
        """The first state, to be announced."""
        return StateChange(self.state, self.reason, now_ns)

    def opened(self, now_ns: int) -> None:
        """Somebody begins to connect to a source that waits for it."""
        self._is_idle = False
        self._opened_ns = now_ns

    def heard(self, now_ns: int) -> None:
        """A packet arrived that gave no media yet: the connection works, its media are waited for afresh."""
        self._opened_ns = now_ns

    def media(self, now_ns: int, packets: int = 1) -> StateChange | None:
        """Packets arrived, told of together."""
        if self._healthy_ns is not None and self.state in ("live", "stalled"):
            gap_ns = now_ns - self._healthy_ns
            self._gap_ns = max(gap_ns, int(self._gap_ns * _KEPT_A_PACKET**packets))
        self._healthy_ns = now_ns
        if self.state == "live":
            if self._live_since_ns is not None and now_ns - self._live_since_ns >= self._policy.healthy_after_ns:
                self._backoff_ns = self._policy.backoff_ns
            return None
        if self.state != "stalled":
            self._live_since_ns = now_ns
        return self._move(Signal.MEDIA, None, now_ns)

    def lost(self, now_ns: int, reason: str) -> StateChange | None:
        """The connection (attempt) ended; another follows after a pause of 0.25 s to 1 s."""
        return self._retry(Signal.LOST, reason, now_ns, self._next_backoff_ns())

    def refused(self, now_ns: int, reason: str) -> StateChange | None:
        """The connection was refused for good: fails, and still tries again, slowly."""
        if self._healthy_ns is not None and now_ns - self._healthy_ns < self._policy.forgive_ns:
            return self.lost(now_ns, reason)
        return self._retry(Signal.REFUSED, reason, now_ns, self._policy.failed_retry_ns)

    def finished(self, now_ns: int, reason: str | None = None) -> StateChange | None:
        """The media ended as they should; nothing follows."""
        self._attempt_ns = None
        return self._move(Signal.FINISHED, reason, now_ns)

    def tick(self, now_ns: int) -> tuple[StateChange | None, Action | None]:
        """What time alone brings about: a stall, a connection given up, a new attempt."""
        due_ns = self.next_ns
        if due_ns is None or now_ns < due_ns:
            return None, None
        if self._attempt_ns is not None:
            self._attempt_ns = None
            self._opened_ns = now_ns
            return None, Action.CONNECT
        if self.state == "live":
            return self._move(Signal.SILENT, f"no media for {self.stall_ns / _S:.1f} s", now_ns), None
        if self.state == "stalled":
            return self.lost(now_ns, f"no media for {self.silence_ns / _S:.1f} s"), Action.ABANDON
        timeout_s = self._policy.connect_timeout_ns / _S
        return self.lost(now_ns, f"no media within {timeout_s:.0f} s of connecting"), Action.ABANDON

    def _next_backoff_ns(self) -> int:
        # Decorrelated jitter: each pause is drawn between the shortest and three times the one before, so that
        # cameras lost together do not come back together.
        policy = self._policy
        ceiling_ns = min(policy.backoff_cap_ns, 3 * self._backoff_ns)
        self._backoff_ns = policy.backoff_ns + int(self._chance() * (ceiling_ns - policy.backoff_ns))
        return self._backoff_ns

    def _retry(self, signal: Signal, reason: str, now_ns: int, pause_ns: int) -> StateChange | None:
        self._attempt_ns = None if self._awaits else now_ns + pause_ns
        self._is_idle = self._awaits
        self._live_since_ns = None
        self._gap_ns = 0
        return self._move(signal, reason, now_ns)

    def _move(self, signal: Signal, reason: str | None, now_ns: int) -> StateChange | None:
        state = TRANSITIONS[self.state, signal]
        if (state, reason) == (self.state, self.reason):
            return None
        self.state, self.reason = state, reason
        return StateChange(state, reason, now_ns)
