"""What augmentation does, by how much, and that it does it again for the same chance."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.learning import augment
from models.learning.augment import Degrade, Noises
from models.learning.batch import Batch, Part
from models.learning.errors import LearningError
from models.learning.recipe import AugmentRecipe

SECOND = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    """A generator."""
    return np.random.default_rng(seed)


def tone(hertz: float = 440.0, seconds: float = 1.0, level: float = 0.3) -> NDArray[np.float32]:
    """A sine."""
    times = np.arange(round(seconds * SECOND)) / SECOND
    return (level * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def power_db(sound: NDArray[np.float32]) -> float:
    """Mean power in dB of full scale."""
    return float(10 * np.log10(np.mean(sound.astype(np.float64) ** 2)))


def picture(count: int = 5, side: int = 32) -> NDArray[np.uint8]:
    """Pictures of noise, each its own."""
    return rng(9).integers(0, 256, (count, side, side), dtype=np.uint8)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
def test_noise_has_the_ratio_that_was_asked_for(snr_db: float) -> None:
    """Power of sound to power of noise, over the whole clip, also where the mixture is scaled to fit."""
    sound, noise = tone(level=0.3), augment.coloured_noise(SECOND, 1.0, rng())
    mixed = augment.add_noise(sound, noise, snr_db)
    assert np.abs(mixed).max() <= 1.0
    parts = np.linalg.lstsq(np.stack([sound, noise], 1), mixed, rcond=None)[0]
    assert power_db(parts[0] * sound) - power_db(parts[1] * noise) == pytest.approx(snr_db, abs=0.05)


def test_coloured_noise_falls_as_it_should() -> None:
    """Power falls with frequency to the exponent: pink by 3 dB an octave, white not."""
    for exponent, fall_db in ((0.0, 0.0), (1.0, 3.0), (2.0, 6.0)):
        power = np.abs(np.fft.rfft(augment.coloured_noise(1 << 18, exponent, rng()))) ** 2
        low, high = power[2000:4000].mean(), power[4000:8000].mean()
        assert 10 * np.log10(low / high) == pytest.approx(fall_db, abs=0.3)


def test_recorded_noise_goes_round(tmp_path: Path) -> None:
    """Files are found by a pattern from the folder on; a short one is repeated, at power 1."""
    with av.open(str(tmp_path / "noise_1.wav"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=SECOND, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone(1000.0, 0.1)[None] * 32767).astype(np.int16), "s16", "mono")
        frame.sample_rate = SECOND
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    (tmp_path / "clips").mkdir()
    drawn = Noises("../noise_*.wav", tmp_path / "clips").draw(SECOND, rng())
    assert drawn.shape == (SECOND,) and power_db(drawn) == pytest.approx(0.0, abs=0.1)
    assert np.abs(np.fft.rfft(drawn)).argmax() == pytest.approx(1000, abs=2)


def test_noise_files_must_be_there_and_sound(tmp_path: Path) -> None:
    """Both are said of the pattern or file that is wrong."""
    with pytest.raises(LearningError, match="no noise files"):
        Noises("*.flac", tmp_path)
    (tmp_path / "x.flac").write_text("not sound")
    with pytest.raises(LearningError, match=r"x\.flac"):
        Noises("*.flac", tmp_path)


def test_shift_moves_and_leaves_silence() -> None:
    """Later, earlier, and by more than there is."""
    sound = np.arange(1, 6, dtype=np.float32)
    assert augment.shifted(sound, 2).tolist() == [0, 0, 1, 2, 3]
    assert augment.shifted(sound, -2).tolist() == [3, 4, 5, 0, 0]
    assert augment.shifted(sound, 0).tolist() == sound.tolist()
    assert not augment.shifted(sound, 9).any() and not augment.shifted(sound, -9).any()


def test_gain_stays_in_its_bounds() -> None:
    """Never more than was said, both louder and softer."""
    recipe = AugmentRecipe(gain_db=6.0)
    gains = [
        power_db(augment.change_sound(tone(), recipe, Noises(), rng(seed))) - power_db(tone()) for seed in range(50)
    ]
    assert -6.01 < min(gains) < -3 and 3 < max(gains) < 6.01


def test_spectral_masks_take_bands_and_spans() -> None:
    """Of noise, stripes of the spectrum and spans of time are silent, none wider than asked for, often none at all."""
    noise = augment.coloured_noise(SECOND, 0.0, rng())
    hidden = augment.mask_sound(noise, 0, 30, rng(1)) == 0.0
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, hidden.astype(int), 0])))[::2]
    assert hidden.any() and runs.max() <= 2 * 30 * 160
    banded = np.abs(np.fft.rfft(augment.mask_sound(noise, 16, 0, rng(1))))
    assert (banded[125:7500] < 1e-3).sum() > 100 and (banded > 1).any()
    assert (augment.mask_sound(noise, 0, 0, rng()) == noise).all()


def test_pictures_change_alike_in_a_clip() -> None:
    """What is the same in all pictures stays the same in all."""
    clip = np.repeat(picture(1, 48), 5, axis=0)
    recipe = AugmentRecipe(scale=0.2, shift=0.2, flip=True, colour=0.4, cutout=0.5)
    made = augment.change_pictures(clip, 32, recipe, rng())
    assert made.shape == (5, 32, 32) and made.dtype == np.uint8
    assert (made == made[0]).all() and not (made[0] == augment.inner(clip, 32)[0]).all()


def test_nothing_asked_for_changes_nothing() -> None:
    """But the margin is off."""
    clip = picture(side=40)
    made = augment.change_pictures(clip, 32, AugmentRecipe(), rng())
    assert (made == clip[:, 4:36, 4:36]).all()


def test_shift_sees_the_margin() -> None:
    """A shifted picture is another part of the picture that was kept, exactly."""
    clip = picture(1, 48)
    made = augment.change_pictures(clip, 32, AugmentRecipe(shift=0.25), rng(4))[0]
    places = [
        (top, left)
        for top in range(17)
        for left in range(17)
        if (clip[0, top : top + 32, left : left + 32] == made).all()
    ]
    assert len(places) == 1 and places[0] != (8, 8)


def test_beyond_the_margin_the_edge_goes_on() -> None:
    """Pictures without a margin can be shifted and scaled too."""
    clip = np.full((2, 32, 32, 3), 77, np.uint8)
    made = augment.change_pictures(clip, 32, AugmentRecipe(shift=0.5, scale=0.5), rng(2))
    assert made.shape == clip.shape and (made == 77).all()


def test_flip_is_a_mirror_half_of_the_time() -> None:
    """Left is right."""
    clip = picture()
    made = [augment.change_pictures(clip, 32, AugmentRecipe(flip=True), rng(seed)) for seed in range(40)]
    flipped = sum(bool((each == clip[:, :, ::-1]).all()) for each in made)
    assert 10 < flipped < 30 and all((each == clip).all() or (each == clip[:, :, ::-1]).all() for each in made)


def test_cutout_is_a_rectangle() -> None:
    """One grey, no larger than asked for."""
    clip = picture(2, 32)
    made = augment.change_pictures(clip, 32, AugmentRecipe(cutout=0.5), rng(3))
    changed = np.argwhere((made != clip).any(axis=0))
    assert (np.ptp(changed, axis=0) < 16).all() and len(set(made[0][tuple(changed.T)])) == 1


def test_chance_repeats() -> None:
    """The same generator gives the same, another one another."""
    recipe = AugmentRecipe(
        scale=0.2, shift=0.1, flip=True, colour=0.3, cutout=0.3, noise=1.0, gain_db=3.0, sound_shift_s=0.1
    )

    def made(seed: int) -> tuple[bytes, bytes]:
        r = rng(seed)
        pictures = augment.change_pictures(picture(side=48), 32, recipe, r)
        return pictures.tobytes(), augment.change_sound(tone(), recipe, Noises(), r).tobytes()

    assert made(1) == made(1) and made(1)[0] != made(2)[0] and made(1)[1] != made(2)[1]


def test_something_always_stays() -> None:
    """Dropping never drops all, and drops about as many as was said."""
    assert augment.drop(5, 1.0, rng()).sum() == 1 and augment.drop(0, 0.5, rng()).shape == (0,)
    assert augment.drop(10_000, 0.2, rng()).mean() == pytest.approx(0.8, abs=0.02)


def batch() -> Batch:
    """Four clips of pictures, sound and words; the last clip has no sound, the first one is shorter."""
    video = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2) * 60
    audio = torch.arange(4.0).view(4, 1, 1).expand(4, 2, 8).clone()
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[0, 2] = False
    heard = torch.ones(4, 2, dtype=torch.bool)
    heard[3] = False
    parts = {
        "video": Part(video, mask, torch.zeros(4, 3)),
        "audio": Part(audio, heard, torch.zeros(4, 2)),
        "text": Part(torch.arange(4)[:, None], torch.ones(4, 1, dtype=torch.bool), torch.zeros(4, 1)),
    }
    return Batch(parts, torch.arange(4), ["a", "b", "c", "d"])


def test_clips_are_mixed_in_step() -> None:
    """Pictures and sound of a clip get the same part of the same other clip, and the target says which and how much."""
    mixed = augment.mix(batch(), 0.4, rng(5))
    assert mixed.mixed is not None
    weight, other = mixed.mixed.weight, mixed.mixed.target
    assert sorted(other.tolist()) == [0, 1, 2, 3] and (weight >= 0.5).all() and (weight < 1).any()
    assert (mixed.target == torch.arange(4)).all() and (other != mixed.target).any()
    own = torch.arange(4.0)
    expected = weight * own + (1 - weight) * other
    pictures = mixed.parts["video"].x[:, 0, 0, 0].float()
    assert torch.allclose(pictures, expected * 60, atol=0.51)
    both = (own != 3) & (other != 3)
    assert torch.allclose(mixed.parts["audio"].x[both, 0, 0], expected[both], atol=1e-5)


def test_mixing_respects_what_is_not_there() -> None:
    """Where one of the two has no item, the other's is as it was; words and masks stay."""
    before, mixed = batch(), augment.mix(batch(), 0.4, rng(5))
    assert mixed.mixed is not None
    alone = (mixed.mixed.target == 3) | (mixed.target == 3)
    assert (mixed.parts["audio"].x[alone] == before.parts["audio"].x[alone]).all()
    for name, part in mixed.parts.items():
        assert (part.mask == before.parts[name].mask).all()
    assert (mixed.parts["text"].x == before.parts["text"].x).all()


def test_degrading_is_a_clips_own() -> None:
    """The same clip gets the same noise each time, another clip another; without a ratio nothing is done."""
    how = Degrade(snr_db=-5.0)
    once, again = (augment.degrade(tone(), "a", how, Noises()) for _ in range(2))
    assert (once == again).all() and not (once == augment.degrade(tone(), "b", how, Noises())).all()
    assert (augment.degrade(tone(), "a", Degrade(), Noises()) == tone()).all()
    with pytest.raises(LearningError, match="no modality"):
        Degrade(without={"smell"})


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_played_faster_is_shorter_and_higher(speed: float) -> None:
    """Length goes down and pitch up by the same factor; loudness stays."""
    made = augment.played(tone(1000.0, 1.0), speed)
    assert made.dtype == np.float32 and len(made) == pytest.approx(SECOND / speed, abs=2)
    hertz = np.abs(np.fft.rfft(made)).argmax() * SECOND / len(made)
    assert hertz == pytest.approx(1000 * speed, rel=0.01)
    assert power_db(made) == pytest.approx(power_db(tone(1000.0, 1.0)), abs=1.0)
    assert not len(augment.played(np.zeros(0, np.float32), speed))
