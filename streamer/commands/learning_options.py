"""Options that the commands of the learning side have in common."""

from __future__ import annotations

from pathlib import Path

import click

data = click.option(
    "--data", "folder", type=click.Path(path_type=Path), help="The clips.  [default: the recipe's data.folder]"
)
weights = click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with the pretrained weights, for machines without a network.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
seed = click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's.")
minutes = click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="End by then, with the best so far."
)
