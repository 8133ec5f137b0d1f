"""Measures the fusion on a GPU, in one command and under ten minutes, with torch, triton and numpy alone.

    python -m kernels.bench                  everything; the table goes to kernels/results/fusion-GPU.csv
    python -m kernels.bench --sweep          then other tile sizes, one change at a time
    python -m kernels.bench --dry-run        tiny sizes, interpreted without a GPU: that the script works, not how fast

Nothing is timed before it is right: each size is first compared with the definition in float64, on memory filled with
NaN; a red gate ends the run with exit code 1. A time is the device's: repetitions captured in one CUDA graph, divided
by their number. Hot: inputs and weights are in L2. Cold: L2 is overwritten before each repetition, and what that takes
is taken off. `eager` is the definition as it is called, launches included. `compiled` is the absorbed form, which needs
fewer operations, under torch.compile with max-autotune, in the same graphs as ours. Floors come from counted operations
and bytes over ceilings measured in the same run: a large matrix product and a large copy.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.fusion import absorbed, naive
from kernels.fusion.absorbed import Absorbed
from kernels.fusion.tensors import Fused, Tokens, Weights
from kernels.timing import Clock, ceilings

RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).resolve().parents[1]
STRONGEST = 8
BINS = 32
LIMIT = {"bfloat16": 1e-2, "float16": 1e-2, "float32": 1e-5}  # relative error against float64
GOALS_US = {(256, 1): 12.0, (256, 256): 20.0, (512, 256): 45.0}  # (width, windows), bfloat16 on an H100
_ROUNDS = 40  # samples a percentile is taken of
_REPEATS = 20  # calls in one graph
_DRY = (2, 1)


@dataclass(frozen=True, slots=True)
class Size:
    """A fusion to measure: 4 latents, heads of 64, an inner width of 4 D."""

    width: int
    windows: int
    labels: int = 256
    latents: int = 4
    length: int = 64
    dtype: str = "bfloat16"

    @property
    def heads(self) -> int:
        """As many as fill the width."""
        return max(1, self.width // self.length)

    @property
    def inner(self) -> int:
        """Of the FFN."""
        return 4 * self.width


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Times in microseconds; `bytes` and `operations` are counted, not measured."""

    variant: str
    width: int
    windows: int
    tokens: int
    k: int
    dtype: str
    cache: str
    p20_us: float
    p50_us: float
    p80_us: float
    floor_us: float
    bytes: int
    operations: int
    error: float
    gpu: str
    torch: str
    triton: str
    cuda: str
    commit: str
    note: str = ""


class GateError(Exception):
    """The kernels are wrong: no time of theirs means anything."""


def random_weights(size: Size, device: torch.device, seed: int) -> Weights:
    """Weights of the usual magnitudes, rounded to the size's dtype."""
    draw = torch.Generator().manual_seed(seed)
    width, inner, attended = size.width, size.inner, size.latents * size.heads * size.length

    def normal(*shape: int, deviation: float, mean: float = 0.0) -> Tensor:
        return (mean + deviation * torch.randn(*shape, generator=draw)).to(device, getattr(torch, size.dtype))

    heads = (size.heads, size.length)
    return Weights(
        modality=normal(3, width, deviation=0.3),
        time=normal(BINS, width, deviation=0.3),
        gain=normal(width, deviation=0.1, mean=1.0),
        shift=normal(width, deviation=0.1),
        query=normal(size.latents, *heads, deviation=1.0),
        key=normal(*heads, width, deviation=width**-0.5),
        value=normal(*heads, width, deviation=width**-0.5),
        value_bias=normal(*heads, deviation=0.1),
        out=normal(width, attended, deviation=attended**-0.5),
        prior=normal(width, deviation=0.7),
        up_gain=normal(width, deviation=0.1, mean=1.0),
        up_shift=normal(width, deviation=0.1),
        up=normal(inner, width, deviation=width**-0.5),
        up_bias=normal(inner, deviation=0.1),
        down=normal(width, inner, deviation=inner**-0.5),
        down_bias=normal(width, deviation=0.1),
        head=normal(size.labels, width, deviation=width**-0.5),
        head_bias=normal(size.labels, deviation=0.1),
    )


