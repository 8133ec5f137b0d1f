"""File systems that are soon full."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of this size, at a path that is short enough for a socket in it; the test is skipped where none can
    be made."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no small disk ({mounted.stderr.strip()}): run as root, with mount(8)")
    try:
        yield folder
    finally:
        # Lazily: a process that is just ending may still have a file open there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path) -> Path:
    """Leave not a byte; returns the file that takes the room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return ballast
