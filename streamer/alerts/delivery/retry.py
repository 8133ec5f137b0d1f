"""When a delivery that failed is tried again, and when it is given up (pure: time and luck are arguments).

After 1, 5 and 30 s, then after twice as long each time up to an hour, each pause up to a quarter longer or shorter by
luck so that what failed together does not come back together. A day after it began there is one last try.
"""

from __future__ import annotations

from streamer.clock import NS_PER_S

GIVEN_UP_NS = 24 * 3600 * NS_PER_S
"""How long after it began a delivery is tried."""
LONGEST_NS = 3600 * NS_PER_S
"""The longest pause, also where a receiver asks for a longer one."""
FRESH_NS = 30 * NS_PER_S
"""A delivery that was never tried need not wait longer than this for a receiver that fails."""

_FIRST_NS = (1 * NS_PER_S, 5 * NS_PER_S, 30 * NS_PER_S)
_SPREAD = 0.25
# So many failures in a row are an outage, and not one delivery that the receiver can't digest.
_OUTAGE = 3


def pause_ns(failures: int, luck: float) -> int:
    """The pause after the `failures`-th failure in a row (from 1). luck: in [0, 1)."""
    if failures <= len(_FIRST_NS):
        return _FIRST_NS[failures - 1]
    # Past the twelfth doubling it is longer than the longest anyway.
    doubled = _FIRST_NS[-1] << min(failures - len(_FIRST_NS), 12)
    return min(int(doubled * (1 + _SPREAD * (2 * luck - 1))), LONGEST_NS)


def asked_ns(after_s: float | None) -> int:
    """The pause that a receiver asked for, within bounds; 0 where it asked for none or for no number."""
    if after_s is None or not after_s > 0:
        return 0
    return int(min(after_s, LONGEST_NS / NS_PER_S) * NS_PER_S)


def next_try_ns(failures: int, begun_ns: int, now_ns: int, after_s: float | None, luck: float) -> int | None:
    """When a delivery begun at `begun_ns`, which failed now for the `failures`-th time, is tried again; None: never."""
    end_ns = begun_ns + GIVEN_UP_NS
    if now_ns >= end_ns:
        return None
    return min(now_ns + max(pause_ns(failures, luck), asked_ns(after_s)), end_ns)


class Health:
    """How a receiver does: whether its last try failed, and when it may be asked again.

    While it fails it is asked by one delivery at a time, after pauses that grow with its failures in a row whatever the
    delivery; one that was never tried asks again after 30 s at the latest, so that its recovery is seen soon where
    alerts go on. A pause that the receiver asked for binds all.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._failed_ns = 0
        self._resume_ns = 0
        self.asked_ns = 0
        """Until when the receiver asked to be left alone."""

    @property
    def failing(self) -> bool:
        """Whether its last try failed."""
        return self.failures > 0

    def failed(self, began_ns: int, now_ns: int, after_s: float | None, luck: float) -> None:
        """A try that began then failed now. Those that were under way together count as one."""
        if not self.failures or began_ns >= self._failed_ns:
            self.failures += 1
        self._failed_ns = now_ns
        self.asked_ns = max(self.asked_ns, now_ns + asked_ns(after_s))
        self._resume_ns = now_ns + pause_ns(self.failures, luck)

    def took(self) -> bool:
        """A try succeeded. Returns whether this ended an outage: then what failed in it may be tried again now."""
        ended = self.failures >= _OUTAGE
        self.failures = 0
        return ended

    def free_ns(self, fresh: bool) -> int:
        """When it may be asked next, by a delivery that was never tried (`fresh`) or by another."""
        if not self.failures:
            return 0
        resume_ns = min(self._resume_ns, self._failed_ns + FRESH_NS) if fresh else self._resume_ns
        return max(resume_ns, self.asked_ns)
