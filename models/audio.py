"""YAMNet: 0.975 s of sound in, one token out.

Architecture: MobileNet v1 (Howard et al., "MobileNets", 2017, table 1) on a log-mel picture of 96 frames by 64 bands,
as Plakal and Ellis published it with weights trained on AudioSet. The batch norms come folded into the convolutions.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.features import LogMel

if TYPE_CHECKING:
    import onnx

WIDTH = 1024
CLASSES = 521
_STEM = 32
# output channels and stride of each depthwise-separable layer after the stem
_LAYERS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class ConvRelu(nn.Module):
    """Convolution with bias, then ReLU; with stride 2 only the end is padded (TensorFlow's SAME on even sizes)."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.uneven = (0, 1, 0, 1) if stride == 2 else None
        self.conv = nn.Conv2d(inside, outside, kernel, stride, 0 if self.uneven else kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 `[B, in, H, W]` -> `[B, out, H/stride, W/stride]`."""
        if self.uneven is not None:
            x = F.pad(x, self.uneven)
        return F.relu(self.conv(x))


class AudioEncoder(nn.Module):
    """Waveform float32 `[B, 15600]` in [-1, 1] at 16 kHz -> float32 `[B, 1024]`: pooled features before the classifier.

    `classifier` is AudioSet's linear layer on them (`weight` `[521, 1024]`, a sigmoid each); forward leaves it out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = LogMel()
        layers = [ConvRelu(1, _STEM, 3, stride=2)]
        inside = _STEM
        for outside, stride in _LAYERS:
            layers.append(ConvRelu(inside, inside, 3, stride, groups=inside))
            layers.append(ConvRelu(inside, outside, 1))
            inside = outside
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        x = self.body(self.features(waveform).unsqueeze(1))
        return cast(Tensor, x.mean(dim=(2, 3)))


def load(path: Path) -> AudioEncoder:
    """The encoder with the published weights of `YamNet_w8a8.onnx.zip`, in evaluation mode.

    That graph quantises its weights at run time; the float32 tensors it starts from are read here, in graph order.
    Raises ValueError, naming the file, where it holds another graph.
    """
    encoder = AudioEncoder()
    layers: list[nn.Conv2d | nn.Linear] = [layer.conv for layer in encoder.body if isinstance(layer, ConvRelu)]
    layers.append(encoder.classifier)
    try:
        graph = _Graph(path)
        pairs = [graph.weights(node) for node in graph.nodes("Conv")]
        pairs += [graph.weights(node) for node in graph.nodes("Gemm")]
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, pairs, strict=True):
                if tuple(layer.weight.shape) != weight.shape or layer.bias is None:
                    raise ValueError(f"a layer of shape {weight.shape} where {tuple(layer.weight.shape)} belongs")
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: not the published weights of YAMNet ({error})") from error
    return encoder.eval()


class _Graph:
    """An ONNX graph and its initialisers, read from the zip that holds `*.onnx` and `*.data` without unpacking it."""

    def __init__(self, path: Path) -> None:
        # Imported here: onnx takes a while to import, and only loading needs it.
        import onnx

        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            graph_name = next((name for name in names if name.endswith(".onnx")), None)
            if graph_name is None:
                raise ValueError("no .onnx inside")
            model = onnx.load_model_from_string(archive.read(graph_name))
            # Decompressed whole and once: a seek in a compressed member starts again from its beginning.
            data = {name.rpartition("/")[2]: archive.read(name) for name in names if name.endswith(".data")}
        self._model = model
        self._arrays = {tensor.name: _array(tensor, data) for tensor in model.graph.initializer}

    def nodes(self, kind: str) -> list[onnx.NodeProto]:
        """Every node of one operator, in graph order."""
        return [node for node in self._model.graph.node if node.op_type == kind]

    def weights(self, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of a node, from before the quantising nodes in between (their output is suffixed `_qdq`)."""
        weight, bias = (self._arrays[name.removesuffix("_qdq")] for name in node.input[1:3])
        return weight.astype(np.float32), bias.astype(np.float32)


def _array(tensor: onnx.TensorProto, data: Mapping[str, bytes]) -> NDArray[np.generic]:
    """An initialiser's values, wherever they lie: in the graph, or in a data file (its bytes by name) beside it."""
    import onnx
    from onnx import numpy_helper

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return cast("NDArray[np.generic]", numpy_helper.to_array(tensor))
    place = {entry.key: entry.value for entry in tensor.external_data}
    start = int(place.get("offset", "0"))
    raw = data[place["location"]][start : start + int(place["length"])]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.frombuffer(raw, dtype=dtype).reshape(tuple(tensor.dims)).copy()
