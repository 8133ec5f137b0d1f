"""Compiles every kernel for the GPUs of four generations without having one, and says what each takes of them.

    python -m kernels.compile                       the whole grid, kept in kernels/results/compiled.csv
    python -m kernels.compile --quick --out FILE    what every change is held to: width 256 in bfloat16

Registers and spills are ptxas's, read from the binary by `cuobjdump`, which triton's wheel carries. Exit code 1: a
kernel spills registers to memory, or asks for more shared memory than a block can have.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import argparse
import csv
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.fusion import launch as fusion
from kernels.fusion.absorbed import Absorbed, Pooled
from kernels.fusion.tensors import Tokens

RESULTS = Path(__file__).parent / "results" / "compiled.csv"
SHARED_LIMIT = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # CUDA C++ guide, bytes a block
_POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
_ALIGNED = [["tt.divisibility", 16]]  # what the launcher finds true of every tensor torch allocates


@dataclass(frozen=True, slots=True)
class Case:
    """A fusion to compile: dtype, width, windows, k, and the direction."""

    dtype: torch.dtype
    width: int
    windows: int
    strongest: int
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel on one generation. `shared` and `spilled` in bytes, a block and a thread."""

    kernel: str
    sm: int
    dtype: str
    width: int
    windows: int
    strongest: int
    warps: int
    registers: int
    shared: int
    spilled: int
    triton: str
    ptxas: str

    def fault(self) -> str | None:
        """Why it must not ship, or None."""
        if self.spilled:
            return f"{self.kernel} on sm_{self.sm} spills {self.spilled} bytes a thread: {self}"
        if self.shared > SHARED_LIMIT[self.sm]:
            return f"{self.kernel} on sm_{self.sm} wants {self.shared} bytes of shared memory: {self}"
        return None


def cases(quick: bool) -> Iterator[Case]:
    """What is compiled: one window and many, with shares and without, forward and backward."""
    kinds = [torch.bfloat16] if quick else [torch.bfloat16, torch.float16, torch.float32]
    for dtype, width in itertools.product(kinds, [256] if quick else [128, 256, 512]):
        for windows, strongest in itertools.product([1, 256] if quick else [1, 32, 256], [8] if quick else [0, 8]):
            yield Case(dtype, width, windows, strongest)
        yield Case(dtype, width, 256, 0, backward=True)


def meta_inputs(case: Case) -> tuple[Tokens, Absorbed]:
    """Tensors without memory in the sizes of a fusion: 4 latents, heads of 64, 256 labels, 24 tokens a window."""
    heads, latents, inner, labels = case.width // 64, 4, 4 * case.width, 256

    def empty(*shape: int, dtype: torch.dtype = case.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    count = 24 * case.windows
    slot, when, offset = (empty(n, dtype=torch.int32) for n in (count, count, 3 * case.windows + 1))
    wide = torch.float32
    return Tokens(empty(4 * count, case.width), slot, when, offset), Absorbed(
        table=empty(3, 32, case.width),
        probes=empty(latents, heads, case.width),
        value=empty(heads, 64, case.width),
        value_bias=empty(heads, 64, dtype=wide),
        out=empty(case.width, latents * heads * 64),
        prior=empty(case.width, dtype=wide),
        up=empty(inner, case.width),
        up_bias=empty(inner, dtype=wide),
        head=empty(labels, inner + case.width),
        base=empty(labels, dtype=wide),
    )


def launches(case: Case) -> list[fusion.Launch]:
    """The launches of a case, on tensors without memory."""
    tokens, weights = meta_inputs(case)
    if not case.backward:
        return list(fusion.describe(tokens, weights, case.strongest).launches)
    latents, heads, width = weights.probes.shape
    segments = len(tokens.offset) - 1
    lse = torch.empty(segments, latents, heads, device="meta")
    pooled = Pooled(torch.empty(segments, latents, heads, 64, device="meta"), lse, lse)
    d_mean = torch.empty(segments, latents, heads, width, device="meta")
    return [fusion.describe_pool_backward(tokens, weights, pooled, d_mean, lse)[0]]


def compile_for(launch: fusion.Launch, sm: int) -> tuple[int, int, int]:
    """Registers a thread, shared memory in bytes, and bytes a thread keeps in memory: compiled for a generation."""
    signature, attributes = {}, {}
    for place, name in enumerate(launch.kernel.arg_names):
        value = launch.args.get(name)
        signature[name] = (
            _POINTERS[value.dtype] if isinstance(value, Tensor) else "constexpr" if value is None else "i32"
        )
        if isinstance(value, Tensor):
            attributes[(place,)] = _ALIGNED
    source = ASTSource(launch.kernel, signature, launch.constants, attributes)
    options = {"num_warps": launch.warps, "num_stages": launch.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(compiled.asm["cubin"])
        binary.flush()
        command = [_tool("cuobjdump"), "--dump-resource-usage", binary.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers for {launch.kernel.__name__}: {usage!r}")
    registers, stack, _, local = map(int, found.groups())
    return registers, compiled.metadata.shared, stack + local


def survey(quick: bool) -> Iterator[Compiled]:
    """Everything of `cases` on every generation, each kernel once."""
    assembler = {
        sm: _version(_tool("ptxas-blackwell" if sm >= 100 else "ptxas")) for sm in SHARED_LIMIT
    }  # as triton does
    seen = set()
    for case in cases(quick):
        for launch, sm in itertools.product(launches(case), SHARED_LIMIT):
            key = (
                launch.kernel.__name__,
                sm,
                case.dtype,
                tuple(sorted(map(str, launch.constants.items()))),
                launch.warps,
            )
            if key in seen:
                continue
            seen.add(key)
            registers, shared, spilled = compile_for(launch, sm)
            kernel, dtype = launch.kernel.__name__.strip("_"), str(case.dtype).removeprefix("torch.")
            yield Compiled(
                kernel, sm, dtype, case.width, case.windows, case.strongest, launch.warps, registers, shared, spilled,
                triton.__version__, assembler[sm],
            )  # fmt: skip


def _tool(name: str) -> str:
    """A program of triton's wheel."""
    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def _version(program: str) -> str:
    """What it says of itself, as in V12.8.93."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"V(\d+\.\d+\.\d+)", said)[0] if "V" in said else "unknown"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m kernels.compile", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="width 256 in bfloat16 only")
    parser.add_argument(
        "--out", type=Path, help=f"the table (default, for the whole grid: {RESULTS.name} among the results)"
    )
    chosen = parser.parse_args()
    if fusion.INTERPRETED:
        parser.error("the interpreter compiles nothing: unset TRITON_INTERPRET")
    out = chosen.out or (None if chosen.quick else RESULTS)
    rows = []
    for row in survey(chosen.quick):
        rows.append(row)
        print(
            f"{row.kernel:14} sm_{row.sm:<4} {row.dtype:9} D={row.width:<4} B={row.windows:<4} k={row.strongest} "
            f"warps={row.warps} registers={row.registers} shared={row.shared} spilled={row.spilled}",
            flush=True,
        )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [field.name for field in fields(Compiled)], lineterminator="\n")
            table.writeheader()
            table.writerows(asdict(row) for row in rows)
    faults = [fault for row in rows if (fault := row.fault())]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