def random_tokens(size: Size, device: torch.device, seed: int) -> Tokens:
    """Windows of 9 frames, 5 patches, 0 to 20 pieces of text: 24 tokens on average, of a ring of 8 times as many."""
    draw = torch.Generator().manual_seed(seed)
    text = torch.randint(21, (size.windows,), generator=draw)
    counts = torch.stack([torch.full_like(text, 9), torch.full_like(text, 5), text], dim=1).flatten()
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).int()
    count = int(offset[-1])
    ring = torch.randn(8 * count, size.width, generator=draw)
    slot = torch.randperm(8 * count, generator=draw)[:count].int()
    when = torch.randint(BINS, (count,), generator=draw).int()
    return Tokens(*(part.to(device) for part in (ring.to(getattr(torch, size.dtype)), slot, when, offset)))


def count(size: Size, tokens: int, k: int) -> tuple[int, int]:
    """Operations (multiplying and adding are two) and bytes (inputs and results once), as README.md counts them."""
    width, groups, attended = size.width, size.latents * size.heads, size.latents * size.heads * size.length
    subsets, shapley = (8, 4) if k else (1, 1)
    a_token = 2 * groups * width * 2
    a_window = 3 * attended * width + subsets * (attended * width + width * size.inner)
    a_window += shapley * (size.inner + width) * size.labels
    weights = groups * width + size.heads * size.length * width + attended * width + width * size.inner
    weights += (size.inner + width) * size.labels + 3 * BINS * width
    element = torch.empty(0, dtype=getattr(torch, size.dtype)).element_size()
    moved = weights * element + tokens * (width * element + 12) + size.windows * (4 * size.labels + 20 * k + 12)
    return tokens * a_token + 2 * size.windows * a_window, moved


def gate(tokens: Tokens, learned: Weights, folded: Absorbed, size: Size, k: int) -> float:
    """The largest relative error of logits, mass and shares. GateError if it is too large."""
    from kernels.fusion import launch

    plan = launch.describe(tokens, folded, k)
    for part in (*plan.result, *plan.pooled):
        part.fill_(torch.nan if part.is_floating_point() else -1)
    for one in plan.launches:
        one.run()
    got: Fused = plan.result
    exact = Weights(**{field.name: getattr(learned, field.name).double() for field in fields(Weights)})
    expected = naive.fuse(tokens._replace(ring=tokens.ring.double()), exact, size.labels)
    errors = [_error(got.logits, expected.logits), _error(got.mass, expected.mass)]
    if k:
        place = expected.top.argsort(1).gather(1, got.top.clamp(0, size.labels - 1)).unsqueeze(-1).expand(-1, -1, 3)
        errors.append(_error(got.shares, expected.shares.gather(1, place)))
    worst = max(errors) if all(error == error for error in errors) else float("nan")
    if not worst < LIMIT[size.dtype]:
        raise GateError(f"width {size.width}, {size.windows} windows, k {k}, {size.dtype}: relative error {worst:.2e}")
    return worst


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm().clamp(min=1e-30))


