"""The kernels compile for four generations of GPUs without one being there, and spill nowhere."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels

RESULTS = Path(kernels.__file__).parent / "results" / "compiled.csv"


def compiled(*words: str) -> list[dict[str, str]]:
    """What `python -m kernels.compile` says with these words; it fails where a kernel spills."""
    *options, out = words
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "kernels.compile", *options, "--out", out],
        cwd=RESULTS.parents[2], env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Path(out).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_nothing_spills(tmp_path: Path) -> None:
    """At width 256 in bfloat16 no kernel keeps a register in memory, on sm_80, sm_89, sm_90 and sm_100."""
    rows = compiled("--quick", str(tmp_path / "compiled.csv"))
    assert {row["sm"] for row in rows} == {"80", "89", "90", "100"}
    assert {row["kernel"] for row in rows} == {"pool", "project", "lift", "score", "finish", "pool_backward"}
    assert all(row["spilled"] == "0" and 16 <= int(row["registers"]) <= 255 for row in rows)


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_nothing_spills_anywhere(tmp_path: Path) -> None:
    """Nor at any other width, dtype or batch."""
    assert len(compiled(str(tmp_path / "compiled.csv"))) > 100


def test_the_kept_table_is_clean() -> None:
    """The results kept beside the kernels name their compiler and have no spill."""
    with RESULTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["spilled"] == "0" and row["triton"] and row["ptxas"] for row in rows)
