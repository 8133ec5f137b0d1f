"""Files of tensors with a header that people can read: safetensors, written whole or not at all, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from models.learning.errors import LearningError

_LENGTH = 8  # bytes before the header, which say how long it is, little-endian
_ALIGNED = 8  # the header is padded with spaces to a multiple of this


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Writes the file in one step (another process sees the old one or the new one); folders are made.

    The header stands first, in its order: `head -c 2000 FILE` shows it. The same contents give the same bytes. OSError
    where the disk refuses.
    """
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    data = _in_order(save(plain, dict(header)), header)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # always the same, so that kills don't leave ever more of them
    with part.open("wb") as file:
        for piece in data:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU and the header. LearningError, which calls the file `what`, for a missing or damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise LearningError(f"{path}: no such {what}") from error
    except (SafetensorError, OSError) as error:
        raise LearningError(f"{path}: not a {what}, or damaged ({error})") from error


def by_part(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors called PART.NAME, as a state dict a part."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


def read_header(path: Path, what: str) -> dict[str, str]:
    """The header alone; errors as `read`."""
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except FileNotFoundError as error:
        raise LearningError(f"{path}: no such {what}") from error
    except (SafetensorError, OSError) as error:
        raise LearningError(f"{path}: not a {what}, or damaged ({error})") from error


def _in_order(data: bytes, header: Mapping[str, str]) -> tuple[bytes, bytes, memoryview]:
    """The file's bytes in three pieces, with the header in its own order: the library shuffles it anew each time."""
    length = int.from_bytes(data[:_LENGTH], "little")
    table = json.loads(data[_LENGTH : _LENGTH + length])
    del table["__metadata__"]
    text = json.dumps({"__metadata__": dict(header), **table}, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(_LENGTH, "little"), text, memoryview(data)[_LENGTH + length :]
