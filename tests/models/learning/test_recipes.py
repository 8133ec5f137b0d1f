"""The recipes that come with streamer."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.learning import recipe
from models.learning.keep import parameters
from models.learning.network import Network, Outline

RECIPES = sorted((Path(recipe.__file__).parents[1] / "recipes").glob("*.toml"))


def test_there_are_recipes() -> None:
    """Those that README speaks of come with the program."""
    names = {path.stem for path in RECIPES}
    assert {"sounds", "street", "digits-spoken", "fight", "worked-example", "grid-digit"} <= names


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_reads_and_builds_its_network(path: Path) -> None:
    """It is found by its name, has that name, and makes a network with something to learn in each modality."""
    read = recipe.read(recipe.find(path.stem))
    assert read.name == path.stem
    made = parameters(Network(read, Outline(10, 20, 3.0)))
    assert {f"{name} encoder" for name in read.modalities} <= set(made)
    assert all(count > 0 for count in made.values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_says_what_it_is_for(path: Path) -> None:
    """Its first line is a comment for people."""
    assert path.read_text(encoding="utf-8").startswith("# ")
