"""The folder of finished pictures: private, bounded, and emptied by the clock. Blocking; times are of the wall."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from streamer.alertconfig import PicturesConfig
from streamer.errors import StreamerError, UserError

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_NAME = re.compile(r"[a-z]{1,16}\.(jpg|mp4)")
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    made_ns: int
    size: int


class Album:
    """Files named by their alert, `ID.NAME`, in one folder that only this user may look into.

    Args:
        config: how long they are kept, and how many bytes of them; may be replaced at any time.
    """

    def __init__(self, folder: Path, config: PicturesConfig) -> None:
        self.config = config
        self._folder = folder

    def open(self) -> None:
        """Make the folder.

        Raises:
            UserError: it can't be made, or can't be made private.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as error:
            text = f"{self._folder}: no place for pictures of alerts ({error.strerror}); name another outbox.path"
            raise UserError(text) from None

    def put(self, alert: str, name: str, data: bytes, now_ns: int) -> None:
        """Keep a finished picture: it appears whole or not at all. What is too old or too much then goes.

        Raises:
            StreamerError: it can't be written.
        """
        path = self._place(alert, name)
        if path is None:
            raise StreamerError(f"{alert!r}, {name!r} can't name a picture")
        try:
            descriptor, unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._folder)  # 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.utime(unfinished, ns=(now_ns, now_ns))
                os.replace(unfinished, path)
            except OSError:
                os.unlink(unfinished)
                raise
        except OSError as error:
            raise StreamerError(f"{path}: a picture can't be kept there ({error.strerror})") from None
        self.prune(now_ns)

    def path(self, alert: str, name: str, now_ns: int) -> Path | None:
        """Where a picture is; None where there is none of that name (any more)."""
        path = self._place(alert, name)
        if path is None:
            return None
        try:
            made_ns = path.stat().st_mtime_ns
        except OSError:
            return None
        return None if self._is_old(made_ns, now_ns) else path

    def read(self, alert: str, name: str, now_ns: int) -> bytes | None:
        """A picture; None where there is none of that name (any more)."""
        path = self.path(alert, name, now_ns)
        try:
            return None if path is None else path.read_bytes()
        except FileNotFoundError:  # its time came in between
            return None

    def prune(self, now_ns: int, *, unfinished: bool = False) -> int:
        """Delete what is too old, then the oldest of what is too much; how many files that were.

        Args:
            unfinished: and what an earlier process left half written.
        """
        found = sorted(self._all(unfinished), key=lambda kept: kept.made_ns)
        total = sum(kept.size for kept in found)
        deleted = 0
        for kept in found:
            is_rest = kept.path.name.startswith(_UNFINISHED)
            if is_rest or self._is_old(kept.made_ns, now_ns) or total > self.config.max_bytes:
                with contextlib.suppress(FileNotFoundError):
                    kept.path.unlink()
                total -= kept.size
                deleted += 1
        return deleted

    def size(self) -> int:
        """The bytes of all that is kept."""
        return sum(kept.size for kept in self._all(unfinished=False))

    def _place(self, alert: str, name: str) -> Path | None:
        is_right = _ID.fullmatch(alert) and _NAME.fullmatch(name)
        return self._folder / f"{alert}.{name}" if is_right else None

    def _is_old(self, made_ns: int, now_ns: int) -> bool:
        # Also what is from a time that has not come yet: the clock was wrong then, or is now, and it must go some day.
        return abs(now_ns - made_ns) > self.config.keep_ns

    def _all(self, unfinished: bool) -> list[_Kept]:
        kept = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                alert, _, name = entry.name.partition(".")
                is_rest = unfinished and entry.name.startswith(_UNFINISHED)
                # What somebody else put there is not ours to delete.
                if not is_rest and not (_ID.fullmatch(alert) and _NAME.fullmatch(name)):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    kept.append(_Kept(Path(entry.path), found.st_mtime_ns, found.st_size))
        return kept
