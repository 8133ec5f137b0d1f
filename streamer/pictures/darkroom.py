"""The process in which pictures are decoded and blurred (see `streamer.ondemand`). One at a time; a picture that takes
too long, or takes the process with it, is lost, and the next one is not."""

from __future__ import annotations

from streamer.errors import StreamerError
from streamer.ondemand import NoAnswer, OnDemand
from streamer.pictures.job import Detectors, Developed, Job

# The longest clip takes half a minute of a core; where others are busy it has a fraction of one.
_ANSWER_S = 180.0
_IDLE_S = 60.0


class Darkroom:
    """`async with Darkroom() as darkroom: await darkroom.develop(detectors, job)`. Belongs to one event loop.

    Args:
        idle_s: how long the process, and the memory that it has, outlast the last picture.
        answer_s: how long one picture or clip may take.
    """

    def __init__(self, *, idle_s: float = _IDLE_S, answer_s: float = _ANSWER_S) -> None:
        self._answer_s = answer_s
        self._process = OnDemand("streamer.pictures", "makes pictures", Developed, idle_s=idle_s, answer_s=answer_s)

    async def __aenter__(self) -> Darkroom:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.aclose()

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return self._process.pid

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._process.starts

    async def develop(self, detectors: Detectors, job: Job) -> Developed:
        """What became of `job`; cancelled, it takes the process along.

        Args:
            detectors: for a process that is not there yet.

        Raises:
            StreamerError: the process failed, or took too long.
        """
        try:
            return await self._process.ask(detectors, job)
        except NoAnswer as error:
            cause = f"not made within {self._answer_s:g} s" if error.late else str(error)
            raise StreamerError(f"the process that makes pictures failed: {cause}") from error
