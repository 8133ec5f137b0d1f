"""A recipe that learns from a few sounds in seconds, for tests of the commands."""

from __future__ import annotations

_RECIPE = """
name = "few"

[data]
validation = 0.25

[audio]
encoder = "speech"

[fusion]
kind = "concat"
width = 16
heads = 2
{more}
[train]
epochs = {epochs}
batch = 4
"""


def recipe(epochs: int, more: str = "") -> str:
    """As TOML, with other tables in `more`."""
    return _RECIPE.format(epochs=epochs, more=more)