class Bench:
    """One run of the script: where it runs, what it found, and what time is left."""

    def __init__(self, dry: bool, out: Path | None, budget_s: float) -> None:
        self.dry = dry
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else f"none ({platform.machine()})"
        self.out = out or RESULTS / f"fusion-{'-'.join(self.gpu.split())}.csv"
        self.clock = Clock(self.device, *((_ROUNDS, _REPEATS) if not dry else _DRY))
        self.end_s = time.monotonic() + budget_s
        self.rows: list[Row] = []
        self.peak = ceilings(self.device, self.clock)

    def left_s(self) -> float:
        """Seconds of the budget."""
        return self.end_s - time.monotonic()

    def fused(self, size: Size) -> None:
        """Gate, then our kernels and the definition in eager torch, at one size."""
        from kernels.fusion import launch

        learned = random_weights(size, self.device, seed=1)
        folded = absorbed.absorb(learned)
        tokens = random_tokens(size, self.device, seed=2)
        for k in (STRONGEST, 0):
            error = gate(tokens, learned, folded, size, k)
            for cache in ("hot", "cold"):
                times = self.clock.percentiles(lambda k=k: launch.forward(tokens, folded, k), cache == "cold")  # type: ignore[misc]
                self.add("fused", size, tokens, k, cache, times, error)
        self.add(
            "eager",
            size,
            tokens,
            STRONGEST,
            "hot",
            self.clock.as_called(lambda: naive.fuse(tokens, learned, STRONGEST)),
        )

    def compiled(self, size: Size) -> None:
        """The absorbed form compiled, in a process of its own: tuning can take any time, but not the results."""
        spare = self.left_s() / 3  # no one of them may take the time of the others
        if spare < 20:
            self.add("compiled", size, None, STRONGEST, "hot", (np.nan,) * 3, note="not measured: no time was left")
            return
        words = [sys.executable, "-m", "kernels.bench", "--baseline", json.dumps(asdict(size))]
        try:
            done = subprocess.run(
                words + ["--dry-run"] * self.dry, cwd=_ROOT, capture_output=True, text=True, timeout=spare
            )
        except subprocess.TimeoutExpired:
            self.add("compiled", size, None, STRONGEST, "hot", (np.nan,) * 3, note="not measured: tuning took too long")
            return
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            self.add("compiled", size, None, STRONGEST, "hot", (np.nan,) * 3, note=f"failed: {last[:120]}")
            return
        for cache, times in json.loads(done.stdout.strip().splitlines()[-1]).items():
            self.add("compiled", size, None, STRONGEST, cache, tuple(times))

    def sweep(self, size: Size) -> None:
        """Our kernels with other tiles, one change from the chosen ones at a time."""
        from kernels.fusion import launch

        folded = absorbed.absorb(random_weights(size, self.device, seed=1))
        tokens = random_tokens(size, self.device, seed=2)
        usual = launch.tiles(size.windows, tokens.ring.dtype, size.width)
        for name, values in _CHANGES.items():
            for value in values:
                if self.left_s() < 20 or value == getattr(usual, name):
                    continue
                tiles = replace(usual, **{name: value})
                try:
                    times = self.clock.percentiles(lambda t=tiles: launch.forward(tokens, folded, STRONGEST, t), False)  # type: ignore[misc]
                except Exception as error:  # noqa: BLE001  what does not fit this GPU is a finding, not an end
                    self.add(
                        "swept",
                        size,
                        tokens,
                        STRONGEST,
                        "hot",
                        (np.nan,) * 3,
                        note=f"{name}={value}: {type(error).__name__}",
                    )
                    continue
                self.add("swept", size, tokens, STRONGEST, "hot", times, note=f"{name}={value}")

    def add(
        self, variant: str, size: Size, tokens: Tokens | None, k: int, cache: str, times: tuple[float, ...],
        error: float = float("nan"), note: str = "",
    ) -> None:  # fmt: skip
        """A line of the table, kept at once."""
        number = len((tokens or random_tokens(size, torch.device("cpu"), seed=2)).slot)
        operations, moved = count(size, number, k)
        floor = max(operations / self.peak[0], moved / self.peak[1]) * 1e6
        from triton import __version__ as triton

        p20, p50, p80 = (round(sample, 3) for sample in times)
        row = Row(
            variant, size.width, size.windows, number, k, size.dtype, cache, p20, p50, p80, round(floor, 3), moved,
            operations, error, self.gpu, torch.__version__, triton, torch.version.cuda or "none",
            _commit(), "; ".join(filter(None, ["dry run" if self.dry else "", note])),
        )  # fmt: skip
        self.rows.append(row)
        print(
            f"{variant:9} D={size.width:<4} B={size.windows:<5} k={k} {cache:4} {row.p50_us:10.2f} us "
            f"(p20 {row.p20_us:.2f}, p80 {row.p80_us:.2f}; floor {row.floor_us:.2f}) {row.note}",
            flush=True,
        )
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            table.writeheader()
            table.writerows(asdict(one) for one in self.rows)

    def summary(self) -> Iterator[str]:
        """What matters most, last."""
        found = {(row.variant, row.width, row.windows, row.k, row.cache): row.p50_us for row in self.rows}
        yield f"{self.gpu}: {self.peak[0] / 1e12:.0f} TFLOP/s, {self.peak[1] / 1e12:.2f} TB/s measured; p50, hot L2"
        for variant, width, windows, k, cache in found:
            if (variant, k, cache) != ("fused", STRONGEST, "hot"):
                continue
            ours, bare = found[variant, width, windows, k, cache], found["fused", width, windows, 0, "hot"]
            line = f"D={width} B={windows}: {ours:.1f} us; shares cost {100 * (ours / bare - 1):.0f} %"
            if (compiled := found.get(("compiled", width, windows, k, "hot"), np.nan)) == compiled:
                line += f"; compiled {compiled:.1f} us, {compiled / ours:.1f} times ours"
            if goal := GOALS_US.get((width, windows)):
                line += f"; goal {goal:.0f} us {'met' if ours <= goal else 'missed'}"
            yield line


