"""Processes that compute gradients beside this one, each of its own share of a batch, on a CPU.

Networks that are trained here are small, and their operations too short for threads to gain by: two processes with a
thread each do nearly twice as much as one with two. They share the weights' memory with the process that moves them and
compute only while that waits for their gradients, so nothing is copied but those, and what comes out depends on the
seed and the number of processes alone.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn

from models.learning.errors import LearningError

At = tuple[int, int]
Compute = Callable[[At, int], float]
"""For a step (epoch, number) and a share: fills the gradients of the network, and gives the loss."""

_PATIENCE_S = 10.0
_GONE = "a process that computed gradients has ended; go on with --resume"


class Partners:
    """`count` processes for the shares 1 to `count`; share 0 is the caller's own. They begin with the first `ask`."""

    def __init__(self, count: int, network: nn.Module, compute: Compute) -> None:
        """`compute` is called in the other processes, of which each has its own copy of everything but the weights."""
        self._parameters = [each for each in network.parameters() if each.requires_grad]
        self._count = count
        self._compute = compute
        self._gradients: list[Tensor] = []
        self._ends: list[Connection] = []
        self._processes: list[Any] = []
        self._threads = torch.get_num_threads()

    def ask(self, at: At) -> None:
        """Have the gradients of that step computed, with the weights as they are."""
        if not self._processes:
            self._begin()
        for end in self._ends:
            try:
                end.send(at)
            except BrokenPipeError:
                raise RuntimeError(_GONE) from None

    def add(self) -> float:
        """Wait for them, add them to this process's own, and give the sum of the losses.

        LearningError as `compute` raised it; RuntimeError where it failed otherwise, or a process was killed.
        """
        whole = 0.0
        for end, gradient in zip(self._ends, self._gradients, strict=True):
            try:
                loss, error, trace = end.recv()
            except EOFError:
                raise RuntimeError(_GONE) from None
            if error is not None:
                raise error if isinstance(error, LearningError) else RuntimeError(f"a share of a batch: {trace}")
            whole += loss
            for parameter, part in zip(self._parameters, _split(gradient, self._parameters), strict=True):
                if parameter.grad is None:
                    parameter.grad = part.clone()
                else:
                    parameter.grad += part
        return whole

    def close(self) -> None:
        """Ends the processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.kill()
                process.join()
        if self._processes:
            torch.set_num_threads(self._threads)
        self._ends, self._processes, self._gradients = [], [], []

    def _begin(self) -> None:
        # Forked, because clips are held in memory once for all of them, and there is no second thread yet that could
        # hold a lock for ever: nothing has been computed before the first step.
        context = multiprocessing.get_context("fork")
        torch.set_num_threads(max(1, self._threads // (self._count + 1)))
        for parameter in self._parameters:
            parameter.data.share_memory_()  # type: ignore[no-untyped-call]
        size = sum(parameter.numel() for parameter in self._parameters)
        for share in range(1, self._count + 1):
            mine, other = context.Pipe()
            gradient = torch.zeros(size).share_memory_()  # type: ignore[no-untyped-call]
            ends = [*self._ends, mine]
            process = context.Process(
                target=self._work, args=(share, other, gradient, ends), name=f"gradients {share}", daemon=True
            )
            process.start()
            other.close()
            self._ends.append(mine)
            self._gradients.append(gradient)
            self._processes.append(process)

    def _work(self, share: int, end: Connection, gradient: Tensor, others: Sequence[Connection]) -> None:
        """Until the other end is closed, or its process is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; whom it is meant for closes these
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for other in others:
            other.close()
        while True:
            try:
                at = end.recv()
            except (EOFError, OSError):
                return
            end.send(self._answer(at, share, gradient))

    def _answer(self, at: At, share: int, gradient: Tensor) -> tuple[float, BaseException | None, str]:
        for parameter in self._parameters:
            parameter.grad = None
        try:
            loss = self._compute(at, share)
        except LearningError as error:
            return 0.0, error, ""
        except Exception as error:  # noqa: BLE001 - told where it is waited for
            return 0.0, RuntimeError(str(error)), traceback.format_exc()
        for parameter, part in zip(self._parameters, _split(gradient, self._parameters), strict=True):
            part.copy_(torch.zeros_like(part) if parameter.grad is None else parameter.grad)
        return loss, None, ""


def _split(flat: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Views of a flat tensor in the shapes of the parameters."""
    pieces = flat.split([parameter.numel() for parameter in parameters])  # type: ignore[no-untyped-call]
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
