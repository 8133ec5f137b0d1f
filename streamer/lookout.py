"""What looks for people, made ready when the first stream wants it: who wants nobody found pays nothing for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from models.fall_judge import SHIPPED, FallJudge, FallModel
from streamer.config import StreamConfig
from streamer.engine import Engine, Progress, load_detector
from streamer.errors import WeightsError
from streamer.people.watch import PeopleSettings, PeopleWatch

log = logging.getLogger(__name__)


class Lookout:
    """Belongs to one event loop.

    Args:
        weights_dir: a folder with the weights; None: they are fetched.
    """

    def __init__(self, engine: Engine, weights_dir: Path | None, progress: Progress | None) -> None:
        self._engine = engine
        self._weights_dir = weights_dir
        self._progress = progress
        self._turn = asyncio.Lock()
        self._is_ready = False

    async def ready(self) -> bool:
        """Make it ready, if it is not; False: it can't be had, as the log says, and another call tries again."""
        async with self._turn:
            if not self._is_ready:
                try:
                    detector = await asyncio.to_thread(load_detector, self._weights_dir, 1, self._progress)
                except WeightsError as error:
                    log.error("people can't be looked for: %s", error)
                    return False
                self._engine.look_for_people(detector)
                self._is_ready = True
            return True

    async def watch(self, name: str, entry: StreamConfig) -> PeopleWatch | None:
        """Who watches the people of stream `name`; None: the entry wants nobody found, or nobody can be."""
        settings = people_settings(entry)
        if settings is None or not await self.ready():
            return None
        return PeopleWatch(name, settings, fall_judges())


@cache
def fall_judges() -> Callable[[], FallJudge]:
    """Makes a judge of falls for each person that is followed, with the network that comes with the program."""
    return partial(FallJudge, FallModel.load(SHIPPED))


def people_settings(entry: StreamConfig) -> PeopleSettings | None:
    """What a stream's entry says of people; None: nothing."""
    if entry.people == "off":
        return None
    return PeopleSettings(entry.people, entry.zones, entry.lines)
