"""The configuration in force: read at the start and whenever its file changes; streams and alerts follow, the rest
waits."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from streamer.commands.options import Options, configuration
from streamer.config import Config, StreamConfig, diff
from streamer.errors import UserError

log = logging.getLogger(__name__)

_REREAD_EVERY_S = 0.5


class Streams(Protocol):
    """Whom the changes are told: the registry."""

    async def put_or_keep(self, name: str, entry: StreamConfig, /) -> object:
        """Bring the stream to what `entry` says, where it is not that already."""

    async def delete(self, name: str, /) -> bool:
        """End the stream."""


class Settings:
    """What the command line and the configuration file say together.

    Raises:
        UserError: they can't be used.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        # Before it is read: a change from then on is one.
        self._stamp = None if options.config is None else _stamp(options.config)
        self._loaded = configuration(options)

    @property
    def config(self) -> Config:
        """What is in force, the command line's words included."""
        return self._loaded.config

    @property
    def warnings(self) -> list[str]:
        """What of it has no effect, a line each."""
        return self._loaded.warnings

    async def follow(self, registry: Streams) -> None:
        """Bring the streams of `registry` to what the file says, whenever it changes; without a file, never."""
        path, before = self._options.config, self._stamp
        while path is not None:
            await asyncio.sleep(_REREAD_EVERY_S)
            now = await asyncio.to_thread(_stamp, path)
            # Taken in when it has stood still for a while: half a file may well read as one with fewer streams.
            if now is not None and now == before and now != self._stamp:
                self._stamp = now
                await self._reread(registry)
            before = now

    async def _reread(self, registry: Streams) -> None:
        """A file with a mistake changes nothing."""
        try:
            loaded = await asyncio.to_thread(configuration, self._options)
        except UserError as error:
            log.error("the configuration was changed and can't be used; the one before stays in force: %s", error)
            return
        for warning in loaded.warnings:
            if warning not in self._loaded.warnings:
                log.warning("%s", warning)
        old, self._loaded = self.config, loaded
        changes = diff(old, loaded.config)
        for name in changes.removed:
            await registry.delete(name)
        for name in [*changes.added, *changes.changed]:
            try:
                await registry.put_or_keep(name, loaded.config.streams[name])
            except UserError as error:
                log.error("stream %s is left as it was: %s", name, error)
        if _at_start_only(old) != _at_start_only(loaded.config):
            log.warning("settings other than `streams`, `admission`, `alerts` and `send` take effect at the next start")
        log.info(
            "configuration reread: %d added, %d changed, %d removed",
            *map(len, (changes.added, changes.changed, changes.removed)),
        )


def _at_start_only(config: Config) -> Config:
    """The settings that a running service does not follow, the others at their defaults."""
    plain = Config()
    return replace(
        config,
        streams=plain.streams,
        admission=plain.admission,
        alerts=plain.alerts,
        send=plain.send,
        page_url=plain.page_url,
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None while it is not there (editors replace files)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
