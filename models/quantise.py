"""The frame encoder in 8-bit arithmetic, made from its float weights alone: no pictures are needed to fit it.

An activation's range comes from the batch norm that made it: its mean and deviation in each channel are known, and six
deviations hold nearly everything (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019). Weights are signed with one scale a channel, activations unsigned with one scale a tensor. Pixels
enter as they are: (x - 127) / 128 is how an 8-bit tensor with scale 1/128 and zero at 127 is read.

Twice as quick as float32 on a processor with 8-bit dot products (VNNI). Without them the runtime adds pairs of products
in 16 bits, which can overflow: `models.export.has_byte_dot_products` tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.features import PIXEL_MEAN, PIXEL_SCALE
from models.frame import WIDTH, Block, ConvNorm, FrameEncoder

if TYPE_CHECKING:
    import onnx

OPSET = 18
_IR_VERSION = 9  # of the same time as the opset: every runtime that reads the opset reads it
_DEVIATIONS = 6.0
_TOP = 6.0  # where ReLU6 ends


@dataclass(frozen=True, slots=True)
class _Spread:
    """Mean and standard deviation of an activation in each channel, float64 `[C]`."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def after(cls, layer: nn.Module) -> _Spread:
        """What a layer's batch norm makes of anything."""
        assert isinstance(layer, ConvNorm) and isinstance(layer.norm, nn.BatchNorm2d)
        return cls(
            layer.norm.bias.detach().numpy().astype(np.float64),
            np.abs(layer.norm.weight.detach().numpy()).astype(np.float64),
        )

    def plus(self, other: _Spread) -> _Spread:
        """The sum of two activations that don't go together."""
        return _Spread(self.mean + other.mean, np.hypot(self.deviation, other.deviation))

    def limits(self, active: bool) -> tuple[float, float]:
        """The lowest and highest value worth telling apart; `active`: after ReLU6."""
        low = float((self.mean - _DEVIATIONS * self.deviation).min())
        high = float((self.mean + _DEVIATIONS * self.deviation).max())
        return (0.0, min(high, _TOP)) if active else (min(low, 0.0), max(high, 0.0))


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A uint8 tensor of the graph that stands for `scale * (byte - zero)`."""

    name: str
    scale: np.float32
    zero: np.uint8

    @classmethod
    def over(cls, name: str, limits: tuple[float, float]) -> _Bytes:
        """256 steps from one limit to the other, one of them on 0 exactly."""
        low, high = limits
        scale = np.float32(max(high - low, 1e-6) / 255)
        return cls(name, scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255)))


@dataclass(slots=True)
class _Graph:
    """Nodes and constants of an ONNX graph in the making."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Appends a node with one output, which it is named after."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], output, domain=domain, **attributes))
        return output

    def constant(self, name: str, value: object) -> str:
        """Appends a constant."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def scale_and_zero(self, tensor: _Bytes, use: str) -> list[str]:
        """Both constants of a tensor, for one use of it."""
        return [self.constant(f"{use}.scale", tensor.scale), self.constant(f"{use}.zero", tensor.zero)]

    def convolve(self, x: _Bytes, layer: nn.Module, output: _Bytes) -> _Bytes:
        """A folded layer. ReLU6 costs nothing: the output's range ends where it does."""
        assert isinstance(layer, ConvNorm) and isinstance(layer.conv, nn.Conv2d) and layer.conv.bias is not None
        name = output.name
        weight = layer.conv.weight.detach().numpy()
        bias = layer.conv.bias.detach().numpy()
        # A channel of tiny weights takes its scale from its bias, which must fit 32 bits in steps of scale * x.scale.
        largest = np.abs(weight).max(axis=(1, 2, 3))
        scale = np.maximum(largest / 127, np.abs(bias) / (float(x.scale) * 2**30)).astype(np.float32)
        scale = np.maximum(scale, np.float32(1e-12))
        before, after = layer.uneven or (int(layer.conv.padding[0]), int(layer.conv.padding[0]))
        inputs = [x.name, *self.scale_and_zero(x, f"{name}.in")]
        inputs.append(self.constant(f"{name}.weight", np.round(weight / scale[:, None, None, None]).astype(np.int8)))
        inputs.append(self.constant(f"{name}.weight.scale", scale))
        inputs.append(self.constant(f"{name}.weight.zero", np.zeros(len(scale), np.int8)))
        inputs += self.scale_and_zero(output, f"{name}.out")
        inputs.append(self.constant(f"{name}.bias", np.round(bias / (x.scale * scale)).astype(np.int32)))
        self.add(
            "QLinearConv",
            inputs,
            name,
            kernel_shape=list(layer.conv.kernel_size),
            strides=list(layer.conv.stride),
            pads=[before, before, after, after],
            group=layer.conv.groups,
        )
        return output

    def sum(self, a: _Bytes, b: _Bytes, output: _Bytes) -> _Bytes:
        """A residual connection."""
        inputs = [a.name, *self.scale_and_zero(a, f"{output.name}.a"), b.name]
        inputs += [*self.scale_and_zero(b, f"{output.name}.b"), *self.scale_and_zero(output, f"{output.name}.out")]
        self.add("QLinearAdd", inputs, output.name, domain="com.microsoft")
        return output


