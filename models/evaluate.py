"""How well the pretrained encoders and the checkpoint `tags` do on folders of real media.

`python -m models.evaluate FOLDER [--weights DIR]` prints every figure; FOLDER has any of `images` (file names are
ImageNet classes), `esc10` (a folder a class; a name's first figure is its fold), `fsdd` (DIGIT_SPEAKER_TAKE) and
`av_clips` (KIND_NUMBER).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models import audio, frame, tags, weights
from models.config import NS_PER_S, Geometry
from models.data import read_audio, read_frames
from models.fusion.noisy_or import TagFusion

FLOOR = 0.05  # labels below it are not published
TOP = 5
_BATCH = 16

# What a person would let pass as right for a clip of that kind (its name without the number).
CLIP_LABELS: Mapping[str, tuple[str, ...]] = {
    "applause": ("Applause", "Cheering", "Crowd"),
    "baby_cry": ("Crying Baby", "Crying"),
    "badminton": ("Sports", "Speech"),
    "basketball_gym": ("Sports",),
    "bikes": ("Bicycle", "Car", "Traffic"),
    "car_engine": ("Engine", "Car", "Vehicle"),
    "car_fire": ("Fire", "Car"),
    "cough": ("Cough",),
    "crowd_cheer": ("Cheering", "Crowd"),
    "dog_bark": ("Dog",),
    "double_bass": ("Cello or Double Bass", "Bowed Strings"),
    "drum": ("Drum",),
    "film_friday": ("Speech",),
    "fireworks": ("Fireworks",),
    "flower": ("Flower",),
    "guitar": ("Guitar",),
    "guitar_duo": ("Guitar",),
    "gun": ("Gunshot", "Gun"),
    "hammer": ("Hammer", "Tools"),
    "nasa": ("Speech", "Music"),
    "people_one_by_one": ("Clothing", "Footsteps"),
    "race_car": ("Race Car", "Car"),
    "rip_paper": ("Paper",),
    "sheep": ("Sheep",),
    "traffic_cars": ("Car", "Traffic"),
    "train": ("Train",),
    "two_talkers": ("Speech",),
    "waterfall": ("Waterfall", "Water"),
}

# Labels that are true of an environmental sound of that class...
SOUND_LABELS: Mapping[str, tuple[str, ...]] = {
    "baby_cry": ("Crying Baby", "Crying"),
    "chainsaw": ("Chainsaw",),
    "clock_tick": ("Clock",),
    "dog_bark": ("Dog", "Animal"),
    "fire_crackling": ("Fire",),
    "helicopter": ("Helicopter",),
    "person_sneeze": ("Sneeze",),
    "rain": ("Rain", "Water"),
    "rooster": ("Chicken", "Animal"),
    "sea_waves": ("Waves", "Water"),
}
# ... and labels that may be true of it too: its folder says neither yes nor no, so they are left out of calibration.
SOUND_MAYBE: Mapping[str, tuple[str, ...]] = {
    "baby_cry": ("Speech", "Indoors", "Scream", "Breathing", "Animal", "Shout"),
    "chainsaw": ("Engine", "Tools", "Vehicle", "Wood", "Outdoors", "Drill", "Noise", "Sawing", "Machinery"),
    "clock_tick": ("Machinery", "Indoors", "Clicking", "Silence", "Echo"),
    "dog_bark": ("Silence", "Outdoors", "Indoors", "Echo", "Wolf", "Speech"),
    "fire_crackling": ("Outdoors", "Wood", "Rustling", "Crunch", "Noise", "Paper"),
    "helicopter": ("Aircraft", "Vehicle", "Engine", "Outdoors", "Noise", "Machinery", "Whir", "Vibration"),
    "person_sneeze": ("Silence", "Speech", "Cough", "Breathing", "Sniff", "Indoors", "Laughter"),
    "rain": ("Outdoors", "Thunder", "Running Water", "Noise", "Waterfall", "Wind"),
    "rooster": ("Bird", "Outdoors", "Silence", "Speech"),
    "sea_waves": ("Wind", "Outdoors", "Noise", "Rain", "Bird", "Waterfall"),
    "digit": ("Indoors", "Echo", "Silence"),
}


@dataclass(frozen=True, slots=True)
class Windows:
    """Tokens and masks of a clip's windows, as `TagFusion.forward` takes them."""

    video: Tensor
    video_mask: Tensor
    audio: Tensor
    audio_mask: Tensor


@dataclass(frozen=True, slots=True)
class ClipVerdict:
    """Labels of a clip by falling mean score over its windows, the right one among the first five, and its shares."""

    clip: str
    top: tuple[tuple[str, float], ...]
    right: str | None
    share: tuple[float, float]


