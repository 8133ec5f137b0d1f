"""Processes of the service's own: what each of them needs to be this package too."""

from __future__ import annotations

import os
from pathlib import Path

import streamer


def environment() -> dict[str, str]:
    """Ours, with this package importable there even where it was found through the working directory."""
    paths = [str(Path(streamer.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
