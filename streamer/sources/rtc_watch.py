"""What is measured of a publisher, and when it has to go. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.sources.axis import LeastDelay

_MS = 1_000_000
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a publisher may do.

    behind_ns, behind_for_ns: media that come so late, for so long, end the session. flood_size, flood_packets: the
    most a second, in bytes and packets, for `flood_for_ns` (480p30 with sound has 0.2 MB and 200). gone_ns: nothing
    came at all, neither media nor reports. ask_ns: the least time between two requests for a key frame.
    """

    behind_ns: int = 3 * _S
    behind_for_ns: int = 4 * _S
    flood_size: int = 4_000_000
    flood_packets: int = 4000
    flood_for_ns: int = 3 * _S
    gone_ns: int = 7 * _S
    ask_ns: int = 500 * _MS


class Watch:
    """One publisher, from its first packet on."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = Limits() if limits is None else limits
        self._delays = {"video": LeastDelay(60 * _S), "audio": LeastDelay(60 * _S)}
        self._lag_ns = {"video": 0, "audio": 0}
        self._heard_ns: int | None = None
        self._behind_since_ns: int | None = None
        self._flood_since_ns: int | None = None
        self._judged_ns: int | None = None
        self._size = self._packets = 0
        self.size_a_second = 0
        """Bytes a second, when it was last judged."""

    def heard(self, now_ns: int, size: int = 0) -> None:
        """A packet of media of `size` bytes came, or a report."""
        self._heard_ns = now_ns
        self._size += size
        self._packets += bool(size)

    def frame(self, kind: str, pts_ns: int, arrived_ns: int) -> None:
        """A whole frame came: its lag is how much later it came than the quickest of the last minute."""
        delay_ns = arrived_ns - pts_ns
        delays = self._delays[kind]
        delays.add(arrived_ns, delay_ns)
        least_ns = delays.least_ns(arrived_ns)
        self._lag_ns[kind] = 0 if least_ns is None else delay_ns - least_ns

    def moved(self, kind: str) -> None:
        """The track's time begins anew."""
        self._delays[kind] = LeastDelay(60 * _S)
        self._lag_ns[kind] = 0

    @property
    def lag_ns(self) -> int:
        """How late the newest frames came, on the way here."""
        return max(self._lag_ns.values())

    def verdict(self, now_ns: int, waits_ns: int) -> str | None:
        """Why the session has to end, None where it has not; to be asked about twice a second.

        Args:
            waits_ns: how long the oldest frame that was received has waited to be decoded.
        """
        self._measure(now_ns)
        limits = self._limits
        behind_ns = self.lag_ns + waits_ns
        self._behind_since_ns = _since(self._behind_since_ns, behind_ns > limits.behind_ns, now_ns)
        if self._heard_ns is not None and now_ns - self._heard_ns > limits.gone_ns:
            return "the publisher vanished: nothing came from it any more"
        if self._behind_since_ns is not None and now_ns - self._behind_since_ns >= limits.behind_for_ns:
            return f"the publisher was cut: its media came {behind_ns / _S:.1f} s late; its network is too slow"
        if self._flood_since_ns is not None and now_ns - self._flood_since_ns >= limits.flood_for_ns:
            return f"the publisher was cut: it sent {self.size_a_second / 1e6:.1f} MB a second; send less"
        return None

    def _measure(self, now_ns: int) -> None:
        if self._judged_ns is not None and now_ns > self._judged_ns:
            span_ns = now_ns - self._judged_ns
            self.size_a_second = self._size * _S // span_ns
            is_flood = (
                self.size_a_second > self._limits.flood_size
                or self._packets * _S // span_ns > self._limits.flood_packets
            )
            self._flood_since_ns = _since(self._flood_since_ns, is_flood, now_ns)
        self._judged_ns = now_ns
        self._size = self._packets = 0


def _since(since_ns: int | None, holds: bool, now_ns: int) -> int | None:
    return None if not holds else now_ns if since_ns is None else since_ns


class KeyFrameRequests:
    """When to ask for a key frame: wanted after a loss, and no oftener than the limits allow, until one came."""

    def __init__(self, apart_ns: int) -> None:
        self._apart_ns = apart_ns
        self._asked_ns: int | None = None
        self._is_wanted = False

    def want(self) -> None:
        """Pictures can't be decoded before the next key frame."""
        self._is_wanted = True

    def came(self) -> None:
        """A key frame arrived."""
        self._is_wanted = False

    def is_due(self, now_ns: int) -> bool:
        """Whether to ask now; counts as asked where it says so."""
        if not self._is_wanted or (self._asked_ns is not None and now_ns - self._asked_ns < self._apart_ns):
            return False
        self._asked_ns = now_ns
        return True
