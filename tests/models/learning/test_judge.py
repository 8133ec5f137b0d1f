"""Scoring: a checkpoint learned from real media of which picture and sound each tell half of the class."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.learning import keep
from models.learning.clips import Clip, ClipSet, marks
from models.learning.errors import LearningError
from models.learning.judge import Ask, choose, digest, judge, locate, predict, subsets
from models.learning.keep import Loaded
from models.learning.recipe import AudioRecipe, FusionRecipe, Recipe, VideoRecipe
from tests.models.learning import sights, tiny

KEYS = {"checkpoint", "digest", "data", "task", "target", "split", "n", "without", "snr_db", "seed", "intervals"}
KEYS |= {"classes", "modalities", "latency_ms", "notes"}
FIGURES = {"accuracy", "balanced_accuracy", "f1", "expected_calibration_error", "loss"}
CHANCE_OF_HALF = (0.3, 0.7)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> sights.Learned:
    return sights.learned(tmp_path_factory.mktemp("sights"))


@pytest.fixture(autouse=True)
def cached(learned: sights.Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_CACHE", str(learned.cache))


def scored(learned: sights.Learned, **ask: Any) -> dict[str, Any]:
    return judge(str(learned.checkpoint), learned.folder, Ask(**ask))


def test_a_checkpoint_is_scored_on_the_folders_own_test_clips(learned: sights.Learned) -> None:
    """Twelve test clips, all told; every figure has an interval around it, every class and set of modalities a row."""
    found = scored(learned)
    assert set(found) == KEYS | FIGURES
    assert (found["n"], found["split"], found["task"], found["digest"]) == (
        12,
        "test",
        "classes",
        digest(learned.checkpoint),
    )
    assert found["accuracy"] >= 0.9 and found["balanced_accuracy"] >= 0.9
    assert set(found["intervals"]) == FIGURES
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] + 1e-9 and found[name] <= high + 1e-9, name
    assert found["intervals"]["accuracy"][0] < 0.95  # twelve of twelve is no proof of more
    assert {name: row["n"] for name, row in found["classes"].items()} == dict.fromkeys(sights.CLASSES, 3)
    assert set(found["modalities"]) == {"video", "audio", "video+audio"}
    assert found["latency_ms"]["p50"] > 0 and found["latency_ms"]["threads"] == 1


def test_each_modality_alone_tells_its_half(learned: sights.Learned) -> None:
    """With one modality the other half of the class is a guess, whether it is left out or the fusion is asked alone."""
    alone = scored(learned)["modalities"]
    for taken, left in (("audio", "video"), ("video", "audio")):
        found = scored(learned, without={taken})
        assert CHANCE_OF_HALF[0] <= found["accuracy"] <= CHANCE_OF_HALF[1]
        assert found["accuracy"] == alone[left]["accuracy"]
        assert set(found["modalities"]) == {left} and found["without"] == [taken]


def test_noise_hurts_the_sound_only(learned: sights.Learned) -> None:
    """At -40 dB the picture tells exactly what it told, and both together do no better than a modality that is gone."""
    clear, noisy = scored(learned), scored(learned, snr_db=-40.0)
    assert noisy["modalities"]["video"]["accuracy"] == clear["modalities"]["video"]["accuracy"]
    assert noisy["accuracy"] <= clear["accuracy"] - 0.2
    assert noisy["snr_db"] == -40.0


def test_noise_files_are_mixed_in(learned: sights.Learned, tmp_path: Path) -> None:
    """Noise of one's own is used, and a pattern that no file has is told."""
    sounds = sorted((learned.folder / "train" / "left-high").glob("*.mkv"))[:2]
    for number, file in enumerate(sounds):
        shutil.copy(file, tmp_path / f"noise_{number}.mkv")
    found = scored(learned, snr_db=-30.0, noise_files=str(tmp_path / "noise_*.mkv"))
    assert found["modalities"]["audio"]["accuracy"] <= 0.5
    with pytest.raises(LearningError, match="no noise files"):
        scored(learned, snr_db=0.0, noise_files=str(tmp_path / "none_*.wav"))


