"""The names that labels can have, without loading a model: what a configuration's rules are checked against."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from models import tags
from streamer.config import StreamConfig
from streamer.peopleconfig import label_names as people_names


def label_names(streams: Iterable[StreamConfig] = ()) -> list[str]:
    """Names of the labels of the checkpoint that is served, from the table it is made of (milliseconds, no torch), and
    of what is told of people, with the zones and lines of `streams`."""
    return list(dict.fromkeys([*_served(), *people_labels(streams)]))


@cache
def _served() -> tuple[str, ...]:
    return tuple(label.name for label in tags.labels())


def people_labels(streams: Iterable[StreamConfig]) -> list[str]:
    """What is told of people: whatever the stream, then of each zone and line of `streams`."""
    found = dict.fromkeys(people_names((), ()))
    for stream in streams:
        found |= dict.fromkeys(people_names(stream.zones, stream.lines))
    return list(found)
