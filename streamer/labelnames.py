"""The names that labels can have, without loading a model: what a configuration's rules are checked against."""

from __future__ import annotations

from models import tags


def label_names() -> list[str]:
    """Names of the labels of the checkpoint that is served, from the table it is made of (milliseconds, no torch)."""
    return [label.name for label in tags.labels()]
