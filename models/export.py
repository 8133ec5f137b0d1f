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

from models import whisper
from models.checkpoint import TAGS, Checkpoint, CheckpointError, cannot_keep, source_key, tells_labels
from models.weights import Weights, cache_dir

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """ONNX files, every first axis dynamic. The last three say why, and are not needed to label. W and W' are the
    geometry's widths; a graph that a checkpoint has no use for is None.

    frame: `pixels` uint8 `[B, S, S, 3]` -> `token` float32 `[B, W]`.
    frame_int8: the same in 8-bit arithmetic, tokens near those of `frame` (see models.quantise); of the frozen encoder.
    audio: `waveform` float32 `[B, patch_samples]` -> `token` float32 `[B, W']`.
    fusion: `video` float32 `[B, Tv, W]`, `video_mask` float32 `[B, Tv]`, `audio` float32 `[B, Ta, W']`,
    `audio_mask` float32 `[B, Ta]` -> `scores` float32 `[B, L]`, `shares` float32 `[B, L, 3]`; Tv and Ta dynamic too.
    That of a learned checkpoint takes `video_when` and `audio_when` as well, float32 like the masks, seconds from the
    window's start to the item's moment (a picture's time, a patch's middle). Words are `text` int64 `[B, Tt]`, their
    numbers in the checkpoint's vocabulary, `text_mask` and `text_when` (a word's middle). It takes nothing of a
    modality that it does not read, and gives `odds` float32 `[B, L]`, of which `scores` is the sigmoid.
    moments: of `tags`: as fusion, and what each label rests on: `video_each`, `video_mass` float32 `[B, Tv, L]`,
    `audio_each`, `audio_mass` float32 `[B, Ta, L]` (see models.moments).
    features: of the frozen frame encoder: `quickest_frame()` itself, which also gives what it takes the mean of,
    `features` float32 `[B, 1280, h, w]`.
    heat: of `tags`: `features` float32 `[B, 1280, h, w]`, `label` int64 `[B]` -> `heat` float32 `[B, h, w]` (see
    models.cam).
    """

    fusion: Path
    frame: Path | None = None
    frame_int8: Path | None = None
    audio: Path | None = None
    moments: Path | None = None
    features: Path | None = None
    heat: Path | None = None

    def quickest_frame(self) -> Path | None:
        """The frame graph to serve with on this processor: in 8 bits where that is quicker and exact enough."""
        return self.frame if self.frame is None or self.frame_int8 is None else _quickest(self.frame, self.frame_int8)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A graph's inputs by example, their names and dynamic axes, and the names of its outputs."""

    inputs: Mapping[str, Tensor]
    axes: Sequence[Mapping[int, str]]
    outputs: Sequence[str]


def export(checkpoint: Checkpoint, weights: Weights) -> Exported:
    """The checkpoint's graphs, from the cache or exported now (some 15 s). Two processes may do this at once.

    Raises CheckpointError where the cache can't be written, and for a checkpoint that can't be served.
    """
    tells_labels(checkpoint)
    return _export_tags(checkpoint, weights) if checkpoint.kind == TAGS else _export_learned(checkpoint, weights)


def _export_tags(checkpoint: Checkpoint, weights: Weights) -> Exported:
    folder, digest = cache_dir() / "onnx", checkpoint.digest()
    frame, frame_int8, features = _frozen_frame(checkpoint, weights)
    fusion = folder / f"fusion-{digest}-{source_key('export.py', 'fusion/noisy_or.py')}.onnx"
    moments = folder / f"moments-{digest}-{source_key('export.py', 'fusion/noisy_or.py', 'moments.py')}.onnx"
    heat = folder / f"heat-{digest}-{source_key('export.py', 'fusion/noisy_or.py', 'cam.py')}.onnx"
    _once(fusion, lambda path: _export_fusion(path, checkpoint))
    _once(moments, lambda path: _export_moments(path, checkpoint))
    _once(heat, lambda path: _export_heat(path, checkpoint))
    return Exported(fusion, frame, frame_int8, _frozen_audio(checkpoint, weights), moments, features, heat)


def _export_learned(checkpoint: Checkpoint, weights: Weights) -> Exported:
    """Encoders that are frozen are those of every checkpoint; those that it carries, and its fusion, are its own."""
    folder = cache_dir() / "onnx"
    own = f"{checkpoint.digest()}-{source_key(*_learned_sources())}.onnx"
    frame = frame_int8 = features = audio = None
    if "frame" in checkpoint.encoders:
        frame, frame_int8, features = _frozen_frame(checkpoint, weights)
    elif "video" in checkpoint.modalities:
        frame = folder / f"frame-{own}"
        _once(frame, lambda path: _export_items(path, checkpoint, "video"))
    if "audio" in checkpoint.encoders:
        audio = _frozen_audio(checkpoint, weights)
    elif whisper.ROLE in checkpoint.encoders:
        audio = _frozen_whisper(weights)
    elif "audio" in checkpoint.modalities:
        audio = folder / f"audio-{own}"
        _once(audio, lambda path: _export_items(path, checkpoint, "audio"))
    fusion = folder / f"fusion-{own}"
    _once(fusion, lambda path: _export_served(path, checkpoint))
    return Exported(fusion, frame, frame_int8, audio, features=features)


