"""The stick figure of `models.fall_motion` before some camera, through a detector's eyes.

What a detector does to the points of a body (noise, low scores, swapped sides, bodies on their head, lost people) is
put on them as it was seen on real pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.fall_motion import Story, Wide, figure, lying, poses_at, standing, told

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Track:
    """Sightings of one person, N of them, and what is true.

    times_ns: int64 `[N]`. boxes: float32 `[N, 4]`; points: float32 `[N, 17, 3]`, as in a sighting. fallen: float32
    `[N]`: 1 after a fall until they get up, 0 otherwise, and -1 while it is neither one nor the other.
    """

    times_ns: NDArray[np.int64]
    aspect: float
    boxes: Float
    points: Float
    fallen: Float


def simulate(rng: np.random.Generator, fall_share: float = 0.4) -> Track:
    """One person's sightings, about half a second apart, at least three of them."""
    kind = rng.random()
    if kind < 0.085:
        return _nobody(rng) if kind < 0.06 else _taken_for_another(rng)
    falls = rng.random() < fall_share
    story = told(rng, falls=falls)
    track = _filmed(rng, story, _sampled(rng, story), cuts=not falls and rng.random() < 0.25)
    return track if len(track.times_ns) >= 3 else simulate(rng, fall_share)


def _sampled(rng: np.random.Generator, story: Story) -> Wide:
    """When pictures are looked at: twice a second, some lost, and few while nothing moves."""
    end = max(story.now, 2.0)
    times = np.arange(rng.uniform(0, 0.5), end, 0.5)
    times = times + rng.uniform(-0.06, 0.06, len(times))
    keep = rng.random(len(times)) > rng.choice([0.0, 0.03, 0.1])
    if rng.random() < 0.3:
        after = max((time for time, told in story.truth if told == 1.0), default=0.0)
        still = (times > after + 2.0) & (after > 0)
        keep &= ~still | (rng.random(len(times)) < 0.15)
    return np.asarray(times[keep])


@dataclass(frozen=True, slots=True)
class _Camera:
    """Where it stands: metres and radians; `focal` in heights of the picture."""

    height: float
    distance: float
    heading: float
    tilt: float
    roll: float
    focal: float
    shift: tuple[float, float]

    @classmethod
    def somewhere(cls, rng: np.random.Generator, tall: float) -> _Camera:
        height = rng.uniform(0.6, 3.2)
        distance = rng.choice([rng.uniform(1.2, 3.0), rng.uniform(2.5, 8.0)], p=[0.25, 0.75])
        focal = 0.5 / np.tan(np.radians(rng.uniform(32, 75)) / 2)
        # As near as that, nobody films whole people; but mostly one does.
        distance = max(distance, rng.uniform(0.5, 1.0) * tall * focal)
        tilt = np.arctan2(height - tall * 0.45, distance)
        turned = rng.uniform(0, 2 * np.pi)
        shift = rng.uniform(-0.25, 0.25), rng.uniform(-0.15, 0.15)
        return cls(height, distance, turned, tilt, rng.normal(0, 0.03), focal, shift)

    def seen(self, places: Wide) -> Wide:
        """Metres `[..., 3]` in the world, the person near its origin, to `[..., 3]`: right and down from the picture's
        middle in its heights, and how far away."""
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        ahead = places[..., 0] * cos + places[..., 1] * sin + self.distance
        right = -places[..., 0] * sin + places[..., 1] * cos
        up = places[..., 2] - self.height
        depth = np.maximum(ahead * np.cos(self.tilt) - up * np.sin(self.tilt), 0.3)
        across, down = right / depth * self.focal, -(ahead * np.sin(self.tilt) + up * np.cos(self.tilt)) / depth
        down = down * self.focal
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        x, y = across * cos - down * sin + self.shift[0], across * sin + down * cos + self.shift[1]
        return np.stack([x, y, depth], -1)