def test_splits_can_be_chosen(learned: sights.Learned) -> None:
    """Each split has its own clips, and `all` has them all."""
    assert [scored(learned, split=split)["n"] for split in ("train", "validation", "test", "all")] == [28, 8, 12, 48]


def test_a_folder_kept_apart_is_scored_whole(learned: sights.Learned, tmp_path: Path) -> None:
    """A folder that says no splits, and that the checkpoint never saw, is scored on all its clips."""
    other = sights.folder(tmp_path / "apart", {"": 2}, seed=7)
    found = judge(str(learned.checkpoint), other, Ask())
    assert (found["n"], found["split"]) == (8, "all") and found["accuracy"] >= 0.7


def test_clips_that_it_was_trained_on_are_left_out(tmp_path: Path) -> None:
    """By default what a checkpoint has seen is not scored; where it has seen all, it is said of which clips that is."""
    clips = []
    for number in range(10):
        file = tmp_path / f"{number}.wav"
        file.write_bytes(b"x" * (number + 1))
        clips.append(Clip(file.name, file, ("a",), split="validation" if number == 3 else "train"))
    found = ClipSet(tmp_path, clips, ("a",))
    chosen, name, note = choose(found, "", marks(clips[:6]))
    assert [clip.name for clip in chosen] == [f"{number}.wav" for number in range(6, 10)]
    assert name == "unseen" and "6 clips" in note
    chosen, name, note = choose(found, "", marks(clips))
    assert [clip.name for clip in chosen] == ["3.wav"] and name == "validation" and "chosen by these" in note
    assert choose(found, "", "") == (clips, "all", "")


def test_another_file_of_the_same_name_was_not_seen(tmp_path: Path) -> None:
    """A clip is known by name and size: 001.wav of another set is another clip."""
    for folder, size in (("mine", 10), ("theirs", 11)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "001.wav").write_bytes(b"x" * size)
    mine, theirs = (Clip("001.wav", tmp_path / name / "001.wav", ("a",)) for name in ("mine", "theirs"))
    assert choose(ClipSet(tmp_path, [theirs], ("a",)), "", marks([mine])) == ([theirs], "all", "")


def test_unknown_classes_are_named(learned: sights.Learned, tmp_path: Path) -> None:
    """A folder with a class that was never learned is refused, with that class's name and those that are known."""
    other = sights.folder(tmp_path / "other", {"": 1}, seed=3)
    (other / "top-low").rename(other / "upside-down")
    with pytest.raises(LearningError, match=r"was not trained to tell upside-down; it knows left-high"):
        judge(str(learned.checkpoint), other, Ask())


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (Ask(without=frozenset({"audio", "video"})), "nothing is left"),
        (Ask(snr_db=0.0, without=frozenset({"audio"})), "no sound"),
    ],
)
def test_questions_without_an_answer_are_refused(learned: sights.Learned, ask: Ask, said: str) -> None:
    """Nothing left to read, or noise for a sound that isn't heard."""
    with pytest.raises(LearningError, match=said):
        judge(str(learned.checkpoint), learned.folder, ask)


def test_a_modality_that_is_not_read_may_be_taken_away(learned: sights.Learned) -> None:
    """It changes nothing, and that is said."""
    found = scored(learned, without={"text"})
    assert found["accuracy"] == scored(learned)["accuracy"] and found["notes"] == ["it reads no text anyway"]


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, learned: sights.Learned) -> None:
    """A missing file, and a file that is no checkpoint."""
    with pytest.raises(LearningError, match=r"none\.safetensors"):
        judge(str(tmp_path / "none.safetensors"), learned.folder, Ask())
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(LearningError, match=r"bad\.safetensors"):
        judge(str(tmp_path / "bad.safetensors"), learned.folder, Ask())
    assert locate("some/file") == Path("some/file")


def test_the_same_question_has_the_same_answer(learned: sights.Learned) -> None:
    """Noise, intervals and the deletion test are drawn from the seed; only times differ."""
    first, second = (scored(learned, snr_db=-10.0, deletion=3) for _ in range(2))
    first.pop("latency_ms"), second.pop("latency_ms")
    assert first == second


