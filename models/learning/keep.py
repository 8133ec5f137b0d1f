"""Checkpoints of what was learned: one safetensors file whose header says what it is, readable with `head -c 2000`.

The header's keys are those of models.checkpoint, of kind "learned", and some more: task, recipe, outline, vocabulary,
made (versions), data, figures. Reading one can't run code.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import FORMAT, VERSION, source_key
from models.config import NS_PER_S, Geometry
from models.learning import calibration, tensors
from models.learning.calibration import Calibration
from models.learning.errors import LearningError
from models.learning.network import Network, Outline
from models.learning.recipe import Recipe, as_document, parse
from models.packages import holding
from models.whisper import JOINED_SHA256
from models.whisper import ROLE as WHISPER_ROLE

LEARNED = "learned"
PRETRAINED = "pretrained"
_WHAT = "checkpoint"
_STEP_NS = 10_000_000  # hops are of whole hundredths of a second


@dataclass(frozen=True)
class Learned:
    """What a checkpoint holds beside its tensors.

    names: of the outputs. vocabulary: of the text encoder. figures: what it was scored with, by set. data: facts about
    what it was trained on; "marks" of its clips are models.learning.clips'. kind: LEARNED, or PRETRAINED for encoders
    that no task has been learned with yet.
    """

    recipe: Recipe
    outline: Outline
    names: Sequence[str]
    vocabulary: Sequence[str]
    calibration: Calibration
    figures: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    kind: str = LEARNED


@dataclass(frozen=True)
class Loaded:
    """A checkpoint ready to be used: the network, in evaluation mode on the CPU, and the header."""

    network: Network
    learned: Learned
    header: Mapping[str, str]

    @property
    def recipe(self) -> Recipe:
        """What it was trained by."""
        return self.learned.recipe

    @property
    def outline(self) -> Outline:
        """The network's sizes beside the recipe."""
        return self.learned.outline

    @property
    def names(self) -> Sequence[str]:
        """What its outputs are called."""
        return self.learned.names

    @property
    def vocabulary(self) -> Sequence[str]:
        """Words that its text encoder tells apart."""
        return self.learned.vocabulary

    @property
    def calibration(self) -> Calibration:
        """From what it says to scores."""
        return self.learned.calibration


def save_checkpoint(path: Path, network: Network, learned: Learned) -> None:
    """Writes the network and all that serving, judging and people need to know of it; whole or not at all."""
    recipe = learned.recipe
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": learned.kind,
        "name": recipe.name,
        "task": recipe.task,
        "figures": _json(learned.figures),
        "labels": _json([[name, *recipe.modalities] for name in learned.names]),
        "geometry": _json(dataclasses.asdict(geometry(recipe, learned.outline, network))),
        "encoders": _json(frozen(recipe)),
        "calibration": _json(learned.calibration.as_document()),
        "recipe": _json(as_document(_placeless(recipe))),
        "outline": _json(dataclasses.asdict(learned.outline)),
        "made": _json(versions()),
        "vocabulary": _json(list(learned.vocabulary)),
        "data": _json(learned.data),
    }
    stored = network.state_dict()
    if recipe.train.stored == "float16":
        # Vectors are few, and variances of batch norms may be larger than half precision can say.
        stored = {name: each.half() if each.ndim > 1 else each for name, each in stored.items()}
    tensors.write(path, stored, header)


def read_learned(path: Path) -> Learned:
    """A checkpoint's header, checked and read. LearningError where it is missing, damaged, newer or of another kind."""
    return _parse(path, tensors.read_header(path, _WHAT))


def load_network(path: Path) -> Loaded:
    """The checkpoint in a file. LearningError as `read_learned`, and where the tensors aren't this network's."""
    state, header = tensors.read(path, _WHAT)
    learned = _parse(path, header)
    network = Network(learned.recipe, learned.outline)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise LearningError(
            f"{path}: its tensors are not those of the network that its recipe describes: made by another version of "
            "this program, train it anew"
        ) from error
    return Loaded(network.eval(), learned, header)