def frame_graph(encoder: FrameEncoder, size: int) -> onnx.ModelProto:
    """An encoder as a graph: `pixels` uint8 `[B, size, size, 3]` -> `token` float32 `[B, 1280]`.

    The encoder's batch norms must not be folded yet: the ranges come from them.
    """
    from onnx import TensorProto, helper

    folded = encoder.folded()
    graph = _Graph()
    turned = graph.add("Transpose", ["pixels"], "planes", perm=[0, 3, 1, 2])
    pixels = _Bytes(turned, np.float32(1 / PIXEL_SCALE), np.uint8(PIXEL_MEAN))
    spread = _Spread.after(encoder.stem)
    x = graph.convolve(pixels, folded.stem, _Bytes.over("stem", spread.limits(active=True)))
    for number, (block, twin) in enumerate(zip(encoder.blocks, folded.blocks, strict=True)):
        assert isinstance(block, Block) and isinstance(twin, Block)
        x, spread = _block(graph, x, spread, block, twin, f"blocks.{number}")
    top = _Bytes.over("head", _Spread.after(encoder.head).limits(active=True))
    x = graph.convolve(x, folded.head, top)
    floats = graph.add("DequantizeLinear", [x.name, *graph.scale_and_zero(x, "head.float")], "floats")
    graph.add("ReduceMean", [floats, graph.constant("axes", np.array([2, 3]))], "token", keepdims=0)
    body = helper.make_graph(
        graph.nodes,
        "frame_encoder_int8",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info("token", TensorProto.FLOAT, ["batch", WIDTH])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=_IR_VERSION)


def _block(graph: _Graph, x: _Bytes, spread: _Spread, block: Block, twin: Block, name: str) -> tuple[_Bytes, _Spread]:
    """One inverted residual: the bytes that leave it, and their spread."""
    entered, entered_spread = x, spread
    if isinstance(block.expand, ConvNorm):
        limits = _Spread.after(block.expand).limits(active=True)
        x = graph.convolve(x, twin.expand, _Bytes.over(f"{name}.expand", limits))
    limits = _Spread.after(block.depthwise).limits(active=True)
    x = graph.convolve(x, twin.depthwise, _Bytes.over(f"{name}.depthwise", limits))
    spread = _Spread.after(block.project)
    x = graph.convolve(x, twin.project, _Bytes.over(f"{name}.project", spread.limits(active=False)))
    if block.residual:
        spread = spread.plus(entered_spread)
        x = graph.sum(entered, x, _Bytes.over(name, spread.limits(active=False)))
    return x, spread
