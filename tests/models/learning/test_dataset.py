"""Clips as batches: what encoders get is what they would get live, in time, and changed by nothing but the chance that
was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import audio, data, frame
from models.crop import Crop
from models.learning import layouts
from models.learning.augment import Degrade
from models.learning.batch import PADDING
from models.learning.clips import Clip, Word
from models.learning.dataset import OFFSET_LIMIT_S, OFFSET_PIECE_S, Dataset, Sources
from models.learning.errors import LearningError
from models.learning.recipe import Recipe, parse
from models.learning.vocabulary import Vocabulary
from models.weights import Weights
from tests.media_factory import Spec, flash_and_beep, make

LIPS = {"encoder": "lips", "rate": 25, "size": 64, "pixels": 64}
GRID_LIPS = {"encoder": "lips", "rate": 25, "size": 256, "crop": [0.3125, 0.59375, 0.5625, 0.84375], "pixels": 64}
SPEECH = {"encoder": "speech"}


def recipe(task: str = "classes", **tables: Any) -> Recipe:
    """A recipe with those tables."""
    return parse({"name": "t", "task": task, **tables}, "t")


def clip(path: Path | None, target: Any = ("a",), **more: Any) -> Clip:
    """A clip of that file, called by its stem."""
    return Clip(path.stem if path else "text", path, target, **more)


def dataset(of: Recipe, clips: Sequence[Clip], tmp_path: Path, weights: Weights | None = None, **more: Any) -> Dataset:
    """With its features kept in the test's own folder."""
    names = [] if of.task == "numbers" else ["a", "b", "c"]
    return Dataset(of, clips, names, Vocabulary.of(clips, 100), Sources(tmp_path / "cache", weights), **more)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip of 2 s with sound, one of 1 s without, and 3.2 s of flashes with their beeps."""
    folder = tmp_path_factory.mktemp("media")
    small = (64, 48)
    return {
        "both": make(folder / "both.mkv", Spec(size=small)),
        "mute": make(folder / "mute.mkv", Spec(seconds=1.0, size=small, audio=None)),
        "tone": make(folder / "tone.mkv", Spec(seconds=1.5, video=None)),
        "sync": flash_and_beep(folder / "sync.mkv", Spec(seconds=3.2, size=small, audio="libopus"), every_s=4.0 / 5),
    }


def test_a_batch_is_padded_and_masked(media: dict[str, Path], tmp_path: Path) -> None:
    """Each modality to its longest clip; what a clip lacks is masked; times are the items' own."""
    clips = [clip(media["both"], ("b",)), clip(media["mute"], ("a",)), clip(media["tone"], ("c",))]
    batch = dataset(recipe(video=LIPS, audio=SPEECH), clips, tmp_path).batch([1, 0, 2])
    video, sound = batch.parts["video"], batch.parts["audio"]
    assert video.x.shape == (3, 50, 64, 64) and video.x.dtype == torch.uint8
    assert video.mask.sum(dim=1).tolist() == [25, 50, 0]
    assert sound.x.shape[2] == 880 and sound.x.dtype == torch.float32
    assert sound.present().tolist() == [False, True, True]
    assert video.when[1, :50].tolist() == pytest.approx([0.04 * n for n in range(50)], abs=2e-3)
    assert sound.when[1, :3].tolist() == pytest.approx([0.0275, 0.0675, 0.1075])
    assert batch.target.tolist() == [0, 1, 2] and list(batch.clips) == ["mute", "both", "tone"] and len(batch) == 3


def test_a_modality_that_nobody_has_is_left_out(media: dict[str, Path], tmp_path: Path) -> None:
    """And one that evaluation takes away."""
    assert set(dataset(recipe(video=LIPS, audio=SPEECH), [clip(media["mute"])], tmp_path).batch([0]).parts) == {"video"}
    without = dataset(
        recipe(video=LIPS, audio=SPEECH), [clip(media["both"])], tmp_path, degrade=Degrade(without={"video"})
    )
    assert set(without.batch([0]).parts) == {"audio"}


def test_stored_pictures_are_what_live_ones_become(media: dict[str, Path], tmp_path: Path) -> None:
    """To the last bit, with and without a margin for augmentation, in grey and in colour."""
    video = {"rate": 5, "size": 96, "crop": [0.25, 0.25, 0.75, 0.75], "pixels": 32}
    seen = np.stack([picture for _, picture in data.pictures(media["both"], 5, 96)])
    for encoder in ("lips", "resnet18"):
        for augment in ({}, {"shift": 0.2, "scale": 0.1}):
            of = recipe(video=video | {"encoder": encoder}, augment=augment)
            assert of.video is not None
            kept = dataset(of, [clip(media["both"])], tmp_path).batch([0]).parts["video"].x[0]
            live = Crop(of.video, grey=encoder == "lips")(torch.from_numpy(seen))
            assert kept.shape == live.shape and (kept == live).all()