def _filmed(rng: np.random.Generator, story: Story, times: Wide, *, cuts: bool) -> Track:
    """The story before a camera, through a detector's eyes."""
    tall = rng.uniform(1.5, 1.95) if rng.random() < 0.9 else rng.uniform(0.8, 1.4)
    girth = rng.uniform(0.85, 1.2)
    aspect = float(rng.choice([16 / 9, 4 / 3, 1.0, 9 / 16], p=[0.5, 0.4, 0.05, 0.05]))
    speed = rng.uniform(0.3, 1.4)
    walked = sum((np.clip(times, began, ended) - began for began, ended in story.walks), np.zeros(len(times)))
    total = sum(ended - began for began, ended in story.walks)
    camera = _Camera.somewhere(rng, tall)
    track = None
    for moment in (0.0, 0.05):
        points = figure(poses_at(story, times + moment), girth) * tall
        # Where somebody falls they are in the picture: they come from somewhere and end before the camera.
        points[..., 0] += ((walked - total) * speed)[:, None]
        screen = camera.seen(points)
        if cuts:
            screen = _cut(rng, screen, points, times, tall, story.now) if moment == 0.0 else screen
        if track is None:
            track = screen
    assert track is not None
    size = np.hypot(np.ptp(track[..., 0], axis=1), np.ptp(track[..., 1], axis=1))
    moved = np.abs(screen - track)[..., :2].mean(axis=(1, 2)) / 0.05 / np.maximum(size, 1e-3)
    places = np.stack([track[..., 0] / aspect + 0.5, track[..., 1] + 0.5], -1)
    return _detected(rng, times, aspect, places, np.zeros_like(moved) if cuts else moved, _truth(story, times))


def _cut(rng: np.random.Generator, screen: Wide, points: Wide, times: Wide, tall: float, end: float) -> Wide:
    """Another camera from some moment on, or one that is carried about."""
    if rng.random() < 0.5:
        other = _Camera.somewhere(rng, tall)
        return np.where((times > rng.uniform(0, end))[:, None, None], other.seen(points), screen)
    sway = np.cumsum(rng.normal(0, 0.04, (len(times), 2)), axis=0)
    zoom = np.exp(np.cumsum(rng.normal(0, 0.06, len(times))))
    swayed = screen.copy()
    swayed[..., :2] = screen[..., :2] * zoom[:, None, None] + sway[:, None]
    return swayed


def _truth(story: Story, times: Wide) -> Float:
    fallen = np.zeros(len(times), np.float32)
    for since, fallen_then in story.truth:
        fallen[times >= since] = fallen_then
    return fallen


def _detected(rng: np.random.Generator, times: Wide, aspect: float, places: Wide, moved: Wide, fallen: Float) -> Track:
    """What a detector makes of the points, places in fractions of the picture `[N, 17, 2]`."""
    count = len(times)
    body = places * (aspect, 1.0)
    torso = body[:, 11:13].mean(axis=1) - body[:, 5:7].mean(axis=1)
    level = 1 - np.clip(torso[:, 1] / np.maximum(np.hypot(*torso.T), 1e-3), -0.2, 1)
    size = np.maximum(np.hypot(np.ptp(body[..., 0], axis=1), np.ptp(body[..., 1], axis=1)), 1e-3)
    quality = rng.uniform(0.65, 1.15)
    sure = quality * (0.62 - 0.25 * np.minimum(level, 1) - 0.12 * np.minimum(moved, 1.5))
    limbs = np.clip(rng.normal(1, 0.15, 17), 0.5, 1.3)
    limbs[11:] *= rng.choice([1.0, 0.5, 0.25], p=[0.75, 0.15, 0.1])
    scores = np.clip(sure[:, None] * limbs + rng.normal(0, 0.07, (count, 17)), 0.02, 0.92)
    outside = ((places < 0.0) | (places > 1.0)).any(axis=-1)
    scores[outside] = rng.uniform(0.03, 0.25, int(outside.sum()))
    noise = size[:, None] * (0.008 + 0.03 * (1 - scores) ** 2 + 0.05 * (scores < 0.25) + 0.02 * moved[:, None])
    body = body + rng.normal(0, 1, body.shape) * noise[..., None]
    body, scores = _confused(rng, body, scores, np.minimum(level, 1), moved)
    seen = np.clip(body / (aspect, 1.0), 0.0, 1.0)
    low, high = seen.min(axis=1), seen.max(axis=1)
    margin = np.abs(rng.normal(0.04, 0.03, (count, 2, 2))) * (size[:, None] / (aspect, 1.0))[:, None]
    boxes = np.concatenate([np.clip(low - margin[:, 0], 0, 1), np.clip(high + margin[:, 1], 0, 1)], axis=1)
    lost = rng.random(count) < 0.02 + 0.1 * np.minimum(level, 1) * (moved > 0.3) + 0.9 * (outside.sum(axis=1) > 12)
    points = np.concatenate([seen, scores[..., None]], axis=-1)
    kept = ~lost
    return Track(
        np.round(times[kept] * 1e9).astype(np.int64),
        aspect,
        boxes[kept].astype(np.float32),
        points[kept].astype(np.float32),
        fallen[kept],
    )