def test_the_deletion_test_is_reported(learned: sights.Learned) -> None:
    """Both explanations of tokens and Grad-CAM are put to the test, with costs, a ratio and an interval each."""
    found = scored(learned, deletion=4)["deletion"]
    assert found["clips"] == 4 and sum(found["share"].values()) == pytest.approx(1, abs=1e-4)
    for name in ("attention", "left_out", "attention_alone", "grad_cam"):
        assert {"ratio", "interval", "pointed", "random"} <= set(found[name])
    assert found["left_out"]["pointed"] > found["left_out"]["random"]
    assert len(found["attention"]["by_fraction"]) == len(found["fractions"])


def of_tiny(task: str) -> Loaded:
    """An untrained network for the tiny data of a task."""
    recipe = tiny.of_task(tiny.recipe(), task)
    data = tiny.data(task)
    from models.learning.calibration import Calibration
    from models.learning.network import Network

    network = Network(recipe, data.outline).eval()
    learned = keep.Learned(recipe, data.outline, data.names, (), Calibration(task))
    return Loaded(network, learned, {})


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("classes", {"accuracy", "balanced_accuracy"}),
        ("labels", {"mean_average_precision"}),
        ("numbers", {"mae", "mae_ms"}),
        ("sequence", {"word_error", "sentences_right"}),
    ],
)
def test_every_task_has_its_figures(task: str, figures: set[str]) -> None:
    """Also with one modality alone, encoded once; an offset in seconds is told in milliseconds as well."""
    loaded = of_tiny(task)
    clips = tiny.data(task).test
    said = predict(loaded, clips, subsets(loaded.recipe.modalities))
    assert set(said) == {("video",), ("audio",), ("video", "audio")}
    whole = said["video", "audio"]
    assert len(whole) == len(clips) and figures <= set(whole.figures())
    if task == "numbers":
        assert whole.figures()["mae_ms"] == pytest.approx(1000 * whole.figures()["mae"])
    main, _ = whole.main()
    assert whole.main_figure(np.arange(len(whole))) == pytest.approx(whole.figures()[main])


def test_one_modality_alone_is_what_a_fusion_says_without_the_other() -> None:
    """The tokens that are shared between sets give the very logits of a batch without the other modality."""
    loaded, clips = of_tiny("classes"), tiny.data("classes").test
    alone = predict(loaded, clips, [("audio",)])["audio",]
    batch = clips.batch(range(len(clips)), None)
    raw = loaded.network({"audio": batch.parts["audio"]})
    assert np.allclose(alone.scores, loaded.calibration.apply(raw.detach()).numpy(), atol=1e-5)


def test_fights_are_judged_by_the_picture_alone(shared_data: Path, learned: sights.Learned, tmp_path: Path) -> None:
    """A recipe without sound never opens a sound track, though whether there is one gives the class away."""
    from models.learning.calibration import Calibration
    from models.learning.network import Network, Outline

    few = tmp_path / "fights"
    for kind in ("fight", "nofight"):
        (few / kind).mkdir(parents=True)
        for file in sorted((shared_data / "fights" / kind).glob("*.mp4"))[:2]:
            shutil.copy(file, few / kind / file.name)
    recipe = Recipe("fight", video=VideoRecipe("lips", rate=4, pixels=32), fusion=FusionRecipe("concat", 16, 2, 1))
    outline = Outline(2, longest_s=2.0)
    made = keep.Learned(recipe, outline, ("fight", "nofight"), (), Calibration("classes"))
    keep.save_checkpoint(tmp_path / "fight.safetensors", Network(recipe, outline), made)
    found = judge(str(tmp_path / "fight.safetensors"), few, Ask())
    assert found["n"] == 4 and set(found["modalities"]) == {"video"}
    assert {name: row["n"] for name, row in found["classes"].items()} == {"fight": 2, "nofight": 2}
    assert replace(recipe, audio=AudioRecipe()).modalities == ("video", "audio")
