"""Checkpoints: what is written is what is read, by people too."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import checkpoint as serving
from models.learning import keep, tensors
from models.learning.calibration import Calibration
from models.learning.errors import LearningError
from models.learning.keep import Learned
from models.learning.network import Network, Outline
from models.learning.recipe import AugmentRecipe, DataRecipe, SequenceRecipe, TextRecipe
from tests.models.learning import tiny


def learned(task: str = "classes") -> tuple[Network, Learned]:
    recipe = replace(
        tiny.of_task(tiny.recipe(), task),
        text=TextRecipe("gru", 1, 5),
        data=DataRecipe("/home/somebody/clips", "what"),
        augment=AugmentRecipe(noise_files="/home/somebody/noise/*.wav"),
        sequence=SequenceRecipe("lstm"),
        start="/home/somebody/start.safetensors",
    )
    outline = Outline(3, 2, 2.5)
    torch.manual_seed(0)
    made = Learned(
        recipe,
        outline,
        tiny.NAMES,
        ("一", "two"),
        Calibration(task, (0.5,), (0.0,), {"clips": 40, "fitted": True, "ece_before": 0.2, "ece_after": 0.05}),
        {"validation": {"accuracy": 0.75}},
        {"clips": 36, "marks": "0123456789abcdef"},
    )
    return Network(replace(recipe, start=""), outline).eval(), made


@pytest.mark.parametrize("task", ["classes", "labels", "numbers", "sequence"])
def test_what_is_kept_comes_back(tmp_path: Path, task: str) -> None:
    """Network, recipe, outline, names, vocabulary, calibration, figures and data come back as they were; the network
    says the same to the last bit."""
    network, made = learned(task)
    path = tmp_path / "deep" / "one.safetensors"
    keep.save_checkpoint(path, network, made)
    loaded = keep.load_network(path)
    assert (
        dataclasses.replace(loaded.learned, recipe=made.recipe)
        == made
        == dataclasses.replace(keep.read_learned(path), recipe=made.recipe)
    )
    assert (loaded.names, loaded.vocabulary, loaded.outline) == (tiny.NAMES, ("一", "two"), made.outline)
    assert not loaded.network.training
    parts = tiny.data().test.batch([0, 1], None).parts
    with torch.no_grad():
        if task == "sequence":
            assert torch.equal(loaded.network.memory(parts).x, network.memory(parts).x)
        else:
            assert torch.equal(loaded.network(parts), network(parts))


def test_the_header_is_readable_and_names_no_place(tmp_path: Path) -> None:
    """The first 700 bytes of the file say what it is in plain JSON, the important first; folders of the machine that it
    was made on are nowhere."""
    network, made = learned()
    path = tmp_path / "one.safetensors"
    keep.save_checkpoint(path, network, made)
    begin = path.read_bytes()[:700].decode(errors="replace")
    for part in ('"format":"streamer-checkpoint"', '"kind":"learned"', '"name":"tiny"', '"task":"classes"', "accuracy"):
        assert part in begin
    assert "somebody" not in path.read_bytes().decode(errors="replace")
    recipe = keep.read_learned(path).recipe
    assert (recipe.data.folder, recipe.augment.noise_files, recipe.start) == ("clips", "*.wav", "start.safetensors")


def test_the_same_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two files of the same contents don't differ, though the library that writes them shuffles headers."""
    network, made = learned()
    for name in ("one", "two"):
        keep.save_checkpoint(tmp_path / name, network, made)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_serving_reads_the_header(tmp_path: Path) -> None:
    """The serving side reads geometry, names with their modalities, and which encoders the tokens must come from."""
    network, made = learned()
    path = tmp_path / "one.safetensors"
    keep.save_checkpoint(path, network, made)
    found = serving.read(path)
    assert (found.kind, found.name) == ("learned", "tiny")
    assert [label.name for label in found.labels] == list(tiny.NAMES)
    assert set(found.labels[0].modalities) == {"video", "audio", "text"}
    assert found.geometry.window_ns == 2_500_000_000 and found.geometry.hop_ns == 500_000_000
    assert found.geometry.frame_rates == (4,) and found.geometry.video_width == 1280
    assert set(found.encoders) == {"frame", "audio"}


@pytest.mark.parametrize(
    ("longest_s", "window_ms", "hop_ms"), [(7.21, 7500, 500), (2.0, 2000, 500), (0.65, 800, 160), (0.0, 10, 10)]
)
def test_windows_are_of_whole_hops(longest_s: float, window_ms: int, hop_ms: int) -> None:
    """A window holds the longest clip, and hops are half a second or a quarter of it, in whole hundredths."""
    outline = Outline(3, longest_s=longest_s)
    found = keep.geometry(tiny.recipe(), outline, Network(tiny.recipe(), outline))
    assert (found.window_ns, found.hop_ns) == (window_ms * 1_000_000, hop_ms * 1_000_000)


