"""The engine on its real weights: each picture and patch encoded once, answers independent of company."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import weights
from streamer import engine as engines
from streamer.detector import blank_look
from streamer.errors import UserError
from streamer.media import Coverage, Look, Patch, Picture, Scores, Sighting, Window
from tests.learned import FROZEN, learned_checkpoint

RNG = np.random.default_rng(7)
PICTURES = [RNG.integers(0, 255, (224, 224, 3), dtype=np.uint8) for _ in range(8)]
SOUNDS = [RNG.normal(0, 0.1, 15_600).astype(np.float32) for _ in range(8)]


@pytest.fixture(scope="module")
def shared_engine() -> engines.OnnxEngine:
    made = engines.load("cpu", None)
    assert isinstance(made, engines.OnnxEngine)
    return made


@pytest.fixture
def engine(shared_engine: engines.OnnxEngine) -> Iterator[engines.OnnxEngine]:
    yield shared_engine
    for stream in ("a", "b", "c"):
        shared_engine.forget(stream)


class Counted:
    """An encoder's session that counts what it encodes."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.encoded = 0

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray[Any, Any]]) -> Any:
        self.encoded += len(next(iter(feeds.values())))
        return self._session.run(outputs, feeds)


def window(stream: str, seq: int, pictures: range = range(0), patches: range = range(0)) -> Window:
    return Window(
        stream,
        "e",
        seq,
        0,
        1,
        0,
        0,
        0,
        tuple(Picture(i, i, PICTURES[i % 8]) for i in pictures),
        tuple(Patch(i, i, SOUNDS[i % 8]) for i in patches),
        Coverage(1.0, 1.0),
    )


def same(one: Scores, other: Scores) -> bool:
    return bool(np.allclose(one.scores, other.scores, atol=1e-4))


