"""Which streams anybody wants pictures of, and what pictures an alert has. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from streamer.alertconfig import AlertConfig

SNAPSHOT = "snapshot.jpg"
CLIP = "clip.mp4"
MAX_CLIP_NS = 15_000_000_000
"""The longest clip: half of it comes after the alert, and all of it must still be in the ring then."""


def asks(rules: Iterable[AlertConfig], stream: str) -> bool:
    """Whether any of `rules` wants pictures of `stream`: only then are its last seconds kept."""
    return any(names(rule) for rule in rules if fnmatchcase(stream, rule.stream))


def names(rule: AlertConfig) -> list[str]:
    """The names of the pictures that an alert of `rule` is to have."""
    return [name for name, on in ((SNAPSHOT, rule.snapshot), (CLIP, rule.clip_ns > 0)) if on]


def links(rule: AlertConfig, alert: str, page_url: str | None) -> list[str]:
    """Where the pictures of an alert of `rule` can be had, once they are made; by path alone without `page_url`."""
    page = (page_url or "").rstrip("/")
    return [f"{page}/v1/alerts/{alert}/pictures/{name}" for name in names(rule)]
