"""A checkpoint that somebody trained runs live, and offline it says what torch says of the same media."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint as checkpoints
from models.learning.batch import Part
from models.learning.keep import Loaded
from streamer.engine import load
from streamer.media import EpochStart, Frame, Geometry, Patch, Picture, StateChange, Window
from streamer.sources.replay import read_file
from streamer.window import Windower, WindowPolicy
from tests.cameras import ToolkitCamera
from tests.e2e.running import service
from tests.e2e.test_cli import segments_of, streamer
from tests.learned import FROZEN, LIPS, NAMES, learned_checkpoint

StartCamera = Callable[[Path], ToolkitCamera]
NS = 1_000_000_000


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint on the frozen encoders, of windows of 3 s."""
    return learned_checkpoint(tmp_path_factory.mktemp("frozen") / "mine.safetensors")


@pytest.fixture(scope="module")
def lips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that carries its encoders: lips at 25 pictures a second, and speech."""
    return learned_checkpoint(tmp_path_factory.mktemp("lips") / "lips.safetensors", LIPS)


@pytest.mark.parametrize("which", ["frozen", "lips"])
async def test_it_labels_a_live_camera_within_the_bound(
    which: str, request: pytest.FixtureRequest, looping_clip: Path, toolkit_camera: StartCamera
) -> None:
    """Segments come in order and in time, with the checkpoint's names, probabilities that sum to 1 over its classes,
    and shares that sum to 1; what a label rests on is told, and the names that can appear are its own."""
    path: Path = request.getfixturevalue(which)
    camera = toolkit_camera(looping_clip)
    load("cpu", None, model=str(path))  # exported before, or the service's start is what takes the time
    async with service("--source", f"door={camera.url}", "--model", str(path)) as running:
        segments = await running.first(8, "segment", within_s=30)
        assert [one["seq"] for one in segments] == list(range(segments[0]["seq"], segments[0]["seq"] + 8))
        assert {one["status"] for one in segments} == {"ok"}
        assert all(one["latency_ms"]["total"] <= one["bound_ms"] == 1000 for one in segments)
        assert segments[-1]["coverage"]["video"] > 0.95 and segments[-1]["coverage"]["audio"] > 0.95
        for segment in segments:
            assert {label["name"] for label in segment["labels"]} <= set(NAMES) and segment["labels"]
            assert sum(label["score"] for label in segment["labels"]) == pytest.approx(1.0, abs=0.16)  # under 0.05 none
            for label in segment["labels"]:
                assert sum(label["share"].values()) == pytest.approx(1.0, abs=1e-3) and label["share"]["text"] == 0.0
        listed = (await running.get("/v1/labels"))["labels"]
        assert [(label["name"], label["modalities"]) for label in listed] == [
            (name, ["video", "audio"]) for name in NAMES
        ]
        last = segments[-1]
        name = last["labels"][0]["name"]
        told = await running.get(f"/v1/streams/door/why/{last['seq']}?label={name}&epoch={last['epoch']}")
        assert told["label"] == name and told["video"] and told["audio"]
        assert told["score"] == last["labels"][0]["score"]
        assert (await running.call("GET", "/readyz"))[0] == 200


@pytest.mark.parametrize("which", ["frozen", "lips"])
def test_offline_it_says_what_torch_says(which: str, request: pytest.FixtureRequest, looping_clip: Path) -> None:
    """`streamer label --model` tells the scores that the network has for the same windows in torch, within 1e-3."""
    path: Path = request.getfixturevalue(which)
    result = streamer("label", "--json", "--model", path, looping_clip)
    assert result.returncode == 0, result.stderr
    (segments,) = segments_of(result).values()
    loaded, engine = checkpoints.read(path).learned(), load("cpu", None, model=str(path))
    windows = _windows(looping_clip, engine.geometry)
    assert len(windows) == len(segments)
    for window, segment in zip(windows, segments, strict=True):
        expected = _scores(loaded, window, engine.geometry, engine.run([window])[0].basis)
        told = {label["name"]: label["score"] for label in segment["labels"]}
        for name, score in zip(NAMES, expected.tolist(), strict=True):
            assert told.get(name, 0.0) == pytest.approx(score, abs=1e-3) or (name not in told and score < 0.051)


def _windows(path: Path, geometry: Geometry) -> list[Window]:
    windower, cut = Windower("clip", geometry, WindowPolicy(bound_ns=0, grace_ns=None)), []
    for event in read_file(path, geometry, geometry.frame_rates[0]):
        if isinstance(event, EpochStart):
            windower.begin("0", event)
        elif not isinstance(event, StateChange):
            windower.feed(event)
            cut += windower.poll(0)
    return [*cut, *windower.finish(0, tail=True)]


def _scores(loaded: Loaded, window: Window, geometry: Geometry, basis: object) -> torch.Tensor:
    """What torch says of a window: carried encoders see the media, the others' tokens are those that were served."""
    half_s = geometry.patch_ns / 2 / NS
    parts = {}
    for name, items, after_s in (("video", window.pictures, 0.0), ("audio", window.patches, half_s)):
        if not items:
            continue
        encoder = loaded.network.encoder(name)
        if type(encoder).__name__ == "FrozenEncoder":
            tokens = [token.values.astype(np.float32) for token in getattr(basis, name)]
            x = torch.from_numpy(np.stack(tokens))
        else:
            x = encoder.prepare(torch.from_numpy(np.stack([_media(item) for item in items])))
        when = torch.tensor([[(item.media_ns - window.start_ns) / NS + after_s for item in items]])
        parts[name] = Part(x[None], torch.ones(1, len(items), dtype=torch.bool), when)
    with torch.no_grad():
        return loaded.calibration.apply(loaded.network(parts))[0]


