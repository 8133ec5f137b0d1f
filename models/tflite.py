"""The weights in a TensorFlow Lite file, in the order in which its graph uses them.

Only the constants are read, by the format's published schema (as the `tflite` package holds it); nothing is run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TFLiteError(ValueError):
    """The bytes are no TensorFlow Lite file, or of a kind that isn't read here; the message says which."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """Weight float32 `[out, in / groups, height, width]` and bias float32 `[out]`, as torch lays them out."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def convolutions(data: bytes) -> list[Convolution]:
    """Every convolution of the file's first graph, ordinary and depthwise, in graph order.

    Raises:
        TFLiteError: the bytes are damaged, or their weights are neither float32 nor float16.
    """
    try:
        return list(_read(data))
    # What reading beyond the end, or an offset to nowhere, comes to in the schema's generated code.
    except (struct.error, IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise TFLiteError(f"no readable TensorFlow Lite file: {error}") from error


def _read(data: bytes) -> Iterator[Convolution]:
    # Imported here: only who makes a graph needs it.
    import tflite

    if not tflite.Model.ModelBufferHasIdentifier(data, 0):
        raise ValueError("it doesn't begin as one")
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    # Weights kept in 16 bits are widened by an operator of their own; they are known by what comes out of it.
    widened: dict[int, int] = {}
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # A code above 127 stands in the second field; the first was all there was once.
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            widened[operator.Outputs(0)] = operator.Inputs(0)
        elif kind in (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D):
            weight, bias = (
                _constant(model, graph, widened.get(operator.Inputs(number), operator.Inputs(number)))
                for number in (1, 2)
            )
            # [out, h, w, in] there; a depthwise one is [1, h, w, out].
            order = (0, 3, 1, 2) if kind == tflite.BuiltinOperator.CONV_2D else (3, 0, 1, 2)
            yield Convolution(np.ascontiguousarray(weight.transpose(order)), bias)


def _constant(model: Any, graph: Any, tensor: int) -> NDArray[np.float32]:
    import tflite

    described = graph.Tensors(tensor)
    dtypes = {tflite.TensorType.FLOAT32: "<f4", tflite.TensorType.FLOAT16: "<f2"}
    if described.Type() not in dtypes:
        raise ValueError(f"weights of type {described.Type()}, which is neither float32 nor float16")
    raw = model.Buffers(described.Buffer()).DataAsNumpy()
    values = np.frombuffer(raw.tobytes(), dtypes[described.Type()])
    return values.reshape(described.ShapeAsNumpy()).astype(np.float32)
