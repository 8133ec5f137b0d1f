"""The op under autograd and torch.compile, in Triton and in plain torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from kernels.fusion import naive, op
from kernels.fusion.absorbed import Absorbed
from kernels.fusion.tensors import Tokens, Weights
from tests.kernels.cases import Shape, error, moved, tokens, weights

TINY = Shape(width=20, bins=2, latents=2, heads=2, length=3, inner=10, labels=5)
COUNTS = [(2, 1, 1), (0, 0, 0), (3, 0, 0)]


def finite(given: Tokens) -> Tokens:
    """Without the NaN that guards unused rows: numerical derivatives touch every row."""
    return given._replace(ring=given.ring.nan_to_num())


def gradcheck(given: Tokens) -> None:
    folded = op.absorb(weights(TINY))

    def logits(ring: Tensor, *parts: Tensor) -> Tensor:
        return op.fuse(given._replace(ring=ring), Absorbed(*parts), 0).logits

    inputs = [part.detach().clone().requires_grad_() for part in (given.ring, *folded)]
    assert torch.autograd.gradcheck(logits, inputs, fast_mode=True)


def test_gradients_are_derivatives_in_plain_torch(plain: None) -> None:
    """Gradients of the ring and of every weight are the numerical ones."""
    gradcheck(finite(tokens(TINY, COUNTS)))


def test_gradients_are_derivatives_in_triton(device: torch.device) -> None:
    """The same of the kernels, interpreted in float64."""
    if device.type == "cuda":
        pytest.skip("float64 kernels are interpreted only: run on a machine without a GPU")
    gradcheck(finite(tokens(TINY, COUNTS[::2])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_are_the_definition_s(dtype: torch.dtype, device: torch.device) -> None:
    """Gradients through absorption and kernels are those of the definition in float64, over several tiles."""
    shape = Shape(width=80, latents=3, heads=6, length=16, inner=48, labels=12)
    w = weights(shape, dtype=dtype)
    given = finite(tokens(shape, [(19, 2, 1), (0, 0, 0), (5, 0, 2)], dtype=dtype))
    names = [field.name for field in fields(Weights)]
    away = torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradients(inner: torch.dtype, fused: bool) -> list[Tensor]:
        target = device if fused else torch.device("cpu")
        leaves = [getattr(w, name).to(target, inner).requires_grad_() for name in names]
        ring = given.ring.to(target, dtype if fused else inner).requires_grad_()
        learned, here = Weights(**dict(zip(names, leaves, strict=True))), moved(given, target)._replace(ring=ring)
        given_back = op.fuse(here, op.absorb(learned, dtype), 2) if fused else naive.fuse(here, learned, 0)
        logits = given_back.logits
        return [part.cpu() for part in torch.autograd.grad(logits, [*leaves, ring], away.to(target, logits.dtype))]

    limit = 1e-5 if dtype == torch.float32 else 3e-2
    for name, got, expected in zip(
        [*names, "ring"], gradients(torch.float32, True), gradients(torch.float64, False), strict=True
    ):
        assert error(got, expected) < limit, name


def test_a_frozen_ring_gets_no_gradient(device: torch.device) -> None:
    """Where the ring needs none, the weights still get theirs."""
    given = moved(tokens(TINY, COUNTS, dtype=torch.float32), device)
    folded = op.absorb(weights(TINY, dtype=torch.float32))
    head = folded.head.to(device).requires_grad_()
    parts = Absorbed(*(part.to(device) for part in folded))._replace(head=head)
    fused = op.fuse(given, parts, 2)
    assert not fused.shares.requires_grad and not fused.mass.requires_grad
    fused.logits.sum().backward()
    assert head.grad is not None and head.grad.isfinite().all()


@pytest.mark.parametrize("triton", [False, True], ids=["plain", "triton"])
def test_torch_accepts_the_op(triton: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, fake tensors and autograd registration pass torch's own checks."""
    from kernels.fusion import launch

    if not triton:
        device = torch.device("cpu")
        monkeypatch.setattr(launch, "INTERPRETED", False)
    elif device.type == "cuda":
        monkeypatch.setattr(launch, "INTERPRETED", False)
    given = moved(finite(tokens(TINY, [(2, 1, 1), (1, 1, 2)], dtype=torch.float32)), device)  # all memory is written
    folded = [part.to(device).requires_grad_() for part in op.absorb(weights(TINY, dtype=torch.float32))]
    torch.library.opcheck(torch.ops.kernels.fusion.default, (*given, *folded, 2))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_accepts_the_op(backend: str, plain: None) -> None:
    """One graph of absorption, op and loss compiles, and its gradients are the definition's."""
    given, w = finite(tokens(TINY, COUNTS)), weights(TINY)
    names = [field.name for field in fields(Weights)]
    leaves = [getattr(w, name).clone().requires_grad_() for name in names]

    def loss(*parts: Tensor) -> Tensor:
        return op.fuse(given, op.absorb(Weights(**dict(zip(names, parts, strict=True)))), 2).logits.square().sum()

    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    got = torch.autograd.grad(compiled(*leaves), leaves)
    expected = torch.autograd.grad(naive.fuse(given, w_of(names, leaves), 0).logits.square().sum(), leaves)
    for name, one, other in zip(names, got, expected, strict=True):
        assert error(one, other) < 1e-10, name


def w_of(names: list[str], leaves: list[Tensor]) -> Weights:
    return Weights(**dict(zip(names, leaves, strict=True)))


def test_windows_without_any_token(plain: None) -> None:
    """A batch in which nothing was seen, heard or said is answered with the prior, and so is one of no windows."""
    w = weights(TINY)
    given = tokens(TINY, [(0, 0, 0)] * 2, spare=0)
    assert error(op.fuse(given, op.absorb(w), 2).logits, naive.fuse(given, w, 2).logits) < 1e-12
    assert op.fuse(tokens(TINY, [], spare=0), op.absorb(w), 2).shares.shape == (0, 2, 3)


@pytest.mark.parametrize("name", ["ring", "offset", "table", "out", "up_bias", "head"])
def test_what_does_not_fit_is_named(name: str) -> None:
    """A tensor of the wrong size, dtype or layout is refused by its name before anything is launched."""
    given, folded = tokens(TINY, COUNTS), op.absorb(weights(TINY))
    whole = {**given._asdict(), **folded._asdict()}
    for wrong in (whole[name].to(torch.int16), whole[name].repeat_interleave(2, -1)[..., ::2]):
        parts = whole | {name: wrong}
        with pytest.raises(ValueError, match=name):
            op.fuse(Tokens(*(parts[n] for n in Tokens._fields)), Absorbed(*(parts[n] for n in Absorbed._fields)), 2)
    with pytest.raises(ValueError, match="strongest"):
        op.fuse(given, folded, 6)


def test_it_serves_without_triton() -> None:
    """The op runs on a CPU whose torch came without triton."""
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from kernels.fusion import op; from tests.kernels.cases import *\n"
        "print(op.fuse(tokens(Shape(), [(1, 1, 0)]), op.absorb(weights(Shape())), 2).shares.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "[1, 2, 3]" in done.stdout, done.stderr
