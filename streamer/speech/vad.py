"""Where a voice is, by Silero VAD (snakers4/silero-vad, version 6) under ONNX Runtime. Numpy in, numpy out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Its wheels report to their maker over the network unless told not to before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

STEP = 512
"""Samples of one step, 32 ms."""
_CONTEXT = 64
_STATE = 128


class VoiceDetector:
    """The network, shared by all streams; what it remembers of each is in that stream's `VoiceState`.

    Its recurrent part goes through the steps of one call one after another, so streams can't share a call; but several
    steps of a stream do, at half the cost of calls of their own.
    """

    def __init__(self, graph: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Calls come in many lengths, and the memory of each would be kept for ever.
        options.enable_cpu_mem_arena = False
        self._session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def listen(self, state: VoiceState, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """How likely there is a voice in each step of STEP samples that is complete now, float32 `[steps]` in [0, 1].

        Args:
            samples: float32 `[n]`, 16 kHz mono; what is left over of a step waits in `state` for the next call.
        """
        sound = np.concatenate([state.rest, samples])
        steps = len(sound) // STEP
        state.rest = sound[steps * STEP :]
        if not steps:
            return np.zeros(0, np.float32)
        cut = sound[: steps * STEP].reshape(steps, STEP)
        ends = np.concatenate([state.context[None], cut[:, -_CONTEXT:]])
        state.context = ends[-1].copy()
        fed = {"input": np.concatenate([ends[:-1], cut], axis=1), "h": state.hidden, "c": state.cell}
        voices, state.hidden, state.cell = self._session.run(None, fed)
        return np.asarray(voices, np.float32).reshape(-1)


class VoiceState:
    """What the network remembers of one stream's sound."""

    __slots__ = ("cell", "context", "hidden", "rest")

    def __init__(self) -> None:
        self.hidden = np.zeros((1, 1, _STATE), np.float32)
        self.cell = np.zeros((1, 1, _STATE), np.float32)
        self.context = np.zeros(_CONTEXT, np.float32)
        self.rest = np.zeros(0, np.float32)
