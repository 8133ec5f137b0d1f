"""What is written down while it learns: TensorBoard's event files, and the same as lines of JSON.

`curves.jsonl` has a line each optimiser step (`step`, `loss`, `rate`, ...) and a line each epoch (`epoch`, `step`, the
validation's figures). When a training goes on after it was killed, what the killed one had written beyond the point
from which it goes on is dropped from the lines, and marked as superseded for TensorBoard.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

CURVES = "curves.jsonl"


class Journal:
    """See the module. `step`, `epochs`: those that are done already, whose lines are kept."""

    def __init__(self, folder: Path, step: int = 0, epochs: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CURVES
        before = read(path) if step else []
        kept = [line for line in before if line["step"] <= step and line.get("epoch", 0) <= epochs]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        if not step:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """After optimiser step number `step`, from 1."""
        self._line({"step": step, **figures})
        for name, value in figures.items():
            self._board.add_scalar(f"training/{name}", value, step)

    def epoch(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """After epoch number `epoch`, from 1, and its validation."""
        self._line({"epoch": epoch, "step": step, **figures})
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(f"validation/{name}", value, step)

    def flush(self) -> None:
        """So that a process that is killed now leaves everything up to here."""
        self._file.flush()
        self._board.flush()

    def _line(self, figures: Mapping[str, float]) -> None:
        self._file.write(json.dumps(figures) + "\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a curves file; a last line that was cut off by the writer's end is left out; [] without a file."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
