"""Why, as the service has it: keeps the recent past, and answers who asks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from streamer.clock import Clock
from streamer.errors import StreamerError
from streamer.media import Geometry
from streamer.observe.metrics import Metrics
from streamer.status import Why
from streamer.why.explain import Graphs
from streamer.why.jpeg import PictureEncoder
from streamer.why.kept import Kept
from streamer.why.process import Explaining
from streamer.why.reasons import Reasons


class WhyDesk:
    """`kept` is told of every segment from the beginning; `why` answers once the model is there, within `open`.

    Args:
        shows: whether pictures of a stream may be shown; any thread.
    """

    def __init__(self, clock: Clock, shows: Callable[[str], bool], metrics: Metrics) -> None:
        self._shows = shows
        self._metrics = metrics
        self._encoder = PictureEncoder()
        self._reasons: Reasons | None = None
        self.kept = Kept(clock, shows, self._encoder)

    @contextlib.asynccontextmanager
    async def open(
        self, graphs: Graphs, labels: Sequence[tuple[str, Sequence[str]]], geometry: Geometry
    ) -> AsyncIterator[None]:
        """Encode pictures and answer until the block is left. `labels`: the model's, with their modalities."""
        with self._encoder:
            async with Explaining(graphs) as explaining:
                self._reasons = Reasons(self.kept, explaining, labels, geometry, self._shows)
                self._watch(explaining)
                yield
                self._reasons = None

    async def why(self, stream: str, seq: int, epoch: str | None, label: str) -> Why | None:
        """See `Reasons.why`; StreamerError also while the model is being loaded."""
        if self._reasons is None:
            raise StreamerError("the models are still being loaded; try again in a moment")
        return await self._reasons.why(stream, seq, epoch, label)

    def _watch(self, explaining: Explaining) -> None:
        kept, encoder, watch = self.kept, self._encoder, self._metrics.watch
        watch("why_kept_bytes", "What is kept of the recent past, to say what labels rest on.", lambda: kept.size)
        watch("why_kept_segments", "Segments of which it is kept.", lambda: len(kept))
        watch("why_evicted", "Of them, those that went early for want of room.", lambda: kept.evicted, counter=True)
        watch("why_asked", "Questions that were taken.", lambda: explaining.asked, counter=True)
        watch("why_refused", "Questions that found too many before them.", lambda: explaining.refused, counter=True)
        watch("why_starts", "Starts of the process that answers them.", lambda: explaining.starts, counter=True)
        watch("pictures_waiting", "Pictures to be encoded for showing.", lambda: len(encoder))
        watch("pictures_dropped", "Pictures not kept for want of time.", lambda: encoder.dropped, counter=True)
        watch("pictures_failed", "Pictures that could not be encoded.", lambda: encoder.failures, counter=True)