def start_from(network: Network, path: Path) -> list[str]:
    """Puts the encoders of a checkpoint, and those tensors of its fusion that fit, into `network`; gives the tensors'
    names. Encoders that only one of the two has are left alone.

    LearningError where the two have none in common, or one that doesn't fit: another kind, width or vocabulary.
    """
    state, header = tensors.read(path, _WHAT)
    _known(path, header)
    own = network.state_dict()
    fitting = {name for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    taken = {name for name in fitting if name.startswith("fusion.")}
    for modality in network.encoders:
        inside = f"encoders.{modality}."
        theirs, ours = ({name for name in one if name.startswith(inside)} for one in (state, own))
        if theirs and not (theirs == ours <= fitting):
            raise LearningError(
                f"start: the {modality} encoder of {path} is not the recipe's: use the encoder, pixels, vocabulary and "
                "fusion.width that it was made with"
            )
        taken |= theirs
    if not any(name.startswith("encoders.") for name in taken):
        raise LearningError(f"start: {path} has no encoder of a modality of the recipe")
    network.load_state_dict({name: state[name] for name in taken}, strict=False)
    return sorted(taken)


def geometry(recipe: Recipe, outline: Outline, network: Network) -> Geometry:
    """How live media is cut for it: windows as long as its longest clip, or as the recipe says, of whole hops, a new
    one every half second, or four times a window where that is shorter."""
    longest_ns = max(_STEP_NS, round((recipe.data.window or outline.longest_s) * NS_PER_S))
    hop_ns = max(_STEP_NS, min(NS_PER_S // 2, longest_ns // 4 // _STEP_NS * _STEP_NS))
    plain = Geometry()
    changed: dict[str, Any] = {"window_ns": -(-longest_ns // hop_ns) * hop_ns, "hop_ns": hop_ns}
    if recipe.video is not None:
        changed |= {"frame_rates": (recipe.video.rate,), "frame_size": recipe.video.size}
        changed["video_width"] = network.encoder("video").item_width
    if recipe.audio is not None:
        encoder = network.encoder("audio")
        changed["audio_width"] = encoder.item_width
        changed["patch_samples"] = getattr(encoder, "patch_samples", plain.patch_samples)
        changed["patch_hop_ns"] = getattr(encoder, "patch_hop_ns", plain.patch_hop_ns)
    return dataclasses.replace(plain, **changed)


def frozen(recipe: Recipe) -> dict[str, str]:
    """SHA-256 by role ("frame", "audio", "whisper", "people") of the weight files by which what the network reads is
    made; none where it carries its own encoders."""
    roles = set()
    if recipe.video is not None and recipe.video.encoder == "efficientnet":
        roles.add("frame")
    if recipe.audio is not None and recipe.audio.encoder == "yamnet":
        roles.add("audio")
    if recipe.video is not None and recipe.video.people:
        roles.add("people")
    digests = {file.role: file.sha256 for package in holding(roles) for file in package.files if file.role in roles}
    if recipe.audio is not None and recipe.audio.encoder == "whisper":
        digests[WHISPER_ROLE] = JOINED_SHA256
    return digests


def versions() -> dict[str, str]:
    """What made it: the program, a digest of the code that computes, and torch."""
    try:
        program = importlib.metadata.version("streamer")
    except importlib.metadata.PackageNotFoundError:
        program = "not installed"
    return {"streamer": program, "code": source_key(*_code()), "torch": torch.__version__}


def _code() -> list[str]:
    """The modules that compute what a network says, as models.checkpoint.source_key takes them."""
    package = Path(__file__).parents[1]
    fusions = sorted(str(path.relative_to(package)) for path in (package / "fusion").glob("*.py"))
    encoders = ["frozen", "text", "lips", "speech", "resnet", "recurrent", "decoder", "features", "encoders"]
    encoders += ["people", "people_encoder", "whisper_encoder"]
    return [*fusions, *(f"{name}.py" for name in encoders if (package / f"{name}.py").is_file()), "learning/network.py"]


def model_card(path: Path) -> str:
    """Markdown about a checkpoint, made from its header. LearningError as `read_learned`."""
    from models.learning.card import written

    header = tensors.read_header(path, _WHAT)
    return written(_parse(path, header), json.loads(header["made"]))


def _placeless(recipe: Recipe) -> Recipe:
    """The recipe without the folders of the machine that it was learned on: checkpoints are passed on."""
    data = dataclasses.replace(recipe.data, folder=Path(recipe.data.folder).name)
    noise = Path(recipe.augment.noise_files).name
    augment = dataclasses.replace(recipe.augment, noise_files=noise)
    return dataclasses.replace(recipe, data=data, augment=augment, start=Path(recipe.start).name)


def _known(path: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != FORMAT:
        raise LearningError(f"{path}: a safetensors file, but not a checkpoint of this program")
    if header.get("version") != str(VERSION):
        raise LearningError(f"{path}: format version {header.get('version')}, but this program reads version {VERSION}")
    if header.get("kind") not in (LEARNED, PRETRAINED):
        raise LearningError(f"{path}: a checkpoint of kind {header.get('kind')!r}, which was not made by training")


def _parse(path: Path, header: Mapping[str, str]) -> Learned:
    _known(path, header)
    try:
        return Learned(
            recipe=parse(json.loads(header["recipe"]), str(path)),
            outline=Outline(**json.loads(header["outline"])),
            names=tuple(str(name) for name, *_ in json.loads(header["labels"])),
            vocabulary=tuple(json.loads(header["vocabulary"])),
            calibration=calibration.parse(json.loads(header["calibration"])),
            figures=dict(json.loads(header["figures"])),
            data=dict(json.loads(header["data"])),
            kind=header["kind"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LearningError(f"{path}: its header is damaged ({error})") from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def parameters(network: torch.nn.Module) -> dict[str, int]:
    """How many parameters each part has: encoders by modality, fusion, decoder."""
    counted: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        head, _, rest = name.partition(".")
        part = f"{rest.partition('.')[0]} encoder" if head == "encoders" else head
        counted[part] = counted.get(part, 0) + parameter.numel()
    return counted


def state(network: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """A network's tensors under a prefix, for files that hold more than one."""
    return {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