# Tile sizes worth trying, by name.
_CHANGES: dict[str, tuple[int, ...]] = {
    "several": (4, 8, 16), "t_block": (16, 32, 64), "d_block": (32, 64, 128), "rows": (16, 32, 64, 128),
    "project_n": (16, 32, 64, 128), "lift_n": (16, 32, 64, 128), "score_n": (16, 32, 64), "k_block": (32, 64, 128),
    "warps": (2, 4, 8),
}  # fmt: skip


def baseline(size: Size, dry: bool) -> dict[str, tuple[float, float, float]]:
    """Times of the absorbed form under torch.compile, by cache."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folded = absorbed.absorb(random_weights(size, device, seed=1))
    tokens = random_tokens(size, device, seed=2)
    # Graphs are ours, as for the kernels: those of the compiler would add copies of inputs and checks in Python.
    how: dict[str, Any] = {"backend": "eager"} if dry else {"mode": "max-autotune-no-cudagraphs"}
    call = torch.compile(lambda: absorbed.fuse(tokens, folded, STRONGEST, longest=20), fullgraph=True, **how)
    call()
    clock = Clock(device, *(_DRY if dry else (_ROUNDS, _REPEATS)))
    return {cache: clock.percentiles(call, cache == "cold") for cache in ("hot", "cold")}


def _commit() -> str:
    """Of the checkout, or `unknown` where there is none."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def sizes(dry: bool) -> list[Size]:
    """What is measured, the most telling first."""
    if dry:
        return [Size(32, 2, labels=20, latents=2, length=16)]
    telling = [Size(256, 1), Size(256, 256), Size(512, 256), Size(512, 1)]
    rest = [Size(width, windows) for width in (128, 256, 512) for windows in (1, 16, 64, 256, 1024)]
    return telling + [size for size in rest if size not in telling] + [Size(256, 256, dtype="float16")]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="where the table goes (default: kernels/results/fusion-GPU.csv)")
    parser.add_argument("--budget-s", type=float, default=540.0, help="no size is begun after this (default: 540)")
    parser.add_argument("--sweep", action="store_true", help="try other tile sizes afterwards")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--baseline", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        if not chosen.dry_run:
            parser.error("no GPU here: times would mean nothing; --dry-run tries the script")
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is first imported
    torch.set_grad_enabled(False)
    if chosen.baseline:
        print(json.dumps(baseline(Size(**chosen.baseline), chosen.dry_run)))
        return 0
    bench = Bench(chosen.dry_run, chosen.out, chosen.budget_s)
    todo = sizes(chosen.dry_run)
    telling = todo[: len(GOALS_US) + 1]
    try:
        for size in telling:
            bench.fused(size)
        for size in telling:
            bench.compiled(size)
        for size in todo[len(telling) :]:
            if bench.left_s() > 20:
                bench.fused(size)
        for size in telling[: 3 if chosen.sweep else 0]:
            bench.sweep(size)
    except GateError as error:
        print(f"wrong, and so not timed: {error}", file=sys.stderr)
        return 1
    print("", *bench.summary(), f"the table: {bench.out}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