def test_frozen_tokens_are_those_of_the_live_encoders(
    media: dict[str, Path], tmp_path: Path, pretrained: Weights
) -> None:
    """In half precision; pictures whole, sound in patches each 0.48 s, a shorter one padded."""
    clips = [clip(media["both"]), clip(media["both"], start_s=0.5, end_s=1.0)]
    batch = dataset(recipe(video={}, audio={}), clips, tmp_path, pretrained).batch([0, 1])
    seen = torch.from_numpy(np.stack([picture for _, picture in data.pictures(media["both"], 4, 224)]))
    heard = torch.from_numpy(data.sound(media["both"])[:15600])
    with torch.no_grad():
        pictures = frame.load(pretrained.frame)(seen)
        patch = audio.load(pretrained.audio)(heard[None])
    video, sound = batch.parts["video"], batch.parts["audio"]
    assert video.x.dtype == sound.x.dtype == torch.float32
    assert torch.allclose(video.x[0], pictures, rtol=2e-3, atol=2e-3)
    assert torch.allclose(sound.x[0, :1], patch, rtol=2e-2, atol=5e-3)
    assert sound.mask.sum(dim=1).tolist() == [3, 1] and sound.when[0].tolist() == pytest.approx(
        [0.4875, 0.9675, 1.4475]
    )


def test_forms_of_frozen_tokens(media: dict[str, Path], tmp_path: Path, pretrained: Weights) -> None:
    """With noise in the recipe, training hears another form now and then; evaluation hears the clip as it is."""
    clean = dataset(recipe(audio={}), [clip(media["tone"])], tmp_path, pretrained).batch([0]).parts["audio"].x
    noisy = dataset(recipe(audio={}, augment={"noise": 1.0}), [clip(media["tone"])], tmp_path, pretrained)
    assert (noisy.batch([0]).parts["audio"].x == clean).all()
    drawn = [noisy.batch([0], np.random.default_rng(seed)).parts["audio"].x for seed in range(12)]
    assert len({each.numpy().tobytes() for each in drawn}) > 2


def test_noise_for_evaluation(media: dict[str, Path], tmp_path: Path, pretrained: Weights) -> None:
    """It changes what is heard, alike each time, also where the encoder is frozen."""
    for encoder, weights in (({}, pretrained), (SPEECH, None)):
        of = recipe(audio=encoder)
        clean, once, again = (
            dataset(of, [clip(media["tone"])], tmp_path, weights, degrade=how).batch([0]).parts["audio"].x
            for how in (None, Degrade(snr_db=0.0), Degrade(snr_db=0.0))
        )
        assert (once == again).all() and not torch.allclose(once, clean, atol=1e-2)


