"""Which files recognition needs, and whether they are there: speech is optional, so what is missing is an answer."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import msgspec

from models.weights import Progress, WeightsFetchError
from models.whisper import whisper_folder

DEFAULT_MODEL = "base"
_VAD_FILE = "assets/silero_vad_v6.onnx"
_VAD_SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
_NEEDED = ("model.bin", "config.json", "tokenizer.json")


class SpeechFiles(msgspec.Struct, frozen=True):
    """model: a folder of Whisper for CTranslate2. vad: the ONNX file of Silero VAD."""

    model: str
    vad: str


def find_speech(
    model: str | None = None, weights_dir: Path | None = None, progress: Progress | None = None
) -> SpeechFiles | str:
    """The files, fetched where they are not in the cache; or why there are none, one line fit for a user. Blocking.

    Args:
        model: a folder of Whisper for CTranslate2, or a size (`tiny`, `small`...) whose folder is in `weights_dir` as
            `whisper-SIZE`; None: Whisper base.
        weights_dir: a folder with the weights, and nothing is downloaded; None: they are fetched.
    """
    vad = _vad()
    if vad is None:
        return "faster-whisper, which carries the voice detector, is missing or another version; install streamer again"
    if model is not None and model != DEFAULT_MODEL:
        return _own(model, weights_dir, vad)
    try:
        folder = whisper_folder(weights_dir, progress)
    except WeightsFetchError as error:
        return str(error)
    return SpeechFiles(str(folder), str(vad))


def _own(model: str, weights_dir: Path | None, vad: Path) -> SpeechFiles | str:
    folder = Path(model).expanduser()
    if weights_dir is not None and not folder.is_dir():
        folder = weights_dir / f"whisper-{model}"
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        return (
            f"speech.model: {model}: no {', '.join(missing)} in {folder}; name a folder of Whisper for CTranslate2, "
            "or leave it out for Whisper base"
        )
    return SpeechFiles(str(folder), str(vad))


def _vad() -> Path | None:
    """Silero VAD out of the package that carries it, which is looked at but not imported."""
    spec = importlib.util.find_spec("faster_whisper")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / _VAD_FILE
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return path if hashlib.sha256(data).hexdigest() == _VAD_SHA256 else None
