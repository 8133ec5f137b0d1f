"""The stored items of a clip: what its encoders read, made of the media once (see models.learning.cache).

    lips, resnet18    pictures as the encoder's `prepare` makes them of live ones, with a margin around where the recipe
                      moves them in training
    efficientnet      tokens of the live encoder, whose pictures are whole; and, where the recipe says so, the people in
                      them (models.people), looked for as live: in the pictures that changed
    yamnet, whisper   tokens of the live encoder, one each 0.48 s; a shorter sound is padded with silence
    speech            the sound itself, cut into patches when a batch is made

Frozen encoders are run once, not every epoch: where a recipe changes what they see or hear, each clip is kept in
VARIANTS forms, the first as it is, and training draws one of them each time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import audio, data, frame, looks, movenet, people, whisper, whisper_encoder
from models.changes import Changes
from models.config import Geometry
from models.crop import Crop
from models.features import SAMPLE_RATE
from models.learning import augment
from models.learning.augment import Degrade, Noises
from models.learning.cache import Sources, Store, code_digest, content_digest
from models.learning.clips import Clip
from models.learning.errors import LearningError
from models.learning.recipe import AugmentRecipe, Recipe, VideoRecipe
from models.weights import Weights, cache_dir

VARIANTS = 6
"""Forms of a clip that are kept for a frozen encoder, the clip as it is among them."""
WHOLE = (0.0, 0.0, 1.0, 1.0)

_BATCH = 16
_INT16 = 32767.0


@dataclass(frozen=True, slots=True)
class Items:
    """Stored items of one modality of one clip: x `[N, ...]`, or `[V, N, ...]` in V forms; when: float32 `[N]`,
    seconds from the clip's start."""

    x: NDArray[Any]
    when: NDArray[np.float32]