def test_the_cache_is_used(media: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made once is not decoded again; another crop is."""
    of = recipe(video=LIPS, audio=SPEECH)
    first = dataset(of, [clip(media["both"])], tmp_path).batch([0])

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr("models.learning.items.ItemMaker._prepared", refuse)
    second = dataset(of, [clip(media["both"])], tmp_path).batch([0])
    assert (first.parts["video"].x == second.parts["video"].x).all()
    with pytest.raises(AssertionError, match="decoded again"):
        dataset(recipe(video=LIPS | {"pixels": 32}), [clip(media["both"])], tmp_path).batch([0])


def test_training_changes_and_repeats(media: dict[str, Path], tmp_path: Path) -> None:
    """The same generator gives the same batch; another gives another; none gives the clip as it is."""
    augment = {"shift": 0.1, "scale": 0.1, "colour": 0.3, "frame_drop": 0.2, "noise": 0.5, "gain_db": 6, "mix": 0.3}
    made = dataset(recipe(video=LIPS, audio=SPEECH, augment=augment), [clip(media["both"])] * 3, tmp_path)

    def bits(seed: int | None) -> list[bytes]:
        batch = made.batch([0, 1, 2], None if seed is None else np.random.default_rng(seed))
        return [part.x.numpy().tobytes() + part.mask.numpy().tobytes() for part in batch.parts.values()]

    assert bits(1) == bits(1) and bits(None) == bits(None)
    assert all(one != two for one, two in zip(bits(1), bits(2), strict=True))
    drawn = made.batch([0, 1, 2], np.random.default_rng(0))
    assert drawn.mixed is not None and made.batch([0]).mixed is None
    assert 0.6 < drawn.parts["video"].mask.float().mean() < 0.95


def test_global_chance_is_left_alone(media: dict[str, Path], tmp_path: Path) -> None:
    """Neither making nor drawing touches the generators that everybody shares."""
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state().clone(), np.random.get_state()[1].copy()
    of = recipe(video=LIPS, audio=SPEECH, augment={"shift": 0.1, "noise": 1.0})
    dataset(of, [clip(media["both"])], tmp_path).batch([0], np.random.default_rng(1))
    assert (torch.random.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()


def test_words(tmp_path: Path) -> None:
    """By number, unknown ones 0; times are the middle of each word, and where nobody said them they are spread."""
    said = (Word("Good", 0.0, 0.4), Word("dog", 0.6, 1.0))
    untimed = tuple(Word(word, math.nan, math.nan) for word in ("dog", "good", "dog", "cat"))
    clips = [clip(None, words=said), clip(None, words=untimed)]
    of = recipe(text={}, augment={"word_drop": 0.5})
    made = Dataset(of, clips, ["a"], Vocabulary(["dog", "good"]), Sources(tmp_path))
    text = made.batch([0, 1]).parts["text"]
    assert text.x.tolist() == [[2, 1, 0, 0], [1, 2, 1, 0]] and text.mask.sum(dim=1).tolist() == [2, 4]
    assert text.when[0, :2].tolist() == pytest.approx([0.2, 0.8])
    assert (text.when[1].diff() > 0).all() and text.when[1].isfinite().all()
    kept = [made.batch([1], np.random.default_rng(seed)).parts["text"].mask.sum().item() for seed in range(20)]
    assert min(kept) >= 1 and len(set(kept)) > 1


def test_vocabulary() -> None:
    """The most frequent words, in an order that never changes, whatever their case."""
    clips = [clip(None, words=tuple(Word(word, 0, 1) for word in ["b", "A", "a", "c", "b", "a"]))]
    known = Vocabulary.of(clips, 2)
    assert known.words == ("a", "b") and len(known) == 2
    assert (known.id("A"), known.id("b"), known.id("c")) == (1, 2, 0)
    assert Vocabulary(known.words).id("b") == 2


def test_targets_by_task(media: dict[str, Path], tmp_path: Path) -> None:
    """Classes by number, labels as ones, numbers as they are, sequences padded."""
    two = [("b",), ("a", "c")]
    labels = dataset(recipe("labels", audio=SPEECH), [clip(media["tone"], each) for each in two], tmp_path)
    assert labels.batch([0, 1]).target.tolist() == [[0, 1, 0], [1, 0, 1]] and labels.count("c") == 1
    sequence = dataset(recipe("sequence", audio=SPEECH), [clip(media["tone"], each) for each in two], tmp_path)
    assert sequence.targets().tolist() == [[1, PADDING], [0, 2]]
    numbers = dataset(recipe("numbers", audio=SPEECH), [clip(media["tone"], (1.5, 2.0))], tmp_path)
    assert numbers.targets().tolist() == [[1.5, 2.0]] and numbers.targets().dtype == torch.float32
    assert numbers.batch([0]).target.tolist() == numbers.targets().tolist()


def test_a_split_without_clips(tmp_path: Path) -> None:
    """It can be made, and says so where it is asked for something."""
    empty = dataset(recipe(audio=SPEECH), [], tmp_path)
    empty.prepare()
    assert len(empty) == 0 and empty.longest_s == 0.0
    with pytest.raises(LearningError, match="no clips"):
        empty.targets()


def test_the_offset_is_between_picture_and_sound(media: dict[str, Path], tmp_path: Path) -> None:
    """A beep comes after its flash by what is to be told; it is drawn anew in training and is the clip's own else; no
    end of the sound is empty."""
    of = recipe("numbers", data={"target": "offset"}, video=LIPS, audio=SPEECH)
    made = dataset(of, [clip(media["sync"], ())], tmp_path)
    told = set()
    for seed in (None, *range(12)):
        batch = made.batch([0], None if seed is None else np.random.default_rng(seed))
        video, sound = batch.parts["video"], batch.parts["audio"]
        assert video.x.shape[1] == round(OFFSET_PIECE_S * 25) and sound.x.shape[1] == 39
        flashes = video.when[0][video.x[0].float().mean(dim=(1, 2)) > 128]
        starts = sound.when[0][:, None] + (torch.arange(880) - 440) / 16_000
        beeps = starts[sound.x[0].abs() > 0.1]
        late = batch.target.item()
        told.add(late)
        assert abs(late) <= OFFSET_LIMIT_S
        # Modulo the distance of the flashes, for the piece may begin between a flash and its beep.
        gap = min(((beeps.unsqueeze(1) - flashes) - late).remainder(0.8).flatten().tolist())
        assert gap == pytest.approx(0.0, abs=0.045)
    assert len(told) == 13 and made.targets().item() == made.batch([0]).target.item()
    assert made.longest_s == OFFSET_PIECE_S


def test_what_can_not_be_done_is_said(media: dict[str, Path], tmp_path: Path) -> None:
    """One line each, before anything is trained."""
    both, made, offset = clip(media["both"]), clip(media["both"], ()), {"target": "offset"}

    def said(of: Recipe, given: Clip, **more: Any) -> str:
        with pytest.raises(LearningError) as caught:
            dataset(of, [given], tmp_path, **more).batch([0], np.random.default_rng(0))
        return str(caught.value)

    assert "none of the names" in said(recipe(audio=SPEECH), clip(media["tone"], ("dog",)))
    assert "exactly one" in said(recipe(audio=SPEECH), clip(media["tone"], ("a", "b")))
    assert "mixed for classes" in said(recipe("sequence", audio=SPEECH, augment={"mix": 0.2}), both)
    assert "too coarse" in said(recipe("numbers", data=offset, video={}, audio=SPEECH), made)
    assert "leave it out" in said(
        recipe("numbers", data=offset, video=LIPS, audio=SPEECH, augment={"sound_shift_s": 0.1}), made
    )
    assert "offset task needs" in said(recipe("numbers", data=offset, video=LIPS, audio=SPEECH), made)
    assert "is no number" in said(recipe("numbers", audio=SPEECH), both)
    assert "whole pictures" in said(recipe(video={"crop": [0.2, 0.2, 0.8, 0.8]}), both)
    assert "is no box" in said(recipe(video=LIPS | {"crop": [0.8, 0.2, 0.2, 0.8]}), both)
    assert "streamer weights" in said(recipe(audio={}), both)
    assert "no noise files" in said(recipe(audio=SPEECH, augment={"noise": 1.0, "noise_files": "x*.wav"}), both)
    assert "take its clip out" in said(recipe(audio=SPEECH), clip(tmp_path / "none.wav"))
    (tmp_path / "text.mp4").write_text("no media")
    assert "text.mp4" in said(recipe(audio=SPEECH), clip(tmp_path / "text.mp4"))


def test_progress_counts_every_clip(media: dict[str, Path], tmp_path: Path) -> None:
    """Once, up to all; a second time nothing is left to do."""
    made = dataset(recipe(audio=SPEECH), [clip(media["tone"]), clip(media["both"])], tmp_path)
    seen: list[tuple[int, int]] = []
    made.prepare(lambda done, total: seen.append((done, total)))
    made.prepare(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)] and made.longest_s == pytest.approx(2.0, abs=0.03)


def test_grid_with_its_noise(shared_data: Path, tmp_path: Path) -> None:
    """Real lips and speech: four clips of a sentence, the recorded noise found beside the data."""
    folder = shared_data / "grid_s1"
    augment = {"shift": 0.08, "noise": 1.0, "noise_db": [-5, 5], "noise_files": "../speech/noise_*.flac"}
    of = recipe("sequence", data={"target": "sentence"}, video=GRID_LIPS, audio=SPEECH, augment=augment)
    found = layouts.read_clips(folder, of)
    made = Dataset(of, found.clips[:4], found.names, Vocabulary([]), Sources(tmp_path), folder=folder)
    plain, changed = made.batch(range(4)), made.batch(range(4), np.random.default_rng(0))
    assert plain.parts["video"].x.shape == (4, 75, 64, 64) and plain.parts["audio"].x.shape[1:] == (74, 880)
    assert plain.target.shape == (4, 6) and 2.9 < made.longest_s < 3.1
    assert [found.names[int(place)] for place in plain.target[0]] == list(found.clips[0].target)
    assert not torch.allclose(plain.parts["audio"].x, changed.parts["audio"].x, atol=0.01)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"video": LIPS, "audio": SPEECH, "augment": {"speed": 0.1}}, "sound alone"),
        ({"audio": {"encoder": "yamnet"}, "augment": {"speed": 0.1}}, "encoder speech"),
        ({"audio": SPEECH, "augment": {"speed": 1.0}}, "below 1"),
    ],
)
def test_speed_is_for_sound_by_itself(tmp_path: Path, tables: dict[str, Any], told: str) -> None:
    """Where it would tear sound and picture apart, or isn't a fraction, it is refused."""
    with pytest.raises(LearningError, match=told):
        dataset(recipe(**tables), [clip(None)], tmp_path)


def test_speed_changes_how_long_sounds_are(media: dict[str, Path], tmp_path: Path) -> None:
    """In training alone."""
    made = dataset(recipe(audio=SPEECH, augment={"speed": 0.2}), [clip(media["tone"])], tmp_path)
    counts = {made.batch([0], np.random.default_rng(seed)).parts["audio"].x.shape[1] for seed in range(8)}
    plain = made.batch([0]).parts["audio"].x.shape[1]
    assert len(counts) > 2 and min(counts) < plain < max(counts)
    assert made.batch([0]).parts["audio"].x.shape[1] == plain