class Labeller:
    """Both encoders and `tags`, offline: media in, tokens and scores out."""

    def __init__(self, found: weights.Weights) -> None:
        self.geometry = Geometry()
        self.frames = frame.load(found.frame).folded()
        self.patches = audio.load(found.audio)
        self.fusion: TagFusion = tags.build(found)[0]
        self.names = [label.name for label in tags.labels()]

    @torch.no_grad()
    def encode_frames(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 RGB `[N, 224, 224, 3]` -> tokens float32 `[N, 1280]`."""
        parts = [self.frames(torch.from_numpy(pixels[at : at + _BATCH])) for at in range(0, len(pixels), _BATCH)]
        return torch.cat([torch.zeros(0, self.geometry.video_width), *parts])

    @torch.no_grad()
    def encode_audio(self, waveform: NDArray[np.float32]) -> Tensor:
        """float32 `[S]` at 16 kHz -> tokens float32 `[N, 1024]`, one each 0.48 s. A shorter sound is padded."""
        patches = torch.from_numpy(cut_patches(waveform, self.geometry))
        parts = [self.patches(patches[at : at + _BATCH]) for at in range(0, len(patches), _BATCH)]
        return torch.cat([torch.zeros(0, self.geometry.audio_width), *parts])

    @torch.no_grad()
    def label(self, video: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `[W, L]` and shares `[W, L, 3]` of every window of a clip with these tokens."""
        batch = cut_windows(video, sound, self.geometry)
        scores, shares = self.fusion(batch.video, batch.video_mask, batch.audio, batch.audio_mask)
        return scores, shares

    def judge(self, clip: Path) -> ClipVerdict:
        """Labels a clip, its picture squashed to the square: is a right label among the first five?"""
        rate = self.geometry.frame_rates[0]
        scores, shares = self.label(self.encode_frames(read_frames(clip, rate)), self.encode_audio(read_audio(clip)))
        mean = scores.mean(dim=0)
        first = [int(index) for index in mean.topk(TOP).indices if mean[index] >= FLOOR]
        wanted = CLIP_LABELS[clip.stem.rpartition("_")[0]]
        right = next((index for index in first if self.names[index] in wanted), None)
        share = (0.0, 0.0)
        if right is not None:
            weighted = (shares[:, right] * scores[:, right, None]).sum(dim=0) / scores[:, right].sum()
            share = (float(weighted[0]), float(weighted[1]))
        top = tuple((self.names[index], float(mean[index])) for index in first)
        return ClipVerdict(clip.stem, top, None if right is None else self.names[right], share)


def cut_patches(waveform: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """float32 `[S]` -> `[N, 15600]`, a patch each hop as far as the sound reaches; N is 0 only for no sound."""
    hop = geometry.patch_hop_ns * geometry.sample_rate // NS_PER_S
    if not len(waveform):
        return np.zeros((0, geometry.patch_samples), np.float32)
    whole = np.pad(waveform, (0, max(0, geometry.patch_samples - len(waveform))))
    starts = range(0, len(whole) - geometry.patch_samples + 1, hop)
    return np.stack([whole[at : at + geometry.patch_samples] for at in starts])


def cut_windows(video: Tensor, sound: Tensor, geometry: Geometry) -> Windows:
    """A clip's windows, one each hop from its first hop on, as the service cuts them.

    `video` `[N, 1280]` at the first of the geometry's frame rates, `sound` `[N, 1024]`. A window has the frames that
    lie in it and the patches that lie wholly in it.
    """
    frame_ns = NS_PER_S // geometry.frame_rates[0]
    patch_ends = [index * geometry.patch_hop_ns + geometry.patch_ns for index in range(len(sound))]
    duration_ns = max(len(video) * frame_ns, patch_ends[-1] if patch_ends else 0)
    ends = [geometry.hop_ns * (n + 1) for n in range(math.ceil(duration_ns / geometry.hop_ns))]
    frames = [[i for i in range(len(video)) if end - geometry.window_ns <= i * frame_ns < end] for end in ends]
    patches = [
        [i for i, last in enumerate(patch_ends) if end - geometry.window_ns <= last - geometry.patch_ns and last <= end]
        for end in ends
    ]
    return Windows(*_gather(video, frames), *_gather(sound, patches))


def _gather(tokens: Tensor, chosen: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Chosen rows, padded to one length of at least 1: `[W, T, width]` and the mask `[W, T]`."""
    most = max(1, max((len(row) for row in chosen), default=0))
    padded = torch.zeros(len(chosen), most, tokens.shape[1])
    mask = torch.zeros(len(chosen), most)
    for place, row in enumerate(chosen):
        padded[place, : len(row)] = tokens[list(row)]
        mask[place, : len(row)] = 1
    return padded, mask


def calibration_error(probability: Tensor, truth: Tensor, floor: float = FLOOR, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al., 2015) of the probabilities that reach the floor and are published."""
    kept = probability >= floor
    probability, truth = probability[kept], truth[kept].float()
    place = (probability * bins).long().clamp(max=bins - 1)
    error = 0.0
    for index in range(bins):
        member = place == index
        if not member.any():
            continue
        error += float(member.float().mean() * (probability[member].mean() - truth[member].mean()).abs())
    return error


def image_accuracy(labeller: Labeller, folder: Path) -> dict[str, float]:
    """Top 1 and top 5 of ImageNet's classes, and top 1 of the merged labels, on photographs named after their class."""
    # Two classes are called crane and two maillot; the collection's names without a qualifier are the first of each.
    classes: dict[str, tags.SourceClass] = {}
    for source in sorted(tags.source_classes(), key=lambda s: s.index):
        if source.collection == "imagenet":
            classes.setdefault(source.name.replace(" ", "_"), source)
    files = sorted(folder.glob("*.jpg"))
    truth = [classes[path.stem] for path in files]
    tokens = torch.cat([labeller.encode_frames(read_frames(path, 1)[:1]) for path in files])
    with torch.no_grad():
        logits = labeller.frames.classifier(tokens)
        labels = labeller.fusion.video(tokens[:, None], torch.ones(len(tokens), 1)).argmax(dim=1)
    ranked = logits.topk(TOP).indices
    indices = torch.tensor([source.index for source in truth])
    return {
        "top1": float((ranked[:, 0] == indices).float().mean()),
        "top5": float((ranked == indices[:, None]).any(dim=1).float().mean()),
        "label_top1": float(np.mean([labeller.names[i] == t.label for i, t in zip(labels, truth, strict=True)])),
    }


def probe_accuracy(tokens: Tensor, classes: Sequence[str], folds: Sequence[str], ridge: float = 1e-2) -> float:
    """Mean accuracy, leaving each fold out, of logistic regression on frozen tokens `[N, W]`."""
    names = sorted(set(classes))
    truth = torch.tensor([names.index(name) for name in classes])
    held = np.array(folds)
    scores = []
    for fold in sorted(set(folds)):
        test = torch.from_numpy(held == fold)
        mean, deviation = tokens[~test].mean(dim=0), tokens[~test].std(dim=0) + 1e-3
        layer = _logistic((tokens[~test] - mean) / deviation, truth[~test], len(names), ridge)
        with torch.no_grad():
            scores.append(float((layer((tokens[test] - mean) / deviation).argmax(dim=1) == truth[test]).float().mean()))
    return float(np.mean(scores))


def _logistic(features: Tensor, truth: Tensor, classes: int, ridge: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(features.shape[1], classes)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(layer(features), truth) + ridge * layer.weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return layer


def sound_accuracy(labeller: Labeller, folder: Path) -> dict[str, float]:
    """Sounds: four-fold accuracy of a layer on frozen tokens, and how often a right label is first, or in five."""
    files = sorted(folder.glob("*/*.opus"))
    tokens = [labeller.encode_audio(read_audio(path)) for path in files]
    classes = [path.parent.name for path in files]
    first = five = 0
    for sound, name in zip(tokens, classes, strict=True):
        mean = labeller.label(torch.zeros(0, labeller.geometry.video_width), sound)[0].mean(dim=0)
        top = [labeller.names[int(index)] for index in mean.topk(TOP).indices]
        first += top[0] in SOUND_LABELS[name]
        five += any(label in SOUND_LABELS[name] for label in top)
    pooled = torch.stack([sound.mean(dim=0) for sound in tokens])
    return {
        "probe": probe_accuracy(pooled, classes, [path.stem[0] for path in files]),
        "label_top1": first / len(files),
        "label_top5": five / len(files),
    }


def digit_accuracy(labeller: Labeller, folder: Path) -> dict[str, float]:
    """Spoken digits: accuracy of a layer on frozen tokens, leaving one speaker out; how often Speech is published."""
    files = sorted(folder.glob("*.flac"))
    tokens = torch.stack([labeller.encode_audio(read_audio(path)).mean(dim=0) for path in files])
    with torch.no_grad():
        odds = labeller.fusion.audio(tokens[:, None], torch.ones(len(tokens), 1))
    speech = odds[:, labeller.names.index("Speech")].sigmoid()
    names = [path.stem.split("_") for path in files]
    return {
        "probe": probe_accuracy(tokens, [name[0] for name in names], [name[1] for name in names]),
        "speech": float((speech >= 0.5).float().mean()),
    }


def clip_table(labeller: Labeller, folder: Path) -> list[ClipVerdict]:
    """The verdict on every clip of a folder whose kind is known here."""
    clips = sorted(path for path in folder.glob("*.mp4") if path.stem.rpartition("_")[0] in CLIP_LABELS)
    return [labeller.judge(clip) for clip in clips]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Figures of the pretrained encoders and of `tags` on real media.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, default=None)
    options = parser.parse_args()
    labeller = Labeller(weights.fetch(options.weights))
    for name, measure in (("images", image_accuracy), ("esc10", sound_accuracy), ("fsdd", digit_accuracy)):
        if (options.folder / name).is_dir():
            figures = measure(labeller, options.folder / name)
            print(name, *(f"{key} {value:.3f}" for key, value in figures.items()))
    verdicts = clip_table(labeller, options.folder / "av_clips")
    for verdict in verdicts:
        said = f"{verdict.right} (video {verdict.share[0]:.2f}, audio {verdict.share[1]:.2f})" if verdict.right else "-"
        print(f"{verdict.clip:20} {said:45}", ", ".join(f"{name} {score:.2f}" for name, score in verdict.top))
    if verdicts:
        print(f"av_clips: a right label in the first {TOP}: {sum(bool(v.right) for v in verdicts)} of {len(verdicts)}")


if __name__ == "__main__":
    main()
