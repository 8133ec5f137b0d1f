"""Where there is no GPU, the kernels are interpreted: in numpy, on the CPU."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported, hence here and not in a fixture


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU, or the CPU under Triton's interpreter."""
    from kernels.fusion import launch

    if torch.cuda.is_available():
        return torch.device("cuda")
    assert launch.INTERPRETED, "triton was imported before tests/kernels/conftest.py could ask for its interpreter"
    return torch.device("cpu")


@pytest.fixture
def gpu() -> torch.device:
    """A GPU, or a visible skip."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU here: on a machine with one, python -m pytest tests/kernels")
    return torch.device("cuda")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The op as it runs on a CPU in service: without Triton, not even interpreted."""
    from kernels.fusion import launch

    monkeypatch.setattr(launch, "INTERPRETED", False)