class ItemMaker:
    """Makes, or finds in the store, the items of clips by a recipe."""

    def __init__(self, recipe: Recipe, sources: Sources, noises: Noises, degrade: Degrade | None = None) -> None:
        """`degrade`: what evaluation takes away; None where the items are to be trained on, and need forms.

        LearningError where the recipe asks for what an encoder can't do.
        """
        self._recipe = recipe
        self._sources = sources
        self._noises = noises
        self._degrade = degrade
        self._snr_db = degrade.snr_db if degrade else None
        self._store = Store(sources.cache / "features")
        self._geometry = Geometry()
        self._encode: dict[str, Callable[[Tensor], Tensor]] = {}
        self._found: looks.Finder | None = None
        self._once = threading.Lock()
        _check(recipe)
        self._prepare, self.margin = _preparer(recipe) if recipe.video else (nn.Identity(), 0)
        self._looks = _fingerprint(self._prepare, recipe.video) if recipe.video else ""

    def sound(self, clip: Clip) -> NDArray[np.int16]:
        """The clip's sound, int16 `[S]` at 16 kHz; empty where it has none."""
        if clip.media is None:
            return np.zeros(0, np.int16)
        fields = self._fields(clip, "sound") | {"code": code_digest(data.sound, data._in_time)}
        return self._store.get(fields, lambda: {"x": _as_int16(data.sound(*_place(clip)))})["x"]

    def heard(self, clip: Clip) -> NDArray[np.float32]:
        """The same as float32 `[S]` in -1..1, with the noise that evaluation wants."""
        return self._degraded(as_float(self.sound(clip)), clip)

    def _degraded(self, sound: NDArray[np.float32], clip: Clip) -> NDArray[np.float32]:
        return sound if self._degrade is None else augment.degrade(sound, clip.name, self._degrade, self._noises)

    def pictures(self, clip: Clip) -> Items:
        """Pictures uint8 `[N, H, W]` or `[N, H, W, 3]` (H = W = `pixels` and a margin), or tokens float16
        `[V, N, 1280]`."""
        video = self._recipe.video
        assert video is not None
        if video.encoder == "efficientnet":
            return self._picture_tokens(clip, video)
        fields = self._fields(clip, video.encoder) | {
            "rate": video.rate,
            "size": video.size,
            "looks": self._looks,
            "code": code_digest(data.pictures, data._squashed),
        }
        return self._kept(fields, lambda: self._prepared(clip, video))

    def patches(self, clip: Clip) -> Items:
        """Tokens of the sound, float16 `[V, N, W]`: 1024 wide of yamnet, 2048 of whisper."""
        assert self._recipe.audio is not None
        kind = self._recipe.audio.encoder
        changes = augment.changes_sound(self._recipe.augment) and self._degrade is None
        fields = self._fields(clip, kind) | {
            "weights": self._weights(_HEARD_BY[kind]),
            "changes": self._sound_fields() if changes else {},
            "noise": self._noise_fields(clip) if changes or self._snr_db is not None else {},
            "snr_db": self._snr_db,
            "code": code_digest(
                data.sound,
                data._in_time,
                *_HEARD_HOW[kind],
                ItemMaker.patches,
                ItemMaker._heard_tokens,
                ItemMaker._placed,
            ),
        }
        return self._kept(fields, lambda: self._heard_tokens(clip, VARIANTS if changes else 1))

    def _heard_tokens(self, clip: Clip, variants: int) -> dict[str, NDArray[Any]]:
        # As decoded: bands without any sound tell rounded samples apart.
        heard = data.sound(*_place(clip)) if clip.media else np.zeros(0, np.float32)
        heard, recipe, tokens, count = self._degraded(heard, clip), self._recipe.augment, [], 0
        assert self._recipe.audio is not None
        role = _HEARD_BY[self._recipe.audio.encoder]
        width = whisper_encoder.WIDTH if role == whisper.ROLE else self._geometry.audio_width
        for variant in range(variants):
            changed = heard
            if variant:
                rng = augment.clip_rng(clip.name, f"sound {variant}")
                changed, kept = self._placed(heard, rng)
                changed = augment.change_sound(changed, kept, self._noises, rng)
                changed = augment.mask_sound(changed, recipe.bands, recipe.frames, rng)
            patches = _cut(changed, self._geometry)
            count = len(patches)
            tokens.append(self._encoded(role, patches, width))
        first_s = np.arange(count) * (self._geometry.patch_hop_ns / 1e9)
        middle_s = self._geometry.patch_samples / self._geometry.sample_rate / 2
        return {"x": np.stack(tokens), "when": (first_s + middle_s).astype(np.float32)}

    def _placed(
        self, heard: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], AugmentRecipe]:
        """A sound that fills no patch, whole, as late in one as the recipe shifts and there is room, for live it may
        begin anywhere; and what else is to be changed of it. Others as they are."""
        recipe, room = self._recipe.augment, self._geometry.patch_samples - len(heard)
        if not len(heard) or room <= 0 or not recipe.sound_shift_s:
            return heard, recipe
        late = round(rng.uniform(0.0, min(recipe.sound_shift_s * SAMPLE_RATE, room)))
        return np.pad(heard, (late, room - late)), dataclasses.replace(recipe, sound_shift_s=0.0)

    def _picture_tokens(self, clip: Clip, video: VideoRecipe) -> Items:
        recipe = self._recipe.augment
        changes = augment.changes_pictures(recipe) and self._degrade is None
        names = ("scale", "shift", "flip", "colour", "cutout")
        fields = self._fields(clip, "efficientnet") | {
            "rate": video.rate,
            "weights": self._weights("frame"),
            "changes": {name: getattr(recipe, name) for name in names} | self._forms(clip) if changes else {},
            "code": code_digest(data.pictures, data._squashed, ItemMaker._seen_tokens),
        }
        seen = self._kept(fields, lambda: self._seen_tokens(clip, video, VARIANTS if changes else 1))
        if not video.people:
            return seen
        beside = np.broadcast_to(self._people(clip, video).astype(np.float16), (*seen.x.shape[:2], people.WIDTH))
        return Items(np.concatenate([seen.x, beside], axis=-1), seen.when)

    def _people(self, clip: Clip, video: VideoRecipe) -> NDArray[np.float32]:
        """Who is in each of the pictures, float32 `[N, models.people.WIDTH]`."""
        fields = self._fields(clip, "people") | {
            "rate": video.rate,
            "size": video.size,
            "weights": self._weights("people"),
            "code": code_digest(data.sampled, data.scaled, Changes, looks.seen_in, looks.look_of, *_PEOPLE),
        }
        return self._store.get(fields, lambda: {"x": self._seen_people(clip, video)})["x"]

    def _seen_people(self, clip: Clip, video: VideoRecipe) -> NDArray[np.float32]:
        if clip.media is None:
            return np.zeros((0, people.WIDTH), np.float32)
        path, start_s, end_s = _place(clip)
        return looks.seen_in(path, self._finder(), video.rate, video.size, start_s, end_s)

    def _finder(self) -> looks.Finder:
        with self._once:
            if self._found is None:
                weights = self._sources.weights
                assert weights is not None  # _weights has said so else
                try:
                    self._found = looks.Finder(movenet.graph_of(weights.files["people"], cache_dir()))
                except movenet.MoveNetError as error:
                    raise LearningError(str(error)) from error
            return self._found

    def _seen_tokens(self, clip: Clip, video: VideoRecipe, variants: int) -> dict[str, NDArray[Any]]:
        seen = self._pictures(clip, video)
        tokens = []
        for variant in range(variants):
            changed = seen["x"]
            if variant:
                rng = augment.clip_rng(clip.name, f"pictures {variant}")
                changed = augment.change_pictures(changed, video.size, self._recipe.augment, rng)
            tokens.append(self._encoded("frame", changed, self._geometry.video_width))
        return {"x": np.stack(tokens), "when": seen["when"]}

    def _prepared(self, clip: Clip, video: VideoRecipe) -> dict[str, NDArray[Any]]:
        seen = self._pictures(clip, video)
        with torch.no_grad():
            prepared = self._prepare(torch.from_numpy(seen["x"]))
        return {"x": prepared.numpy(), "when": seen["when"]}

    def _pictures(self, clip: Clip, video: VideoRecipe) -> dict[str, NDArray[Any]]:
        size = video.size
        seen = list(data.pictures(_place(clip)[0], video.rate, size, *_place(clip)[1:])) if clip.media else []
        pictures = np.stack([picture for _, picture in seen]) if seen else np.zeros((0, size, size, 3), np.uint8)
        return {"x": pictures, "when": np.array([at_s for at_s, _ in seen], np.float32)}

    def _encoded(self, role: str, items: NDArray[Any], width: int) -> NDArray[np.float16]:
        encode = self._encoder(role)
        tokens = [np.zeros((0, width), np.float16)]
        with torch.no_grad():
            for first in range(0, len(items), _BATCH):
                batch = torch.from_numpy(items[first : first + _BATCH].copy())
                tokens.append(encode(batch).numpy().astype(np.float16))
        return np.concatenate(tokens)

    def _encoder(self, role: str) -> Callable[[Tensor], Tensor]:
        with self._once:
            if role not in self._encode:
                weights = self._sources.weights
                assert weights is not None  # _weights has said so else
                self._encode[role] = _LOAD[role](weights)
            return self._encode[role]

    def _kept(self, fields: Mapping[str, Any], make: Callable[[], Mapping[str, NDArray[Any]]]) -> Items:
        kept = self._store.get(fields, make)
        return Items(kept["x"], kept["when"])

    def _fields(self, clip: Clip, kind: str) -> dict[str, Any]:
        digest = content_digest(clip.media) if clip.media else ""
        return {"kind": kind, "media": digest, "start": clip.start_s, "end": clip.end_s}

    def _weights(self, role: str) -> str:
        if self._sources.weights is None or role not in self._sources.weights.sha256:
            raise LearningError("frozen encoders need the pretrained weights; bring them with: streamer weights")
        return self._sources.weights.sha256[role]

    def _sound_fields(self) -> dict[str, Any]:
        names = ("noise", "noise_db", "gain_db", "sound_shift_s", "bands", "frames")
        return {name: getattr(self._recipe.augment, name) for name in names}

    def _forms(self, clip: Clip) -> dict[str, Any]:
        """Chance is drawn by a clip's name, so what it made is that name's."""
        return {"clip": clip.name, "variants": VARIANTS, "code": code_digest(*_CHANGES)}

    def _noise_fields(self, clip: Clip) -> dict[str, Any]:
        return self._forms(clip) | {"files": [content_digest(path) for path in self._noises.files]}