def _confused(rng: np.random.Generator, body: Wide, scores: Wide, level: Wide, moved: Wide) -> tuple[Wide, Wide]:
    """Points and scores; left for right at times, and at times, mostly of those who lie or tumble, a body that is no
    body, or one on its head."""
    sides = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
    swapped = rng.random(len(body)) < 0.1
    body[swapped] = body[swapped][:, sides]
    wild = rng.random(len(body)) < 0.015 + 0.05 * level + 0.1 * (moved > 0.8)
    for index in np.flatnonzero(wild):
        turned = rng.permutation(17)[: rng.integers(4, 14)]
        middle, extent = body[index].mean(axis=0), np.ptp(body[index], axis=0)
        body[index, turned] = middle + rng.normal(0, 0.3, (len(turned), 2)) * extent
    inverted = rng.random(len(body)) < 0.02
    middles = body.mean(axis=1, keepdims=True)
    body[inverted, :, 1] = (2 * middles - body)[inverted, :, 1]
    scores[wild | inverted] *= rng.uniform(0.3, 0.8)
    return body, scores


def _nobody(rng: np.random.Generator) -> Track:
    """Something taken for a person: points without a body's sense, low scores."""
    count = int(rng.integers(3, 24))
    times = np.arange(count) * 0.5 + rng.uniform(-0.06, 0.06, count)
    aspect = float(rng.choice([16 / 9, 4 / 3]))
    middle, extent = rng.uniform(0.2, 0.8, 2), rng.uniform(0.05, 0.3, 2)
    shape = rng.normal(0, 0.5, (17, 2))
    wander = np.cumsum(rng.normal(0, rng.choice([0.01, 0.15]), (count, 17, 2)), axis=0)
    stretch = np.exp(rng.normal(0, rng.choice([0.05, 0.5]), (count, 1, 2)))
    places = middle + (shape + wander + rng.normal(0, 0.1, (count, 17, 2))) * extent * stretch
    track = _detected(rng, times, aspect, places, np.zeros(count), np.zeros(count, np.float32))
    if len(track.times_ns) < 3:
        return _nobody(rng)
    points = track.points.copy()
    points[..., 2] *= rng.uniform(0.3, 0.8)
    return replace(track, points=points)


def _taken_for_another(rng: np.random.Generator) -> Track:
    """Somebody upright, and then, taken for them, somebody else who lies a step away: nobody has fallen."""
    first, second = (_filmed(rng, story, _sampled(rng, story), cuts=False) for story in (standing(rng), lying(rng)))
    if min(len(first.times_ns), len(second.times_ns)) < 3:
        return _taken_for_another(rng)
    until = int(rng.integers(2, len(first.times_ns)))
    aspect = np.array([first.aspect, 1.0])
    here, there = (_middle_and_size(box, first.aspect) for box in (first.boxes[until - 1], second.boxes[0]))
    scale = here[1] / there[1] * np.exp(rng.normal(0, 0.3))
    away = rng.choice([-1, 1]) * rng.uniform(0.7, 1.4), rng.uniform(-0.1, 0.4)
    middle = here[0] + np.array(away) * here[1]

    def moved(places: Float) -> Float:
        return np.asarray(np.clip(((places * aspect - there[0]) * scale + middle) / aspect, 0, 1), np.float32)

    points = second.points.copy()
    points[..., :2] = moved(points[..., :2])
    boxes = np.concatenate([moved(second.boxes[:, :2]), moved(second.boxes[:, 2:])], axis=1)
    later_ns = second.times_ns - second.times_ns[0] + first.times_ns[until - 1] + 500_000_000
    return Track(
        np.concatenate([first.times_ns[:until], later_ns]),
        first.aspect,
        np.concatenate([first.boxes[:until], boxes]),
        np.concatenate([first.points[:until], points]),
        np.zeros(until + len(later_ns), np.float32),
    )


def _middle_and_size(box: Float, aspect: float) -> tuple[Wide, float]:
    """Of a box, in heights of the picture."""
    corners = box.astype(np.float64).reshape(2, 2) * (aspect, 1.0)
    return corners.mean(axis=0), max(float(np.hypot(*(corners[1] - corners[0]))), 1e-3)