def test_trained_encoders_need_no_weights_of_others() -> None:
    """Only frozen encoders are named by the digests of their weights."""
    recipe = tiny.recipe()
    assert recipe.video is not None
    assert set(keep.frozen(recipe)) == {"frame", "audio"}
    assert set(keep.frozen(replace(recipe, video=replace(recipe.video, encoder="lips")))) == {"audio"}
    assert keep.frozen(replace(recipe, video=None, audio=None)) == {}


def changed(path: Path, **header: str) -> None:
    """Rewrites a checkpoint with another header."""
    contents, old = tensors.read(path, "checkpoint")
    tensors.write(path, contents, {**old, **header})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": "other"}, "not a checkpoint of this program"),
        ({"version": "99"}, "format version 99"),
        ({"kind": "tags"}, "kind 'tags'"),
        ({"recipe": '{"name": "x"}'}, "no modality"),
        ({"recipe": "{"}, "header is damaged"),
        ({"outline": '{"outputs": 4}'}, "tensors are not those"),
        ({"calibration": "{}"}, "header is damaged"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, header: dict[str, str], message: str) -> None:
    """Each thing that can be wrong with a header is told in one line that names the file."""
    network, made = learned()
    path = tmp_path / "one.safetensors"
    keep.save_checkpoint(path, network, made)
    changed(path, **header)
    with pytest.raises(LearningError, match=message) as error:
        keep.load_network(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    """No file, a file of something else, and one that was cut off."""
    network, made = learned()
    path = tmp_path / "one.safetensors"
    with pytest.raises(LearningError, match="no such checkpoint"):
        keep.load_network(path)
    path.write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(LearningError, match="not a checkpoint, or damaged"):
        keep.load_network(path)
    keep.save_checkpoint(path, network, made)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LearningError, match="damaged"):
        keep.load_network(path)


def test_a_model_card_is_made_of_the_header(tmp_path: Path) -> None:
    """The card has the task, names, scores, calibration and what it was learned from, and no line of digests."""
    network, made = learned()
    keep.save_checkpoint(tmp_path / "one.safetensors", network, made)
    card = keep.model_card(tmp_path / "one.safetensors")
    for part in (
        "# tiny",
        "video and audio and text",
        "red, green, blue",
        "| validation | accuracy | 0.75 |",
        "0.200 before",
    ):
        assert part in card
    assert "- clips: 36" in card and "marks" not in card


def test_pretrained_encoders_are_a_kind_of_their_own(tmp_path: Path) -> None:
    """They are kept the same way, and their kind says that no task was learned."""
    network, made = learned()
    path = tmp_path / "one.safetensors"
    keep.save_checkpoint(path, network, replace(made, kind=keep.PRETRAINED, names=()))
    assert json.loads(json.dumps(serving.read(path).kind)) == "pretrained"
    assert "without labels" in keep.model_card(path)


def test_only_what_both_have_is_taken_as_a_start(tmp_path: Path) -> None:
    """Encoders of one alone are left as they are; with none in common it is refused."""
    network, made = learned()
    path = tmp_path / "one.safetensors"
    keep.save_checkpoint(path, network, made)
    other = Network(replace(tiny.recipe(), audio=None), Outline(3))
    taken = keep.start_from(other, path)
    assert any(name.startswith("encoders.video.") for name in taken)
    assert not any(name.startswith(("encoders.audio.", "encoders.text.")) for name in taken)
    sound = replace(tiny.recipe(), video=None)
    keep.save_checkpoint(path, Network(sound, Outline(3)), replace(made, recipe=sound, vocabulary=()))
    with pytest.raises(LearningError, match="no encoder of a modality"):
        keep.start_from(Network(replace(tiny.recipe(), audio=None), Outline(3)), path)


def test_a_recipe_may_ask_for_shorter_windows() -> None:
    """Clips of five seconds, told live by two; without that, by five."""
    outline = Outline(3, longest_s=5.0)
    recipe = tiny.recipe()
    network = Network(recipe, outline)
    short = replace(recipe, data=replace(recipe.data, window=2.0))
    assert keep.geometry(short, outline, network).window_ns == 2_000_000_000
    assert keep.geometry(recipe, outline, network).window_ns == 5_000_000_000


def test_matrices_may_be_kept_in_half_precision(tmp_path: Path) -> None:
    """The file is about half as long; what comes back is a network in single precision that says nearly the same, and
    kept again it is the same file."""
    network, made = learned()
    whole, half, again = (tmp_path / f"{name}.safetensors" for name in ("whole", "half", "again"))
    keep.save_checkpoint(whole, network, made)
    small = replace(made, recipe=replace(made.recipe, train=replace(made.recipe.train, stored="float16")))
    keep.save_checkpoint(half, network, small)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded = keep.load_network(half)
    for name, value in loaded.network.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-3, atol=1e-6)
    keep.save_checkpoint(again, loaded.network, small)
    assert again.read_bytes() == half.read_bytes()