def _learned_sources() -> list[str]:
    """What the graphs of a learned checkpoint are made by: its encoders and fusion may be any of these."""
    here = Path(__file__).parent
    return sorted(str(path.relative_to(here)) for pattern in ("*.py", "fusion/*.py") for path in here.glob(pattern))


def _frozen_frame(checkpoint: Checkpoint, weights: Weights) -> tuple[Path, Path, Path]:
    """The frozen frame encoder's graph, the same in 8 bits, and the quicker of them with its features."""
    folder = cache_dir() / "onnx"
    code = source_key("export.py", "features.py", "frame.py", "audio.py", "quantise.py")
    made_of = f"{checkpoint.geometry.frame_size}-{weights.key(['frame'])}-{code}.onnx"
    frame, frame_int8 = folder / f"frame-{made_of}", folder / f"frame-int8-{made_of}"
    quickest = _quickest(frame, frame_int8)
    features = folder / f"features-of-{quickest.name}"
    _once(frame, lambda path: _export_frame(path, checkpoint, weights))
    _once(frame_int8, lambda path: _export_frame_int8(path, checkpoint, weights))
    _once(features, lambda path: _export_features(path, quickest))
    return frame, frame_int8, features


def _frozen_audio(checkpoint: Checkpoint, weights: Weights) -> Path:
    code = source_key("export.py", "features.py", "frame.py", "audio.py", "quantise.py")
    audio = cache_dir() / "onnx" / f"audio-{weights.key(['audio'])}-{code}.onnx"
    _once(audio, lambda path: _export_audio(path, checkpoint, weights))
    return audio


def _frozen_whisper(weights: Weights) -> Path:
    code = source_key("export.py", "features.py", "whisper_encoder.py")
    audio = cache_dir() / "onnx" / f"whisper-{weights.key([whisper.ROLE])}-{code}.onnx"
    _once(audio, lambda path: _export_whisper(path, weights))
    return audio


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


def _export_whisper(path: Path, weights: Weights) -> None:
    import torch

    from models import features, whisper_encoder

    waveform = torch.zeros(2, features.PATCH_SAMPLES)
    encoder = whisper_encoder.load(weights.files[whisper.ROLE])
    _write(encoder, _Shape({"waveform": waveform}, [{0: "batch"}], ["token"]), path)


def _export_items(path: Path, checkpoint: Checkpoint, modality: str) -> None:
    """A carried encoder's graph, of one item at a time."""
    import torch

    from models.served import Items

    geometry, encoder = checkpoint.geometry, checkpoint.learned().network.encoder(modality)
    if modality == "video":
        size = geometry.frame_size
        items, name = torch.zeros(2, size, size, 3, dtype=torch.uint8), "pixels"
    else:
        items, name = torch.zeros(2, geometry.patch_samples), "waveform"
    _write(Items(encoder), _Shape({name: items}, [{0: "batch"}], ["token"]), path)


def _export_served(path: Path, checkpoint: Checkpoint) -> None:
    import torch

    from models.served import Served

    loaded, geometry = checkpoint.learned(), checkpoint.geometry
    served = Served(loaded.network, loaded.calibration)
    widths = {"video": geometry.video_width, "audio": geometry.audio_width}
    # Sizes that differ from one another and from 1, so that the exporter ties no two axes together.
    counts, axis = {"video": 4, "audio": 5, "text": 6}, {"video": "frames", "audio": "patches", "text": "words"}
    batch = 3
    inputs: dict[str, Tensor] = {}
    axes: list[Mapping[int, str]] = []
    for name in served.modalities:
        numbers = torch.zeros(batch, counts[name], dtype=torch.int64)
        inputs[name] = numbers if name == "text" else torch.zeros(batch, counts[name], widths[name])
        inputs[f"{name}_mask"] = torch.ones(batch, counts[name])
        inputs[f"{name}_when"] = torch.linspace(0, 1, counts[name]).expand(batch, -1).clone()
        axes += [{0: "batch", 1: axis[name]}] * 3
    _write(served, _Shape(inputs, axes, ["scores", "shares", "odds"]), path)


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
