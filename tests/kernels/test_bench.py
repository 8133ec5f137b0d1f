"""The benchmark works where there is no GPU to run it on: the gate, every variant, the table."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels import bench
from kernels.fusion.absorbed import absorb

ROOT = Path(bench.__file__).resolve().parents[1]


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kernels.bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=150
    )


def test_a_dry_run_fills_the_table(tmp_path: Path) -> None:
    """A dry run passes the gate and leaves a line for each variant, with its error, versions and floor."""
    done = ran("--dry-run", "--out", str(tmp_path / "table.csv"))
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["k"], row["cache"]) for row in rows] == [
        ("fused", "8", "hot"), ("fused", "8", "cold"), ("fused", "0", "hot"), ("fused", "0", "cold"),
        ("eager", "8", "hot"), ("compiled", "8", "hot"), ("compiled", "8", "cold"),
    ]  # fmt: skip
    for row in rows:
        assert float(row["p20_us"]) <= float(row["p50_us"]) <= float(row["p80_us"])
        assert float(row["floor_us"]) > 0 and row["torch"] == torch.__version__ and "dry run" in row["note"]
    assert all(0 < float(row["error"]) < 1e-2 for row in rows if row["variant"] == "fused")


def test_nothing_is_timed_without_a_gpu() -> None:
    """Asked for times where there is no GPU, the script refuses, with the remedy."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: the refusal shows on a machine without one")
    done = ran()
    assert done.returncode == 2 and "--dry-run" in done.stderr


def test_a_wrong_kernel_is_not_timed(device: torch.device) -> None:
    """The gate is red if the weights that the kernels are given are not those of the definition."""
    size = bench.Size(32, 2, labels=20, latents=2, length=16)
    learned = bench.random_weights(size, device, seed=1)
    tokens, folded = bench.random_tokens(size, device, seed=2), absorb(learned)
    assert 0 < bench.gate(tokens, learned, folded, size, 3) < 1e-2
    with pytest.raises(bench.GateError, match="relative error"):
        bench.gate(tokens, learned, folded._replace(base=folded.base + 0.5), size, 3)


def test_operations_are_counted_right() -> None:
    """The count is that of the products' shapes, summed here by name: width 256, one window, 24 tokens, with shares."""
    a = dict(
        probes=24 * 16 * 256, pooling=24 * 16 * 256, values=3 * 4 * 256 * 256, out=8 * 1024 * 256, up=8 * 256 * 1024
    )
    operations, moved = bench.count(bench.Size(256, 1), 24, 8)
    assert operations == 2 * (sum(a.values()) + 4 * 1280 * 256)
    assert moved > 2 * (16 * 256 + 256 * 256 + 256 * 1024 * 2 + 1280 * 256)
