"""The commands of the learning side, registered by name alone: each is imported when it is called, torch with it."""

from __future__ import annotations

import importlib
from typing import Any

import click

_COMMANDS = {
    "train": ("train", "train", "Learn a recipe from a folder of clips; leaves a checkpoint that serves live."),
    "pretrain": ("pretrain", "pretrain", "Learn encoders from clips without labels, for `train` to start from."),
    "eval": ("eval", "evaluate", "Score a checkpoint on a folder of clips, with modalities removed or noise added."),
    "compare": ("compare", "compare", "Train the fusions and every single modality alike, and recommend one."),
    "data": ("data", "data", "Look at a folder of clips before it is learned from, or collect one."),
}


class Later(click.Command):
    """A command that stands in the list of all, and is imported from its module when it is asked for itself."""

    def __init__(self, name: str, module: str, attribute: str, help: str) -> None:
        super().__init__(name, help=help)
        self._module = module
        self._attribute = attribute

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command itself."""
        module = importlib.import_module(f"streamer.commands.{self._module}")
        command: click.Command = getattr(module, self._attribute)
        return command.make_context(info_name, args, parent, **extra)


def register(group: click.Group) -> None:
    """Adds the commands to the group."""
    for name, (module, attribute, text) in _COMMANDS.items():
        group.add_command(Later(name, module, attribute, text))
