"""The network as ONNX graphs for CPU serving, made once and kept in the cache.

The exporter and torch are imported only when a graph has to be made: a start that finds them all is one without torch.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint import Checkpoint, CheckpointError, cannot_keep, source_key
from models.weights import Weights, cache_dir

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """ONNX files, every first axis dynamic. The last three say why, and are not needed to label.

    frame: `pixels` uint8 `[B, S, S, 3]` -> `token` float32 `[B, 1280]`.
    frame_int8: the same in 8-bit arithmetic, tokens near those of `frame` (see models.quantise).
    audio: `waveform` float32 `[B, 15600]` -> `token` float32 `[B, 1024]`.
    fusion: `video` float32 `[B, Tv, 1280]`, `video_mask` float32 `[B, Tv]`, `audio` float32 `[B, Ta, 1024]`,
    `audio_mask` float32 `[B, Ta]` -> `scores` float32 `[B, L]`, `shares` float32 `[B, L, 3]`; Tv and Ta dynamic too.
    moments: as fusion, and what each label rests on: `video_each`, `video_mass` float32 `[B, Tv, L]`, `audio_each`,
    `audio_mass` float32 `[B, Ta, L]` (see models.moments).
    features: `quickest_frame()` itself, which also gives what it takes the mean of, `features` float32
    `[B, 1280, h, w]`.
    heat: `features` float32 `[B, 1280, h, w]`, `label` int64 `[B]` -> `heat` float32 `[B, h, w]` (see models.cam).
    """

    frame: Path
    frame_int8: Path
    audio: Path
    fusion: Path
    moments: Path
    features: Path
    heat: Path

    def quickest_frame(self) -> Path:
        """The frame graph to serve with on this processor: in 8 bits where that is quicker and exact enough."""
        return _quickest(self.frame, self.frame_int8)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A graph's inputs by example, their names and dynamic axes, and the names of its outputs."""

    inputs: Mapping[str, Tensor]
    axes: Sequence[Mapping[int, str]]
    outputs: Sequence[str]


def export(checkpoint: Checkpoint, weights: Weights) -> Exported:
    """The checkpoint's graphs, from the cache or exported now (some 15 s). Two processes may do this at once.

    Raises CheckpointError where the cache can't be written.
    """
    folder = cache_dir() / "onnx"
    code = source_key("export.py", "features.py", "frame.py", "audio.py", "quantise.py")
    fusion_code = source_key("export.py", "fusion/noisy_or.py")
    frame = folder / f"frame-{weights.key(['frame'])}-{code}.onnx"
    frame_int8 = folder / f"frame-int8-{weights.key(['frame'])}-{code}.onnx"
    digest = checkpoint.digest()
    exported = Exported(
        frame=frame,
        frame_int8=frame_int8,
        audio=folder / f"audio-{weights.key(['audio'])}-{code}.onnx",
        fusion=folder / f"fusion-{digest}-{fusion_code}.onnx",
        moments=folder / f"moments-{digest}-{source_key('export.py', 'fusion/noisy_or.py', 'moments.py')}.onnx",
        features=folder / f"features-of-{_quickest(frame, frame_int8).name}",
        heat=folder / f"heat-{digest}-{source_key('export.py', 'fusion/noisy_or.py', 'cam.py')}.onnx",
    )
    _once(exported.frame, lambda path: _export_frame(path, checkpoint, weights))
    _once(exported.frame_int8, lambda path: _export_frame_int8(path, checkpoint, weights))
    _once(exported.audio, lambda path: _export_audio(path, checkpoint, weights))
    _once(exported.fusion, lambda path: _export_fusion(path, checkpoint))
    _once(exported.moments, lambda path: _export_moments(path, checkpoint))
    _once(exported.features, lambda path: _export_features(path, exported.quickest_frame()))
    _once(exported.heat, lambda path: _export_heat(path, checkpoint))
    return exported


def _quickest(frame: Path, frame_int8: Path) -> Path:
    return frame_int8 if has_byte_dot_products() else frame


def _once(path: Path, make: Callable[[Path], None]) -> None:
    """Makes a file unless it is there; it appears whole or not at all."""
    if path.is_file():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="export-", dir=path.parent) as scratch:
            make(Path(scratch) / path.name)
            os.replace(Path(scratch) / path.name, path)
    except OSError as error:
        raise CheckpointError(cannot_keep(path, error)) from error


