"""What people do, to learn falls from: a stick figure that walks, sits, bends, lies down or falls, pose by pose.

Real falls on film are few and their owners' own. A figure of seventeen points has the same geometry, and can fall in
every direction; `models.fall_film` puts it before a camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]

# A pose: angles in degrees. Torso: forward, to the side. Legs: to the side, then thighs and shins, and arms and
# forearms, each left and right, forward from straight down. Last the height of what it rests on, in body heights.
_ANGLES = 12


def _pose(pitch: float, roll: float, legs: float, *limbs: float, rests: float = 0.0) -> Wide:
    thighs, shins, arms, forearms = limbs
    return np.array([pitch, roll, legs, thighs, thighs, shins, shins, arms, arms, forearms, forearms, rests])


STAND = _pose(3, 0, 0, 0, 0, 5, 12)
SIT = _pose(8, 0, 0, 85, 0, 25, 60)
SIT_FLOOR = _pose(-5, 0, 0, 95, 80, 20, 40)
HUDDLE = _pose(10, 0, 0, 125, 10, 40, 70)
LUNGE = np.array([35.0, 0, 0, 70, -30, 0, -60, 110, -30, 130, 10, 0])
REACH = _pose(-5, 0, 0, 0, 0, 165, 175)
CROUCH = _pose(40, 0, 0, 115, -40, 40, 60)
KNEEL = _pose(8, 0, 0, 10, -88, 10, 30)
BEND = _pose(95, 0, 0, 10, -8, 10, 10)
FOURS = _pose(85, 0, 0, 5, -90, 0, 0)
BACK = _pose(-90, 0, 0, 90, 88, 85, 95)
BACK_KNEES = _pose(-90, 0, 0, 130, 40, 85, 95)
FRONT = _pose(90, 0, 0, -88, -92, 95, 100)
LEFT = _pose(5, 88, 88, 15, -5, 40, 60)
CURLED = _pose(20, 88, 88, 70, -20, 70, 90)
# Spread of a pose's angles from person to person.
_SPREAD = np.array([6, 4, 3, 6, 6, 7, 7, 15, 15, 20, 20, 0.0])


@dataclass(slots=True)
class Story:
    """What somebody does: poses with the time they are reached; walks; and whether they count as fallen since then."""

    rng: np.random.Generator
    times: list[float] = field(default_factory=lambda: [0.0])
    poses: list[Wide] = field(default_factory=list)
    hurried: list[bool] = field(default_factory=lambda: [False])
    walks: list[tuple[float, float]] = field(default_factory=list)
    truth: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])

    @property
    def now(self) -> float:
        return self.times[-1]

    def go(self, pose: Wide, least_s: float, most_s: float, *, hurried: bool = False) -> None:
        """Come into a pose in so long."""
        if not self.poses:
            self.poses.append(self._own(pose))
            return
        self.times.append(self.now + self.rng.uniform(least_s, most_s))
        self.poses.append(self._own(pose))
        self.hurried.append(hurried)

    def rest(self, least_s: float, most_s: float) -> None:
        """Stay so, moving a little."""
        until = self.now + self.rng.uniform(least_s, most_s)
        while self.now < until:
            stir = self.rng.normal(0, 0.25, _ANGLES) * _SPREAD
            self.times.append(min(until, self.now + self.rng.uniform(0.7, 2.5)))
            self.poses.append(self.poses[-1] + stir)
            self.hurried.append(False)

    def walk(self, least_s: float, most_s: float) -> None:
        began = self.now
        self.rest(least_s, most_s)
        self.walks.append((began, self.now))

    def tell(self, fallen: float, at_s: float | None = None) -> None:
        """1, 0 or -1 from now on (or from then on)."""
        self.truth.append((self.now if at_s is None else at_s, fallen))

    def _own(self, pose: Wide) -> Wide:
        return np.asarray(pose + self.rng.normal(0, 1, _ANGLES) * _SPREAD)


def _upright(story: Story) -> None:
    """What people do most of the time."""
    for _ in range(story.rng.integers(1, 4)):
        story.go(STAND, 0.4, 1.2)
        if story.rng.random() < 0.6:
            story.walk(1.0, 5.0)
        else:
            story.rest(0.5, 4.0)


def _sit(story: Story) -> None:
    story.go(SIT, 0.6, 2.0)
    story.rest(1.0, 8.0)


def _pick_up(story: Story) -> None:
    story.go([BEND, CROUCH, BEND, KNEEL][story.rng.integers(4)], 0.4, 1.2)
    story.rest(0.1, 2.0)
    story.go(STAND, 0.4, 1.2)
    story.rest(0.3, 2.0)


def _squats(story: Story) -> None:
    for _ in range(story.rng.integers(2, 6)):
        story.go(CROUCH, 0.4, 0.9)
        story.rest(0.05, 0.4)
        story.go(STAND, 0.4, 0.9)
        story.rest(0.05, 0.4)


def _exercise(story: Story) -> None:
    """Sport: fast, and low at moments."""
    for _ in range(story.rng.integers(2, 8)):
        story.go([LUNGE, REACH, CROUCH, STAND, BEND][story.rng.integers(5)], 0.25, 0.7)
        story.walk(0.1, 1.0)


def _on_the_floor(story: Story) -> None:
    story.go([SIT_FLOOR, HUDDLE, KNEEL, FOURS][story.rng.integers(4)], 1.0, 2.5)
    story.rest(1.0, 6.0)


def _lie_down(story: Story) -> None:
    """By way of sitting or kneeling, and not in a hurry."""
    rests = 0.0
    if story.rng.random() < 0.6:
        story.go(SIT, 0.7, 1.8)
        rests = story.rng.uniform(0.15, 0.3)
    else:
        story.go([SIT_FLOOR, KNEEL, CROUCH, HUDDLE][story.rng.integers(4)], 0.9, 2.2)
    story.rest(0.8, 3.0)
    story.go(_lying(story.rng, rests), 1.4, 4.0)
    story.rest(2.0, 10.0)


def _sit_ups(story: Story) -> None:
    _lie_down(story)
    for _ in range(story.rng.integers(2, 5)):
        story.go(SIT_FLOOR, 0.6, 1.2)
        story.go(BACK_KNEES, 0.6, 1.4)
        story.rest(0.1, 0.6)


def _lies_already(story: Story) -> None:
    """From the first sighting on, so that nobody can tell how it came."""
    rests = story.rng.choice([0.0, 0.25])
    story.poses[:] = [story._own(_lying(story.rng, rests))]
    story.rest(3.0, 12.0)
    if story.rng.random() < 0.4:
        story.go(SIT_FLOOR, 0.8, 2.0)
        story.rest(0.5, 3.0)
        story.go(STAND, 0.8, 2.0)
        story.rest(0.5, 3.0)


def _fall(story: Story) -> None:
    """From standing, walking, sitting or crouching; at once, or down first and over then."""
    start = story.rng.random()
    if start < 0.12:
        story.go(SIT, 0.6, 1.5)
        story.rest(0.8, 3.0)
    elif start < 0.3:
        # Seen when it has begun already, or out of something low.
        story.go([CROUCH, KNEEL, BEND, HUDDLE][story.rng.integers(4)], 0.4, 0.8)
        if story.rng.random() < 0.5:
            story.poses[:], story.times[:], story.hurried[:] = story.poses[-1:], [0.0], [False]
            story.walks.clear()
        story.rest(0.05, 0.5)
    began = story.now
    rests = story.rng.uniform(0.15, 0.3) if story.rng.random() < 0.15 else 0.0
    lies = _lying(story.rng, rests)
    way = story.rng.random()
    if way < 0.55:
        story.go(lies, 0.5, 1.1, hurried=True)
    else:
        between = {-1: [SIT_FLOOR, HUDDLE, SIT_FLOOR], 1: [KNEEL, FOURS, CROUCH], 0: [CROUCH, HUDDLE, KNEEL]}
        side = int(np.sign(np.round(lies[0] / 90)))
        story.go(between[side][story.rng.integers(3)], 0.4, 0.8, hurried=True)
        story.go(lies, 0.3, 1.5 if side < 0 else 0.9)
    story.tell(-1.0, began)
    story.tell(1.0, story.now - 0.2)
    story.rest(2.0, 12.0)
    if story.rng.random() < 0.35:
        story.tell(-1.0)
        story.go([SIT_FLOOR, FOURS, KNEEL][story.rng.integers(3)], 0.8, 2.0)
        story.rest(0.3, 2.0)
        story.go(STAND, 0.8, 2.0)
        story.tell(0.0, story.now + 1.0)
        _upright(story)


_PARTS: tuple[tuple[Callable[[Story], None], float], ...] = (
    (_sit, 0.2),
    (_pick_up, 0.2),
    (_squats, 0.1),
    (_exercise, 0.1),
    (_on_the_floor, 0.15),
    (_lie_down, 0.2),
    (_sit_ups, 0.05),
)


def _lying(rng: np.random.Generator, rests: float) -> Wide:
    pose: Wide = [BACK, BACK_KNEES, FRONT, FRONT, LEFT, CURLED][rng.integers(6)].copy()
    if rng.random() < 0.5:
        pose[1:3] *= -1
    pose[11] = rests
    return pose


def standing(rng: np.random.Generator) -> Story:
    """Somebody who stands and walks."""
    story = Story(rng)
    story.go(STAND, 0, 0)
    _upright(story)
    return story


def lying(rng: np.random.Generator) -> Story:
    """Somebody who lies from the first moment on."""
    story = Story(rng)
    story.go(STAND, 0, 0)
    _lies_already(story)
    return story


def told(rng: np.random.Generator, *, falls: bool) -> Story:
    """What somebody does for some ten to sixty seconds; at its end they fall or, without `falls`, never do."""
    if not falls and rng.random() < 0.2:
        return lying(rng)
    story = Story(rng)
    story.go(STAND, 0, 0)
    if rng.random() < 0.8:
        _upright(story)
    for _ in range(rng.integers(0, 2 if falls else 4)):
        parts, shares = zip(*_PARTS, strict=True)
        parts[rng.choice(len(parts), p=shares)](story)
        if rng.random() < 0.5:
            story.go(STAND, 0.5, 1.5)
            story.rest(0.3, 2.0)
    if falls:
        _fall(story)
    return story


def poses_at(story: Story, times: Wide) -> Wide:
    """float64 `[N, 12]`: between the poses told, gently or, in a fall, faster and faster; with steps in a walk."""
    at = np.array(story.times)
    poses = np.stack(story.poses)
    if len(at) == 1:
        return np.repeat(poses, len(times), axis=0)
    index = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(at) - 2)
    part = np.clip((times - at[index]) / np.maximum(at[index + 1] - at[index], 1e-3), 0, 1)
    hurried = np.array(story.hurried)[index + 1]
    part = np.where(hurried, part**1.8, part * part * (3 - 2 * part))
    mixed = poses[index] + (poses[index + 1] - poses[index]) * part[:, None]
    for began, ended in story.walks:
        walking = (times >= began) & (times <= ended)
        phase = 2 * np.pi * 0.9 * times[walking]
        swing = 25 * np.sin(phase)
        lift = 30 * np.clip(np.sin(phase + 1.2), 0, 1), 30 * np.clip(-np.sin(phase + 1.2), 0, 1)
        mixed[walking, 3:11] += np.stack(
            [swing, -swing, swing - lift[0], -swing - lift[1], -swing * 0.8, swing * 0.8, -swing * 0.6, swing * 0.6], 1
        )
    return np.asarray(mixed)


def figure(poses: Wide, girth: float = 1.0) -> Wide:
    """The seventeen points of poses `[N, 12]`: float64 `[N, 17, 3]`, forward, to the left and up, in body heights; the
    feet's middle at the origin, and the lowest point on what the pose rests on."""
    angle = np.radians(poses[:, :11])
    rests = poses[:, 11]
    torso = _along(angle[:, 0], angle[:, 1], 1.0)
    across = np.stack([np.zeros(len(poses)), np.cos(angle[:, 1]), np.sin(angle[:, 1])], 1) * girth
    leg_across = np.stack([np.zeros(len(poses)), np.cos(angle[:, 2]), np.sin(angle[:, 2])], 1) * girth
    front = np.stack([np.cos(angle[:, 0]), np.zeros(len(poses)), -np.sin(angle[:, 0])], 1)
    points = np.zeros((len(poses), 17, 3))
    neck = torso * 0.29
    head = neck + torso * 0.12
    points[:, 0] = head + front * 0.06
    for left, eye, ear, shoulder in ((1.0, 1, 3, 5), (-1.0, 2, 4, 6)):
        points[:, eye] = head + front * 0.05 + torso * 0.02 + across * left * 0.02
        points[:, ear] = head + torso * 0.01 + across * left * 0.045
        points[:, shoulder] = neck + across * left * 0.11
    for side, left in ((0, 1.0), (1, -1.0)):
        elbow = points[:, 5 + side] + _along(angle[:, 7 + side], angle[:, 1], -1.0) * 0.17
        points[:, 7 + side] = elbow
        points[:, 9 + side] = elbow + _along(angle[:, 9 + side], angle[:, 1], -1.0) * 0.15
        hip = leg_across * left * 0.07
        knee = hip + _along(angle[:, 3 + side], angle[:, 2], -1.0) * 0.245
        points[:, 11 + side], points[:, 13 + side] = hip, knee
        points[:, 15 + side] = knee + _along(angle[:, 5 + side], angle[:, 2], -1.0) * 0.245
    # Arms give way to the floor.
    lowest = points[:, [0, 5, 6, 11, 12, 13, 14, 15, 16], 2].min(axis=1)
    points[:, :, 2] += (rests + 0.04 - lowest)[:, None]
    feet = points[:, 15:17, :2].mean(axis=1)
    points[:, :, :2] -= feet[:, None]
    return points


def _along(pitch: Wide, roll: Wide, up: float) -> Wide:
    """Unit vectors of a limb that points up (or down, -1), swung forward by `pitch` and then to the side by `roll`."""
    level = np.cos(pitch)
    return np.stack([np.sin(pitch), -level * np.sin(roll) * up, level * np.cos(roll) * up], 1)
