"""Recipes: what is learned from what, in some twenty lines of TOML; read strictly, with one clear error."""

from __future__ import annotations

import dataclasses
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from models.learning.errors import LearningError

Task = Literal["classes", "labels", "numbers", "sequence"]
FusionKind = Literal["concat", "hierarchical", "attention"]


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Where clips are and what of them is learned.

    folder: a folder with a manifest (`manifest.csv` or `.jsonl`), or one laid out as a known data set.
    target: the manifest's column (or the data set's own, e.g. "digit" of GRID) that is to be told.
    moment: "clip", or "target": the media around the target alone (where the manifest says when it is).
    validation: fraction of the training clips kept for early stopping and calibration where no split says which.
    window: seconds of live media that are told at a time; 0: as much as the longest clip has. Clips that hold what they
    are called after for a moment alone allow a shorter one.
    """

    folder: str = ""
    target: str = "label"
    moment: Literal["clip", "target"] = "clip"
    validation: float = 0.1
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class VideoRecipe:
    """encoder: "efficientnet" (frozen tokens of the live encoder), "lips" (grey crops in time, trained), "resnet18"
    (pictures, trained). rate: pictures a second. size: side of the square that whole pictures are squashed to, as live.
    crop: left, top, right, bottom of what is looked at, in fractions of the picture. pixels: side of what the encoder
    sees of it. change: of frozen tokens, what differs from the picture before is read, not what is seen: for what is
    told by movement, where scenes would be learned by heart. smoothness: of frozen tokens, how smoothly they change in
    the window is read, and neither what is seen nor how much changes (models.motion). people: of frozen tokens, who is
    in the picture, where and how they stand is read beside what is seen; live of streams that look for people."""

    encoder: Literal["efficientnet", "lips", "resnet18"] = "efficientnet"
    rate: int = 4
    size: int = 224
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    pixels: int = 64
    change: bool = False
    smoothness: bool = False
    people: bool = False


@dataclass(frozen=True, slots=True)
class AudioRecipe:
    """encoder: "yamnet" (frozen tokens of the live encoder, for sounds), "whisper" (those of an encoder of speech, for
    what is said), "speech" (log-mel every 10 ms in tokens of 40 ms, trained)."""

    encoder: Literal["yamnet", "whisper", "speech"] = "yamnet"


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """encoder: recurrent network over words. vocabulary: the most words that are told apart."""

    encoder: Literal["lstm", "gru"] = "lstm"
    layers: int = 2
    vocabulary: int = 5000


@dataclass(frozen=True, slots=True)
class FusionRecipe:
    """See models.fusion.base.FusionSize."""

    kind: FusionKind = "attention"
    width: int = 128
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class AugmentRecipe:
    """What is changed at random in training, and never in validation.

    Pictures: scale and shift (fractions), flip, brightness and contrast (`colour`), an erased rectangle (`cutout`,
    fraction of the side), every n-th picture left out (`frame_drop`, chance). Sound: `noise_db`, lowest and highest
    signal-to-noise ratio of noise mixed in with chance `noise` (files of `noise_files`, a pattern beside the data, or
    coloured noise), gain in dB, shift in seconds, SpecAugment masks (`bands`, `frames`: widest), and of sound by itself
    `speed`: played faster or slower by up to that fraction, so higher or lower too. Text: chance of a word left out.
    Of three sequences in four whose symbols have times, all but up to `trim` seconds before the first and after the
    last is cut off.
    """

    scale: float = 0.0
    shift: float = 0.0
    flip: bool = False
    colour: float = 0.0
    cutout: float = 0.0
    frame_drop: float = 0.0
    noise: float = 0.0
    noise_db: tuple[float, float] = (-10.0, 20.0)
    noise_files: str = ""
    gain_db: float = 0.0
    sound_shift_s: float = 0.0
    bands: int = 0
    frames: int = 0
    speed: float = 0.0
    word_drop: float = 0.0
    trim: float = 0.0
    mix: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """How it is learned.

    optimiser Adam with decoupled weight decay, cosine schedule after `warm_up` epochs. `average`: decay of the moving
    average of the weights, 0 for none. `patience`: epochs without a better validation score before it ends. `keep`: the
    epoch of the best validation score, or the last, whatever it scores: where clips for validation are so few that the
    score is chance (patience then has no say).
    `modality_dropout`: chance that a clip loses a modality (never all). `imbalance`: what is done about rare classes.
    `balance_modalities`: OGM-GE's strength, 0 for none. `precision`: bf16 computes in mixed precision.
    `minutes`: it ends by then, whatever the epoch. `processes`: share each batch on a CPU, for what is trained from
    pictures or sound itself; batch norms see a share at a time. `stored`: the matrices of the checkpoint are
    kept in that precision; what is kept is what is scored.
    """

    epochs: int = 40
    batch: int = 32
    accumulate: int = 1
    rate: float = 1e-3
    encoder_rate: float = 0.0
    weight_decay: float = 0.01
    warm_up: float = 1.0
    clip: float = 5.0
    average: float = 0.0
    patience: int = 10
    keep: Literal["best", "last"] = "best"
    label_smoothing: float = 0.0
    modality_dropout: float = 0.0
    imbalance: Literal["none", "logit_adjustment", "balanced_sampling", "focal"] = "none"
    balance_modalities: float = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    minutes: float = 0.0
    processes: int = 1
    stored: Literal["float32", "float16"] = "float32"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SequenceRecipe:
    """For sequences: recurrent decoder with attention beside a CTC head, whose share of the loss is `ctc`; `beam` for
    decoding. `cell`: of the recurrent networks. `align`: what two more losses count, where the data has times: each
    modality by itself is asked at each moment for the third of the symbol that is said then (models.aligned), and the
    decoder to look there."""

    cell: Literal["gru", "lstm"] = "gru"
    ctc: float = 0.3
    beam: int = 4
    longest: int = 32
    align: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a checkpoint but the data and the chance."""

    name: str
    task: Task = "classes"
    data: DataRecipe = field(default_factory=DataRecipe)
    video: VideoRecipe | None = None
    audio: AudioRecipe | None = None
    text: TextRecipe | None = None
    fusion: FusionRecipe = field(default_factory=FusionRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    sequence: SequenceRecipe = field(default_factory=SequenceRecipe)
    start: str = ""
    """A checkpoint whose encoders (and fusion, where it fits) training starts from: the output of pretraining."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that have an encoder, in the usual order."""
        there = {"video": self.video, "audio": self.audio, "text": self.text}
        return tuple(name for name, part in there.items() if part is not None)


def find(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the program. LearningError where neither is."""
    shipped = Path(__file__).parents[1] / "recipes"
    path = shipped / f"{name}.toml"
    if path.is_file():
        return path
    if Path(name).is_file():
        return Path(name)
    known = sorted(one.stem for one in shipped.glob("*.toml"))
    raise LearningError(f"{name}: no such recipe; give a TOML file, or one of {', '.join(known) or 'none'}")


def read(path: Path) -> Recipe:
    """The recipe in a TOML file. LearningError names the place and what may stand there."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LearningError(f"{path}: no such recipe") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LearningError(f"{path}: can't be read as TOML: {error}") from error
    return parse(document, str(path))


def parse(document: Mapping[str, Any], source: str) -> Recipe:
    """The recipe that tables of TOML or JSON say; `source` names them in errors (LearningError)."""
    recipe: Recipe = _of(Recipe, document, source)
    if not recipe.modalities:
        raise LearningError(f"{source}: no modality; add a table [video], [audio] or [text]")
    return recipe


def as_document(recipe: Recipe) -> dict[str, Any]:
    """The recipe as tables, for `parse` and for people."""
    return dataclasses.asdict(recipe)


def _of(kind: Any, value: Any, place: str) -> Any:
    """`value` as `kind`, checked; LearningError names the place."""
    if dataclasses.is_dataclass(kind):
        return _table(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _of(next(one for one in arguments if one is not type(None)), value, place)
    if origin is Literal:
        if value not in arguments:
            raise LearningError(f"{place}: {value!r} is none of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            raise LearningError(f"{place}: must be a list of {len(arguments)} numbers, not {value!r}")
        return tuple(_of(one, each, place) for one, each in zip(arguments, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise LearningError(f"{place}: must be of type {kind.__name__}, not {value!r}")
    return value


def _table(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise LearningError(f"{place}: must be a table, not {value!r}")
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise LearningError(f"{place}: unknown key {name!r}; known are {', '.join(hints)}")
    for each in dataclasses.fields(kind):
        needed = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if needed and each.name not in value:
            raise LearningError(f"{place}: {each.name!r} is missing")
    return kind(**{name: _of(hints[name], each, f"{place}: {name}") for name, each in value.items()})