def _export_frame(path: Path, checkpoint: Checkpoint, weights: Weights) -> None:
    import torch

    from models import frame

    size = checkpoint.geometry.frame_size
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    _write(frame.load(weights.frame).folded(), _Shape({"pixels": pixels}, [{0: "batch"}], ["token"]), path)


def _export_frame_int8(path: Path, checkpoint: Checkpoint, weights: Weights) -> None:
    from models import frame, quantise

    graph = quantise.frame_graph(frame.load(weights.frame), checkpoint.geometry.frame_size)
    path.write_bytes(graph.SerializeToString())


def _export_audio(path: Path, checkpoint: Checkpoint, weights: Weights) -> None:
    import torch

    from models import audio

    waveform = torch.zeros(2, checkpoint.geometry.patch_samples)
    _write(audio.load(weights.audio), _Shape({"waveform": waveform}, [{0: "batch"}], ["token"]), path)


def _export_fusion(path: Path, checkpoint: Checkpoint) -> None:
    _write(checkpoint.fusion(), _fusion_shape(checkpoint, ["scores", "shares"]), path)


def _export_moments(path: Path, checkpoint: Checkpoint) -> None:
    from models.moments import Moments

    outputs = ["scores", "shares", "video_each", "video_mass", "audio_each", "audio_mass"]
    _write(Moments(checkpoint.fusion()), _fusion_shape(checkpoint, outputs), path)


def _fusion_shape(checkpoint: Checkpoint, outputs: Sequence[str]) -> _Shape:
    import torch

    geometry = checkpoint.geometry
    # Sizes that differ from one another and from 1, so that the exporter ties no two axes together.
    batch, frames, patches = 2, 4, 5
    inputs = {
        "video": torch.zeros(batch, frames, geometry.video_width),
        "video_mask": torch.ones(batch, frames),
        "audio": torch.zeros(batch, patches, geometry.audio_width),
        "audio_mask": torch.ones(batch, patches),
    }
    axes = [{0: "batch", 1: "frames"}] * 2 + [{0: "batch", 1: "patches"}] * 2
    return _Shape(inputs, axes, outputs)


def _export_features(path: Path, frame: Path) -> None:
    """The graph as it is served, with one output more: what is explained is what was computed, to the last bit."""
    import onnx

    model = onnx.load(frame)
    pooling = next(node for node in model.graph.node if "token" in node.output)
    if pooling.op_type != "ReduceMean":
        raise RuntimeError(f"{frame}: the token is not a mean over positions but comes from {pooling.op_type}")
    model.graph.node.append(onnx.helper.make_node("Identity", [pooling.input[0]], ["features"], "features"))
    axes = ["batch", None, "rows", "columns"]
    model.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, axes))
    path.write_bytes(model.SerializeToString())


def _export_heat(path: Path, checkpoint: Checkpoint) -> None:
    import torch

    from models.cam import HeatMap

    inputs = {"features": torch.zeros(2, checkpoint.geometry.video_width, 3, 4), "label": torch.zeros(2).long()}
    axes = [{0: "batch", 2: "rows", 3: "columns"}, {0: "batch"}]
    _write(HeatMap(checkpoint.fusion().video), _Shape(inputs, axes, ["heat"]), path)


def _write(module: nn.Module, shape: _Shape, path: Path) -> None:
    """Exports a module in evaluation mode."""
    import torch
    from torch.export import Dim

    dims = {name: Dim(name) for axes in shape.axes for name in axes.values()}
    with _quiet(), torch.no_grad():
        # The exporter that traces by torch.export: its graph keeps uneven padding where the runtime can merge it into
        # the convolutions, which is a third quicker than the older exporter's.
        program = torch.onnx.export(
            module.eval(),
            tuple(shape.inputs.values()),
            input_names=list(shape.inputs),
            output_names=list(shape.outputs),
            dynamic_shapes=tuple({axis: dims[name] for axis, name in axes.items()} for axes in shape.axes),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no program back")
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks (no torchvision, deprecations) off the user's terminal; errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def has_byte_dot_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor sums products of bytes in one step of 32 bits (x86 with VNNI); False if not known."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags.split())
