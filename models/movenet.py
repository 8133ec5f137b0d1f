"""What finds people, made ready for serving: MoveNet MultiPose as an ONNX graph, made once and kept in the cache.

torch and its exporter are imported only when the graph has to be made: a start that finds it is one without them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint import source_key
from models.tflite import convolutions

if TYPE_CHECKING:
    from models.multipose import MultiPose

_MEMBER = "models/movenet.tflite"
_OPSET = 20


class MoveNetError(Exception):
    """The weights can't be read, or are another network's; the message names the file and what to do about it."""


def graph_of(weights_file: Path, cache_dir: Path) -> Path:
    """The ONNX graph of the published weights, from the cache or made now (some 20 s).

    Its input is "pixels", uint8 `[B, 256, 256, 3]` RGB, its output "people", float32 `[B, 6, 56]` (see
    models.multipose.MultiPose), for any B. It appears whole or not at all: two processes may make it at once.

    Raises:
        MoveNetError: the file isn't what it should be.
        OSError: it can't be read, or the cache can't be written.
    """
    with weights_file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    code = source_key("movenet.py", "multipose.py", "tflite.py")
    graph = cache_dir / "onnx" / f"people-{digest}-{code}.onnx"
    if not graph.is_file():
        graph.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="export-", dir=graph.parent) as scratch:
            made = Path(scratch) / graph.name
            made.write_bytes(people_graph(load(weights_file)))
            os.replace(made, graph)
    return graph


def load(weights_file: Path) -> MultiPose:
    """The network with the published weights, in evaluation mode.

    Args:
        weights_file: the zip that has the TensorFlow Lite file in it.

    Raises:
        MoveNetError: the file isn't what it should be.
        OSError: it can't be read.
    """
    from models.multipose import MultiPose

    try:
        weights = convolutions(tflite_of(weights_file))
        network = MultiPose()
        network.load(weights)
    except ValueError as error:
        raise MoveNetError(
            f"{weights_file}: not the published weights of MoveNet MultiPose ({error}); fetch them again"
        ) from error
    return network.eval()


def tflite_of(weights_file: Path) -> bytes:
    """The published TensorFlow Lite file, out of the zip that it is packed in.

    Raises:
        MoveNetError: the file is no such zip.
        OSError: it can't be read.
    """
    try:
        with zipfile.ZipFile(weights_file) as archive:
            return archive.read(_MEMBER)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        raise MoveNetError(f"{weights_file}: damaged, or no weights of MoveNet; fetch them again ({error})") from error


def people_graph(network: MultiPose) -> bytes:
    """The network as a serialised ONNX model (see `graph_of`)."""
    import torch
    from torch.export import Dim

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    # The exporter's remarks (no torchvision, deprecations) are nothing to the user; errors still raise.
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(),
                (torch.zeros(2, 256, 256, 3, dtype=torch.uint8),),
                input_names=["pixels"],
                output_names=["people"],
                dynamic_shapes=({0: Dim("batch")},),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise RuntimeError("the exporter gave no program back")
    return bytes(program.model_proto.SerializeToString())
