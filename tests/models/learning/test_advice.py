"""Advice: what paired resampling tells apart, what it doesn't, and the words for both."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from models.learning.advice import Cost, Entry, Figure, Metric, recommend, stand

ACCURACY = Metric("accuracy")
ERROR = Metric("mae_ms", lower_is_better=True, unit="ms")
CLIPS = 200


def of_table(table: NDArray[np.float64]) -> Figure:
    """A figure that is a mean over clips, from `[runs, clips]`."""
    return lambda run, picks: float(table[run][picks].mean())


def entry(label: str, table: NDArray[np.float64], fusion: str = "concat", ms: float = 1.0) -> Entry:
    modalities = tuple(label.split("+")) if fusion == "concat" and "+" not in label else ("video", "audio")
    return Entry(label, fusion, modalities, len(table), of_table(table), Cost(1000, ms), {"audio": 0.5})


def right(rate: float, runs: int = 3, seed: int = 0) -> NDArray[np.float64]:
    """The easiest `rate` of the clips are right, one clip by chance, the same clips for everybody."""
    rng = np.random.default_rng(seed)
    table = (np.arange(CLIPS)[None, :] < rate * CLIPS) * np.ones((runs, 1))
    for row in table:
        row[rng.integers(CLIPS)] = 1.0
    return table


def test_a_fusion_that_is_clearly_better_is_recommended() -> None:
    """A fusion 20 points ahead of both single modalities is chosen, and the text says that fusing is worth it."""
    standings = stand(
        [entry("audio", right(0.7)), entry("video", right(0.6)), entry("attention", right(0.9), "attention")],
        CLIPS,
        ACCURACY,
        np.random.default_rng(0),
    )
    advice = recommend(standings, ACCURACY, CLIPS)
    assert [one.label for one in standings] == ["attention", "audio", "video"]
    assert advice.choice == "attention"
    text = " ".join(advice.reasons)
    behind = re.search(r"the best single modality, audio, is ([0-9.]+) points behind", text)
    assert behind is not None and float(behind[1]) == pytest.approx(20, abs=1)
    assert "Clearly behind the best: audio, video" in text
    assert "Without audio it still has accuracy 50.0 %" in text
    assert not any("seeds" in doubt and "use 3" in doubt for doubt in advice.doubts)


def test_a_single_modality_is_enough_where_the_clips_cannot_tell() -> None:
    """A fusion ahead by half a clip in a hundred does not win against the modality that it has anyway."""
    fused, single = right(0.905, seed=1), right(0.9, seed=2)
    standings = stand(
        [entry("audio", single), entry("attention", fused, "attention"), entry("video", right(0.4))],
        CLIPS,
        ACCURACY,
        np.random.default_rng(0),
    )
    advice = recommend(standings, ACCURACY, CLIPS)
    assert standings[0].label == "attention" and advice.choice == "audio"
    assert any("Audio alone is enough" in reason for reason in advice.reasons)
    assert any("attention" in doubt and "200 clips" in doubt for doubt in advice.doubts)
    assert any("noisy or missing" in doubt for doubt in advice.doubts)


def test_the_simpler_of_equal_fusions_is_preferred() -> None:
    """Two fusions that say the same of every clip: the one by concatenation, whatever the order they are given in."""
    same = right(0.9)
    entries = [
        entry("hierarchical", same, "hierarchical"),
        Entry("concat", "concat", ("video", "audio"), 3, of_table(same), Cost(900, 0.5)),
        entry("video", right(0.5)),
    ]
    for order in (entries, entries[::-1]):
        standings = stand(order, CLIPS, ACCURACY, np.random.default_rng(0))
        assert recommend(standings, ACCURACY, CLIPS).choice == "concat"


def test_lower_may_be_better() -> None:
    """Of errors the smallest wins, and what is behind is counted in the error's own unit."""
    rng = np.random.default_rng(3)
    small, large = rng.uniform(0, 20, (3, CLIPS)), rng.uniform(60, 100, (3, CLIPS))
    standings = stand([entry("video", large), entry("attention", small, "attention")], CLIPS, ERROR, rng)
    assert [one.label for one in standings] == ["attention", "video"]
    assert 60 < standings[1].behind < 80 and standings[1].behind_low > 50
    assert "ms" in recommend(standings, ERROR, CLIPS).reasons[0]


def test_pairing_sees_what_separate_intervals_hide() -> None:
    """Where one is right wherever the other is and on ten clips more, their intervals overlap and the paired one does
    not hold 0."""
    hard = (np.arange(CLIPS) < 140).astype(float)[None, :]
    more = (np.arange(CLIPS) < 150).astype(float)[None, :]
    first, second = stand(
        [entry("audio", hard), entry("attention", more, "attention")], CLIPS, ACCURACY, np.random.default_rng(0)
    )
    assert first.label == "attention" and first.low < second.high
    assert second.behind == pytest.approx(0.05) and second.behind_low > 0 and not second.is_close


def test_one_seed_is_told_as_a_doubt() -> None:
    """With a single seed the advice says that chance is hardly seen."""
    standings = stand([entry("audio", right(0.8, 1))], CLIPS, ACCURACY, np.random.default_rng(0))
    assert any("use 3 or more" in doubt for doubt in recommend(standings, ACCURACY, CLIPS).doubts)


def test_seeds_that_differ_are_told_as_a_doubt() -> None:
    """Seeds that differ by more than the clips explain are named with their spread."""
    table = np.concatenate([right(0.5, 1), right(0.9, 2)])
    standings = stand([entry("audio", table)], CLIPS, ACCURACY, np.random.default_rng(0))
    told = [
        re.search(r"own seeds differ by ([0-9.]+) points", doubt)
        for doubt in recommend(standings, ACCURACY, CLIPS).doubts
    ]
    assert [float(found[1]) for found in told if found] == [pytest.approx(40, abs=1)]


def test_the_same_draw_gives_the_same_standing() -> None:
    """Intervals repeat with the generator's seed."""
    entries = [entry("audio", right(0.7)), entry("video", right(0.6))]
    one, other = (stand(entries, CLIPS, ACCURACY, np.random.default_rng(5)) for _ in range(2))
    assert one == other


def test_of_equals_the_simplest_leads_and_is_ahead_of_nobody() -> None:
    """Where all say the same, nothing is said to be ahead by nothing; and that no fault was seen proves little."""
    same = np.ones((3, CLIPS))
    entries = [entry("attention", same, "attention"), entry("audio", same)]
    standings = stand(entries, CLIPS, ACCURACY, np.random.default_rng(0))
    advice = recommend(standings, ACCURACY, CLIPS)
    assert standings[0].label == advice.choice == "audio"
    assert not any("ahead" in reason for reason in advice.reasons)
    assert any("No clip of 200 went wrong; with so many, up to 1.5 %" in doubt for doubt in advice.doubts)
