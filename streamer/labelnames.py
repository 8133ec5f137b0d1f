"""The names that labels can have, without loading a model: what a configuration's rules are checked against."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from models import checkpoint as checkpoints
from models import tags
from streamer.config import StreamConfig
from streamer.errors import UserError
from streamer.peopleconfig import label_names as people_names


def label_names(streams: Iterable[StreamConfig] = (), model: str = checkpoints.TAGS) -> list[str]:
    """Names of the labels of the checkpoint that is served, and of what is told of people, with the zones and lines of
    `streams`. Takes milliseconds and no torch: the header says them, and for `tags` the table that it is made of.

    Raises:
        UserError: there is no such checkpoint, or it tells no labels.
    """
    return list(dict.fromkeys([*_served(model), *people_labels(streams)]))


def _served(model: str) -> tuple[str, ...]:
    if model == checkpoints.TAGS:
        return _tags()
    try:
        checkpoint = checkpoints.read(checkpoints.find(model))
        checkpoints.tells_labels(checkpoint)
    except checkpoints.CheckpointError as error:
        raise UserError(f"model: {error}") from None
    return tuple(label.name for label in checkpoint.labels)


@cache
def _tags() -> tuple[str, ...]:
    return tuple(label.name for label in tags.labels())


def people_labels(streams: Iterable[StreamConfig]) -> list[str]:
    """What is told of people: whatever the stream, then of each zone and line of `streams`."""
    found = dict.fromkeys(people_names((), ()))
    for stream in streams:
        found |= dict.fromkeys(people_names(stream.zones, stream.lines))
    return list(found)
