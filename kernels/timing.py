"""Times of calls on a device, and what the device can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch


class Clock:
    """Times calls on a device: percentiles of the time a call, in microseconds."""

    def __init__(self, device: torch.device, rounds: int, repeats: int) -> None:
        self.device, self.rounds, self.repeats = device, rounds, repeats
        if device.type == "cuda":
            cache: int = torch.cuda.get_device_properties(device).L2_cache_size
            self._flood = torch.empty(max(2 * cache, 1 << 26) // 4, dtype=torch.int32, device=device)

    def percentiles(self, call: Callable[[], object], cold: bool) -> tuple[float, float, float]:
        """p20, p50 and p80 of `call` captured in a graph (of plain calls where there is no GPU)."""
        if self.device.type != "cuda":
            return _spread(self._plain(call))
        if not cold:
            return _spread(self._replays([call] * self.repeats))
        flush = self._flood.zero_
        alone = float(np.median(self._replays([flush] * self.repeats)))
        both = self._replays([flush, call] * self.repeats)
        return _spread([max(sample - alone, 0.0) for sample in both])

    def as_called(self, call: Callable[[], object]) -> tuple[float, float, float]:
        """The same without a graph: what launching from Python takes is in it."""
        if self.device.type != "cuda":
            return _spread(self._plain(call))
        for _ in range(3):
            call()
        return _spread([self._between(call) for _ in range(self.rounds)])

    def _replays(self, calls: Sequence[Callable[[], object]]) -> list[float]:
        """Samples of a graph of these calls, over `repeats`."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiling, tuning and first allocations are no part of a graph
            for call in calls[:2]:
                for _ in range(3):
                    call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        for _ in range(5):
            graph.replay()
        return [self._between(graph.replay) / self.repeats for _ in range(self.rounds)]

    def _between(self, call: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e3

    def _plain(self, call: Callable[[], object]) -> list[float]:
        samples = []
        for _ in range(self.rounds):
            begin = time.perf_counter()
            call()
            samples.append((time.perf_counter() - begin) * 1e6)
        return samples


def _spread(samples: Sequence[float]) -> tuple[float, float, float]:
    p20, p50, p80 = np.percentile(np.asarray(samples), [20, 50, 80])
    return float(p20), float(p50), float(p80)


def ceilings(device: torch.device, clock: Clock) -> tuple[float, float]:
    """Operations a second of a large bfloat16 matrix product, bytes a second of a large copy (read and written)."""
    side, length = (8192, 1 << 28) if device.type == "cuda" else (256, 1 << 20)
    a = torch.randn(side, side, device=device).bfloat16()
    b = torch.randn(side, side, device=device).bfloat16()
    source, target = torch.ones(length, device=device), torch.empty(length, device=device)
    product = clock.as_called(lambda: torch.mm(a, b))[1]
    copied = clock.as_called(lambda: target.copy_(source))[1]
    return 2 * side**3 / product * 1e6, 8 * length / copied * 1e6
