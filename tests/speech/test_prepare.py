"""What is measured of sound, and the noise suppressor."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.speech.denoise import Denoiser
from streamer.speech.prepare import measure

RATE = 16_000


def tone(level: float, seconds: float = 1.0) -> np.ndarray:
    """440 Hz of that peak."""
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def test_loudness_of_a_tone() -> None:
    """A tone at half of full scale has a peak of -6 dB and 3 dB less in the mean."""
    loud = measure(tone(0.5))
    assert (loud.peak_db, loud.rms_db, loud.clipped, loud.silent) == (-6.0, -9.0, 0.0, 0.0)


def test_clipping_is_runs_at_full_scale() -> None:
    """An overdriven tone is clipped for the part of time in which it would be over; one that just touches it is not."""
    loud = measure(np.clip(tone(2.0), -1, 1))
    assert loud.clipped == pytest.approx(2 / 3, abs=0.05)
    assert measure(tone(1.0)).clipped < 0.1


def test_silence_is_counted_in_blocks() -> None:
    """Half a second of tone and half a second of next to nothing is half silent; nothing at all wholly."""
    sound = np.concatenate([tone(0.1, 0.5), np.full(RATE // 2, 0.0005, np.float32)])
    assert measure(sound).silent == pytest.approx(0.5)
    assert measure(np.zeros(0, np.float32)).silent == 1.0
    assert measure(np.zeros(800, np.float32)).rms_db == -120.0


def test_as_much_comes_out_of_the_suppressor_as_goes_in_however_it_is_cut() -> None:
    """Chunks of odd sizes give the same sound as one, 10 ms late, and less of steady noise."""
    noise = np.random.default_rng(1).normal(0, 0.05, 3 * RATE).astype(np.float32)
    whole = Denoiser().clean(noise)
    denoiser = Denoiser()
    parts = [denoiser.clean(part) for part in np.split(noise, [7, 1000, 1001, 20_000])]
    assert [len(part) for part in parts] == [7, 993, 1, 18_999, 28_000]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert measure(whole[RATE:]).rms_db < measure(noise).rms_db - 3