_HEARD_BY = {"yamnet": "audio", "whisper": whisper.ROLE}
_HEARD_HOW: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "yamnet": (),
    "whisper": (whisper_encoder.WhisperEncoder, whisper_encoder.WhisperMel, whisper_encoder.slaney_weights),
}
_LOAD: Mapping[str, Callable[[Weights], Callable[[Tensor], Tensor]]] = {
    "frame": lambda weights: frame.load(weights.frame).folded(),
    "audio": lambda weights: audio.load(weights.audio),
    whisper.ROLE: lambda weights: whisper_encoder.load(weights.files[whisper.ROLE]),
}
_PEOPLE = (people.found, people.apart, people.numbers, people.newest)
_CHANGES = (
    augment.change_sound,
    augment.add_noise,
    augment.coloured_noise,
    augment.mask_sound,
    augment.shifted,
    augment.change_pictures,
    augment.clip_rng,
    Noises,
)


def as_float(sound: NDArray[np.int16]) -> NDArray[np.float32]:
    """int16 -> float32 in -1..1."""
    return sound.astype(np.float32) / np.float32(_INT16)


def _as_int16(sound: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.asarray(np.rint(np.clip(sound, -1.0, 1.0) * _INT16), np.int16)


def _place(clip: Clip) -> tuple[Any, float, float | None]:
    assert clip.media is not None
    return clip.media, clip.start_s, clip.end_s


def _cut(sound: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """float32 `[S]` -> patches `[N, 15600]`, one each hop as far as the sound reaches; N is 0 only for no sound."""
    if not len(sound):
        return np.zeros((0, geometry.patch_samples), np.float32)
    hop = geometry.patch_hop_ns * SAMPLE_RATE // 1_000_000_000
    whole = np.pad(sound, (0, max(0, geometry.patch_samples - len(sound))))
    return np.lib.stride_tricks.sliding_window_view(whole, geometry.patch_samples)[::hop]


def _check(recipe: Recipe) -> None:
    video, geometry = recipe.video, Geometry()
    if video is None:
        return
    if video.change and video.encoder != "efficientnet":
        raise LearningError(f"video: change is of frozen tokens; leave it out, {video.encoder} learns it")
    if video.smoothness and (video.encoder != "efficientnet" or video.change):
        raise LearningError("video: smoothness is of frozen tokens, in place of change; leave one of them out")
    if video.people and video.encoder != "efficientnet":
        raise LearningError(f"video: people are read beside frozen tokens; leave people out, or {video.encoder}")
    moved = augment.margin_of(recipe.augment) or recipe.augment.flip or recipe.augment.cutout
    if video.people and moved:
        raise LearningError(
            "video: people stand where they are found; leave augment.scale, shift, flip and cutout out, or people"
        )
    if video.encoder == "efficientnet" and (video.crop != WHOLE or video.size != geometry.frame_size):
        raise LearningError(
            f"video: efficientnet sees whole pictures of {geometry.frame_size} pixels, as live; leave crop and size out"
        )
    left, top, right, bottom = video.crop
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise LearningError(f"video: crop {list(video.crop)} is no box; write left, top, right, bottom between 0 and 1")
    if video.rate < 1 or video.size < 1 or video.pixels < 1:
        raise LearningError("video: rate, size and pixels must be 1 or more")


def _preparer(recipe: Recipe) -> tuple[nn.Module, int]:
    """What lips and resnet18 have for `prepare`, of a box with a margin where the recipe moves pictures, and the margin
    in pixels.

    Margins are chosen such that the grid of the pixels within stays where it was: without its margin, a stored picture
    is exactly what live pictures become.
    """
    video = recipe.video
    assert video is not None
    if video.encoder == "efficientnet":
        return nn.Identity(), 0
    enlarged, margin = _enlarged(video, augment.margin_of(recipe.augment))
    try:
        return Crop(enlarged, grey=video.encoder == "lips"), margin
    except ValueError as error:
        raise LearningError(f"video: {error}; make crop larger") from error


def _enlarged(video: VideoRecipe, wanted: float) -> tuple[VideoRecipe, int]:
    edges = [round(edge * video.size) for edge in video.crop]
    wide, high = edges[2] - edges[0], edges[3] - edges[1]
    for margin in range(round(wanted * video.pixels + 0.5) if wanted else 0, 0, -1):
        if margin * wide % video.pixels or margin * high % video.pixels:
            continue
        across, down = margin * wide // video.pixels, margin * high // video.pixels
        box = (edges[0] - across, edges[1] - down, edges[2] + across, edges[3] + down)
        if min(box) >= 0 and max(box) <= video.size:
            crop = (box[0] / video.size, box[1] / video.size, box[2] / video.size, box[3] / video.size)
            return dataclasses.replace(video, crop=crop, pixels=video.pixels + 2 * margin), margin
    return video, 0


def _fingerprint(prepare: nn.Module, video: VideoRecipe | None) -> str:
    """What `prepare` does to a picture: the key holds that instead of the code, which changes more often."""
    if video is None or video.encoder == "efficientnet":
        return ""
    picture = np.random.default_rng(0).integers(0, 256, (1, video.size, video.size, 3), dtype=np.uint8)
    with torch.no_grad():
        made = prepare(torch.from_numpy(picture)).numpy()
    return hashlib.sha256(f"{made.shape}".encode() + made.tobytes()).hexdigest()[:16]