def test_overlapping_windows_encode_each_picture_and_patch_once(
    engine: engines.OnnxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten windows that slide by one picture and one patch over thirteen and twelve encode just those."""
    frames, sounds = Counted(engine._frame), Counted(engine._audio)
    monkeypatch.setattr(engine, "_frame", frames)
    monkeypatch.setattr(engine, "_audio", sounds)
    for seq in range(10):
        engine.run([window("a", seq, range(seq, seq + 4), range(seq, seq + 3))])
    assert (frames.encoded, sounds.encoded) == (13, 12)
    engine.run([window("a", seq, range(seq, seq + 4), range(seq, seq + 3)) for seq in range(9, 12)])
    assert (frames.encoded, sounds.encoded) == (15, 14)


def test_a_window_is_scored_alike_alone_and_in_company(engine: engines.OnnxEngine) -> None:
    """What else is in a batch, and what other streams hold under the same indices, changes nothing."""
    alone = engine.run([window("a", 0, range(4), range(3))])[0]
    engine.forget("a")
    company = engine.run(
        [window("b", 0, range(4, 6)), window("a", 0, range(4), range(3)), window("c", 0, patches=range(5, 8))]
    )
    assert same(company[1], alone)
    assert not same(company[0], alone) and not same(company[2], alone)


def test_scores_are_probabilities_and_shares_sum_to_one(engine: engines.OnnxEngine) -> None:
    """With both modalities, with one, and with nothing there, every number is in range and each row of shares sums to
    1."""
    for pictures, patches in ((4, 3), (4, 0), (0, 3), (0, 0)):
        scores = engine.run([window("a", 0, range(pictures), range(patches))])[0]
        assert scores.scores.shape == (len(engine.labels),) and scores.shares.shape == (len(engine.labels), 3)
        assert np.all((scores.scores >= 0) & (scores.scores <= 1)) and np.all(np.isfinite(scores.scores))
        assert np.allclose(scores.shares.sum(1), 1.0, atol=1e-3) and np.all(scores.shares >= 0)
        if pictures and not patches:
            assert np.allclose(scores.shares[:, 0], 1.0, atol=1e-3)
        engine.forget("a")


def test_forgetting_a_stream_frees_its_tokens(engine: engines.OnnxEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `forget` the same indices are encoded anew."""
    frames = Counted(engine._frame)
    engine.run([window("a", 0, range(4))])
    engine.forget("a")
    monkeypatch.setattr(engine, "_frame", frames)
    engine.run([window("a", 0, range(4))])
    assert frames.encoded == 4


def test_scores_carry_what_they_were_computed_from(engine: engines.OnnxEngine) -> None:
    """Each window's scores hold the tokens of just its pictures and patches, as fused to within half precision; windows
    that overlap hold the same tokens, and a picture that was left out is in neither."""
    first, second = engine.run([window("a", 0, range(4), range(2)), window("a", 1, range(2, 6, 2), range(1, 3))])
    assert first.basis is not None and second.basis is not None
    assert [token.index for token in first.basis.video] == [0, 1, 2, 3]
    assert [token.index for token in second.basis.video] == [2, 4]
    assert [(token.index, token.media_ns) for token in second.basis.audio] == [(1, 1), (2, 2)]
    assert first.basis.video[2] is second.basis.video[0] and first.basis.audio[1] is second.basis.audio[0]
    served = engine._streams["a"].video.get(4)
    np.testing.assert_allclose(second.basis.video[1].values.astype(np.float32), served, rtol=1e-3, atol=1e-6)


def test_kept_tokens_tell_the_same_scores(engine: engines.OnnxEngine) -> None:
    """Fused anew from the tokens in half precision, no score moves by more than a thousandth."""
    asked = window("a", 0, range(4), range(3))
    scores = engine.run([asked])[0]
    assert scores.basis is not None
    for ring, tokens in (
        (engine._streams["a"].video, scores.basis.video),
        (engine._streams["a"].audio, scores.basis.audio),
    ):
        for token in tokens:
            ring.tokens[token.index % len(ring.holds)] = token.values
    np.testing.assert_allclose(engine.run([asked])[0].scores, scores.scores, atol=1e-3)


def test_warm_up_measures_what_the_parts_of_a_batch_cost(engine: engines.OnnxEngine) -> None:
    """Pictures and patches have measured costs, a picture the higher one, and warming up leaves no tokens behind."""
    costs = engine.warm_up(3)
    assert costs.call_ns > 0 and costs.picture_ns > costs.patch_ns > 0
    assert "" not in engine._streams


def test_a_device_that_is_not_served_is_refused_by_name() -> None:
    """`--device cuda:0` says in one line what to do instead."""
    with pytest.raises(UserError, match=r"cuda:0.*--device cpu"):
        engines.load("cuda:0", None)


def test_the_runtime_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """A process that loads the engine and computes leaves no trace of the runtime's telemetry (a device id, a
    queue)."""
    code = "from streamer import engine; engine.load('cpu', None).warm_up(1)"
    env = {
        **os.environ,
        "STREAMER_CACHE": str(weights.cache_dir()),
        "XDG_CACHE_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    env.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)]


class Detector:
    """Sees nobody, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def find(self, looks: Sequence[tuple[int, int, Look]]) -> list[Sighting]:
        self.asked += [index for index, _, _ in looks]
        nobody = np.zeros(0, np.float32)
        return [
            Sighting(index, media_ns, 1.0, nobody, nobody.reshape(0, 4), nobody.reshape(0, 17, 3))
            for index, media_ns, _ in looks
        ]


def test_people_are_looked_for_once_a_picture() -> None:
    """In overlapping windows each picture with a look is asked about once, and every window gets what is in it; a
    stream that was forgotten is asked about anew."""
    engine, detector = engines.load("cpu", None), Detector()
    cut = window("a", 0, range(4))
    look = blank_look()
    looking = [replace(one, look=look if one.index != 1 else None) for one in cut.pictures]
    first, second = replace(cut, pictures=tuple(looking[:3])), replace(cut, seq=1, pictures=tuple(looking[1:]))
    assert engine.run([first])[0].sightings == ()  # nobody can be found before there is who finds them
    engine.look_for_people(detector)  # type: ignore[arg-type]
    found = engine.run([first, second])
    assert detector.asked == [0, 2, 3]
    assert [[sighting.index for sighting in scores.sightings] for scores in found] == [[0, 2], [2, 3]]
    engine.run([second])
    assert detector.asked == [0, 2, 3]
    engine.forget("a")
    engine.run([second])
    assert detector.asked == [0, 2, 3, 2, 3]


def test_what_a_checkpoint_does_not_read_is_not_encoded(tmp_path: Path) -> None:
    """One that hears alone has no picture encoder: pictures cost nothing, are in no basis and have no share; people may
    still be looked for in them."""
    path = learned_checkpoint(tmp_path / "c.safetensors", replace(FROZEN, video=None))
    engine = engines.load("cpu", None, model=str(path))
    assert isinstance(engine, engines.OnnxEngine) and engine._frame is None
    detector = Detector()
    engine.look_for_people(detector)  # type: ignore[arg-type]
    looking = tuple(replace(one, look=blank_look()) for one in window("a", 0, range(4)).pictures)
    both = replace(window("a", 0, patches=range(3)), pictures=looking)
    scores, alone = engine.run([both, replace(both, seq=1, pictures=())])
    assert scores.basis is not None and scores.basis.video == () and len(scores.basis.audio) == 3
    assert same(scores, alone) and np.allclose(scores.shares[:, 1], 1.0)
    assert len(scores.sightings) == 4 and [label.modalities for label in engine.labels] == [("audio",)] * 3
    costs = engine.warm_up(2)
    assert costs.patch_ns > 0 and costs.picture_ns >= 1


def test_moments_are_told_from_the_window_s_start(tmp_path: Path) -> None:
    """The same pictures at other times within a window are another window to a fusion that knows of time, and at the
    same times in a later window the same."""
    engine = engines.load("cpu", None, model=str(learned_checkpoint(tmp_path / "c.safetensors")))
    second = 1_000_000_000
    cut = replace(window("a", 0, range(4)), end_ns=3 * second)
    spread = replace(cut, pictures=tuple(replace(one, media_ns=one.index * second // 2) for one in cut.pictures))
    later = replace(
        spread,
        start_ns=9 * second,
        pictures=tuple(replace(one, media_ns=one.media_ns + 9 * second) for one in spread.pictures),
    )
    at_once, in_time, afterwards = engine.run([cut, spread, later])
    assert same(in_time, afterwards) and not same(at_once, in_time)
    assert np.allclose(in_time.scores.sum(), 1.0, atol=1e-5)
