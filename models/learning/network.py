"""The network that a recipe describes: an encoder a modality, a fusion, and for sequences a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from models.encoders import Encoder
from models.fusion.base import Fusion, FusionSize
from models.learning.batch import Part
from models.learning.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Outline:
    """What a network must know beside its recipe: how many outputs (names, numbers, or symbols of a sequence), words of
    its vocabulary, and the longest clip in seconds."""

    outputs: int
    vocabulary: int = 0
    longest_s: float = 4.0


class Network(nn.Module):
    """See the module. `encoders` by modality; `decoder` is None but for sequences, `aligned` but for those that
    are asked what is said when."""

    encoders: nn.ModuleDict
    fusion: Fusion
    decoder: nn.Module | None
    aligned: nn.Module | None

    def __init__(self, recipe: Recipe, outline: Outline) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: _encoder(name, recipe, outline) for name in recipe.modalities})
        size = FusionSize(
            recipe.fusion.width,
            outline.outputs,
            recipe.fusion.heads,
            recipe.fusion.layers,
            recipe.fusion.dropout,
            outline.longest_s,
            memory=recipe.task == "sequence",
        )
        self.fusion = _fusion(recipe, size)
        self.decoder = self.aligned = None
        if recipe.task == "sequence":
            from models.decoder import SequenceDecoder

            self.decoder = SequenceDecoder(recipe.fusion.width, outline.outputs, recipe.sequence)
            widths = {name: self.encoder(name).local_width for name in recipe.modalities}
            if recipe.sequence.align and any(widths.values()):
                from models.aligned import Aligned

                self.aligned = Aligned({name: width for name, width in widths.items() if width}, outline.outputs)

    def encoder(self, modality: str) -> Encoder:
        """The encoder of a modality; KeyError where there is none."""
        encoder = self.encoders[modality]
        assert isinstance(encoder, Encoder)
        return encoder

    def tokens(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """Stored items by modality -> tokens `[B, N, D]`."""
        return {name: self.encoder(name)(part) for name, part in parts.items() if name in self.encoders}

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """Stored items by modality -> logits (numbers, for a regression) `[B, outputs]`."""
        logits: Tensor = self.fusion(self.tokens(parts))
        return logits

    def memory(self, parts: Mapping[str, Part]) -> Part:
        """Stored items by modality -> what the decoder of a sequence reads, `[B, T, D]`."""
        return self.fusion.memory(self.tokens(parts))


def _encoder(modality: str, recipe: Recipe, outline: Outline) -> Encoder:
    """Each is imported where it is asked for: a machine needs what its recipe needs."""
    width = recipe.fusion.width
    if modality == "text":
        from models.text import TextEncoder

        assert recipe.text is not None
        return TextEncoder(recipe.text, outline.vocabulary, width)
    if modality == "audio":
        assert recipe.audio is not None
        if recipe.audio.encoder == "speech":
            from models.speech import SpeechEncoder

            return SpeechEncoder(width, recipe.augment.bands, recipe.augment.frames)
        from models.frozen import FrozenEncoder

        if recipe.audio.encoder == "whisper":
            from models.whisper_encoder import WIDTH

            return FrozenEncoder("audio", width, item_width=WIDTH)
        return FrozenEncoder("audio", width)
    assert recipe.video is not None
    if recipe.video.encoder == "lips":
        from models.lips import LipEncoder

        return LipEncoder(recipe.video, width)
    if recipe.video.encoder == "resnet18":
        from models.resnet import ResNetEncoder

        return ResNetEncoder(recipe.video, width)
    from models.frozen import FrozenEncoder

    pictures = FrozenEncoder("video", width, recipe.video.change, recipe.video.smoothness)
    if not recipe.video.people:
        return pictures
    from models.people_encoder import PeopleEncoder

    return PeopleEncoder(pictures)


def _fusion(recipe: Recipe, size: FusionSize) -> Fusion:
    if recipe.fusion.kind == "concat":
        from models.fusion.concat import ConcatFusion

        return ConcatFusion(recipe.modalities, size)
    if recipe.fusion.kind == "hierarchical":
        from models.fusion.hierarchical import HierarchicalFusion

        return HierarchicalFusion(recipe.modalities, size)
    from models.fusion.attention import AttentionFusion

    return AttentionFusion(recipe.modalities, size)
