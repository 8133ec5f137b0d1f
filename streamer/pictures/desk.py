"""Who is asked for pictures of alerts: takes them from the streams' rings, has them made, keeps and deletes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from streamer.alertconfig import PicturesConfig
from streamer.clock import Clock
from streamer.errors import StreamerError, UserError
from streamer.footage import Footage
from streamer.picturenames import CLIP, MAX_CLIP_NS, SNAPSHOT
from streamer.pictures.album import Album
from streamer.pictures.darkroom import Darkroom
from streamer.pictures.job import Detectors, Job
from streamer.pictures.prepare import find_detectors

log = logging.getLogger(__name__)

_S = 1_000_000_000
# Alerts whose pictures are waited for or being made, and the bytes of packets that wait for that: those are taken from
# the ring in time, however long the queue is.
_MOST_TAKEN = 8
_MOST_HELD = 64 * 1024 * 1024
_PRUNE_S = 30.0
_TRY_AGAIN_NS = 600 * _S

Recall = Callable[[str, int, int], Awaitable[Footage | None]]
"""Called with a stream's name and from when to when (wall time): what its ring has of that."""


@dataclass(slots=True)
class Counts:
    """What became of pictures that were asked for: `made` files; `failed`: why is in the log; `gone`: no ring had that
    moment (any more); `refused`: too many were asked for at once; `blind`: there is no detector, so none is made."""

    made: int = 0
    failed: int = 0
    gone: int = 0
    refused: int = 0
    blind: int = 0


class Pictures:
    """`async with Pictures(folder, config, clock, recall) as pictures: await pictures.take(...)`. One event loop's.

    Args:
        folder: where the finished ones are kept; made, and made private, when the first one is asked for.
        weights_folder: where the detectors' weights are, None: fetched where they are not in the cache.
        darkroom: where they are made.
    """

    def __init__(
        self,
        folder: Path,
        config: PicturesConfig,
        clock: Clock,
        recall: Recall,
        weights_folder: Path | None = None,
        darkroom: Darkroom | None = None,
    ) -> None:
        self.counts = Counts()
        self._album = Album(folder, config)
        self._clock = clock
        self._recall = recall
        self._weights_folder = weights_folder
        self._darkroom = Darkroom() if darkroom is None else darkroom
        self._detectors: Detectors | None = None
        self._is_told = False
        self._looking = asyncio.Lock()
        self._looked_ns: int | None = None
        self._taken = 0
        self._held = 0
        self._pruning: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Pictures:
        await asyncio.to_thread(self._album.prune, self._clock.wall_ns(), unfinished=True)
        self._pruning = asyncio.create_task(self._prune_forever(), name="pictures:prune")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.gather(self._pruning, return_exceptions=True)
        await self._darkroom.__aexit__()

    def configure(self, config: PicturesConfig) -> None:
        """From now on keep as long, and as many, as `config` says."""
        self._album.config = config

    @property
    def waiting(self) -> int:
        """Alerts whose pictures are not made yet."""
        return self._taken

    async def ready(self) -> bool:
        """Whether pictures can be made: the detector's weights are here, and the folder is. Fetches and makes what is
        not; where that fails the log says why, and it is tried again every ten minutes; without what finds heads they
        are made all the same, with faces blurred."""
        async with self._looking:
            now_ns = self._clock.now_ns()
            is_whole = self._detectors is not None and self._detectors.heads is not None
            if not is_whole and (self._looked_ns is None or now_ns - self._looked_ns >= _TRY_AGAIN_NS):
                self._looked_ns = now_ns
                self._detectors = await asyncio.to_thread(self._prepare) or self._detectors
                self._is_told = self._detectors is not None
            return self._detectors is not None

    def _prepare(self) -> Detectors | None:
        try:
            self._album.open()
        except UserError as error:
            log.error("no pictures of alerts are made: %s", error)
            return None
        return find_detectors(self._weights_folder, is_told=self._is_told)

    async def take(self, alert: str, stream: str, at_ns: int, *, snapshot: bool = True, clip_ns: int = 0) -> list[str]:
        """Make the pictures of an alert and keep them; the names of those there are now.

        A clip is made when its second half has come; what it needs beyond 15 s is cut. Never raises for want of a
        picture: what went wrong is counted and in the log.

        Args:
            at_ns: the moment, nanoseconds since 1970 as the stream's segments have it.
        """
        if self._taken >= _MOST_TAKEN:
            self.counts.refused += 1
            return []
        self._taken += 1
        try:
            clip_ns = min(clip_ns, MAX_CLIP_NS)
            asked = [(SNAPSHOT, 0)] * snapshot + [(CLIP, clip_ns)] * (clip_ns > 0)
            made = await asyncio.gather(*(self._make(alert, name, stream, at_ns, span_ns) for name, span_ns in asked))
            self.counts.blind += self._looked_ns is not None and self._detectors is None
            return [name for (name, _), is_made in zip(asked, made, strict=True) if is_made]
        finally:
            self._taken -= 1

    async def _make(self, alert: str, name: str, stream: str, at_ns: int, clip_ns: int) -> bool:
        await asyncio.sleep(clip_ns / 2 / _S)
        footage = await self._recall(stream, at_ns - clip_ns // 2, at_ns + clip_ns // 2)
        if footage is None:
            self.counts.gone += 1
            return False
        size = sum(len(picture.data) for picture in footage.pictures)
        if self._held + size > _MOST_HELD:
            self.counts.refused += 1
            return False
        self._held += size
        try:
            # Only now: what fetches the detectors for the first time takes longer than the ring reaches back.
            return await self.ready() and await self._develop(alert, name, stream, Job(footage, at_ns, clip_ns))
        finally:
            self._held -= size

    async def _develop(self, alert: str, name: str, stream: str, job: Job) -> bool:
        assert self._detectors is not None
        try:
            developed = await self._darkroom.develop(self._detectors, job)
            if developed.data is None:
                raise StreamerError(developed.why or "nothing came of it")
            await asyncio.to_thread(self._album.put, alert, name, developed.data, self._clock.wall_ns())
        except StreamerError as error:
            self.counts.failed += 1
            log.warning("%s of alert %s of stream %s: %s", name, alert, stream, error)
            return False
        self.counts.made += 1
        return True

    def path(self, alert: str, name: str) -> Path | None:
        """Where a finished picture is; None: it was not made (yet), or is gone."""
        return self._album.path(alert, name, self._clock.wall_ns())

    async def read(self, alert: str, name: str) -> bytes | None:
        """A finished picture; None: it was not made (yet), or is gone."""
        return await asyncio.to_thread(self._album.read, alert, name, self._clock.wall_ns())

    async def prune(self) -> int:
        """Delete what is too old or too much; how many files that were."""
        return await asyncio.to_thread(self._album.prune, self._clock.wall_ns())

    async def _prune_forever(self) -> None:
        while True:
            await asyncio.sleep(_PRUNE_S)
            with contextlib.suppress(OSError):  # a folder that can't be read now is tried again
                await self.prune()
