"""What finds people in pictures, made out of its weights: `python -m streamer.peoplegraph WEIGHTS CACHE`.

That is done once, takes some twenty seconds of a core and a great deal of memory, and may be wanted while streams are
served: a process of its own does it, behind whatever has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from models import weights
from models.movenet import MoveNetError, graph_of
from streamer import child
from streamer.errors import WeightsError

_NICE = 15
_LONGEST_S = 300.0


def people_graph(file: Path) -> Path:
    """The ONNX file of the detector whose weights are in `file`, made where it is not in the cache yet. Blocking.

    Raises:
        WeightsError: it can't be made; says why.
    """
    command = [sys.executable, "-m", "streamer.peoplegraph", str(file), str(weights.cache_dir())]
    try:
        made = subprocess.run(
            command,
            env=child.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_LONGEST_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        lines = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
        raise WeightsError(f"what finds people can't be made ready: {lines[-1] if lines else error}") from error
    return Path(made.stdout.strip().splitlines()[-1])


def main(file: str, cache: str) -> None:
    """Make the graph of `file` in `cache` where it is not there yet, and print its path."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
        os.nice(_NICE)
    try:
        print(graph_of(Path(file), Path(cache)))
    except (MoveNetError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