def _media(item: Picture | Patch) -> np.ndarray:
    return item.rgb if isinstance(item, Picture) else item.samples


def test_what_can_not_be_served_ends_with_one_line(tmp_path: Path, looping_clip: Path) -> None:
    """A path with nothing there, a text, a regression and pretrained encoders: exit 2, and one line that names it and
    says what to do, whichever command was asked."""
    text = tmp_path / "notes.txt"
    text.write_text("no tensors in here")
    numbers = learned_checkpoint(tmp_path / "offset.safetensors", replace(FROZEN, task="numbers"), names=("offset",))
    pretrained = learned_checkpoint(tmp_path / "pre.safetensors", kind="pretrained")
    wrong = {
        tmp_path / "none.safetensors": "no such checkpoint",
        text: "not a checkpoint",
        numbers: "tells numbers, which are no labels of a stream; score it on clips: streamer eval",
        pretrained: "holds pretrained encoders",
    }
    config = tmp_path / "streamer.yaml"
    for path, words in wrong.items():
        commands = [
            ("label", "--model", path, looping_clip),
            ("run", "--model", path, "--source", f"a=file:{looping_clip}", "--http", "127.0.0.1:0"),
        ]
        if path == numbers:
            commands.append(("weights", "--model", path))
        for command in commands:
            result = streamer(*command)
            assert result.returncode == 2, result.stderr
            (line,) = result.stderr.splitlines()
            assert words in line and str(path) in line and "Traceback" not in line
        config.write_text(f"model: {path}\nstreams: {{}}\n")
        result = streamer("check", config)
        assert result.returncode == 2 and f"{config}:1:8: {path}" in result.stderr


def test_rules_may_speak_of_what_the_model_tells(frozen: Path, tmp_path: Path) -> None:
    """The configuration's rules are checked against the names of the model that it names."""
    config = tmp_path / "streamer.yaml"
    rule = "alerts: [{{name: a, when: \"label('{}') > 0.5\"}}]\n"
    config.write_text(f"model: {frozen}\nstreams: {{}}\n" + rule.format("barking"))
    assert streamer("check", config).returncode == 0
    config.write_text(f"model: {frozen}\nstreams: {{}}\n" + rule.format("Dog"))
    result = streamer("check", config)
    assert result.returncode == 2 and "Dog" in result.stderr
    shown = json.loads(streamer("check", config, "--json").stdout)
    assert len(shown["problems"]) == 1


def test_frames_come_as_the_checkpoint_wants_them(lips: Path, looping_clip: Path) -> None:
    """Size and rate of pictures, and how sound is cut, are the checkpoint's: windows of 3 s hold 75 pictures of 96
    pixels and patches every 40 ms."""
    geometry = load("cpu", None, model=str(lips)).geometry
    whole = next(window for window in _windows(looping_clip, geometry) if window.start_ns >= 0)
    frames = [event for event in read_file(looping_clip, geometry, 25) if isinstance(event, Frame)]
    assert frames[0].rgb.shape == (96, 96, 3)
    assert whole.end_ns - whole.start_ns == 3 * NS
    assert len(whole.pictures) in (74, 75, 76) and len(whole.patches) in (73, 74, 75)
    assert {len(patch.samples) for patch in whole.patches} == {880}
