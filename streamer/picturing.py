"""Pictures of alerts in a running service: has the rings of streams kept where rules want pictures of them, watches the
outbox for alerts of such rules, and has their pictures made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from streamer.alertconfig import AlertConfig
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.rows import Filter
from streamer.alerts.settings import outbox_path
from streamer.clock import Clock, parse_rfc3339
from streamer.config import Config
from streamer.errors import StreamerError
from streamer.footage import Footage
from streamer.messages import Alert
from streamer.observe.metrics import Metrics
from streamer.picturenames import asks, names
from streamer.pictures.desk import Pictures
from streamer.pipeline import LiveStream
from streamer.sources.source import LiveSource

log = logging.getLogger(__name__)

# The ring holds 20 s: there is time to look for alerts every now and then, which costs a query of a local file.
_LOOK_S = 0.25
# Of a storm of alerts only a few get pictures anyhow; the newest are looked at.
_NEWEST = 32
_TEXTS = {
    "made": "Pictures and clips of alerts that were made, faces blurred.",
    "failed": "Pictures of alerts that could not be made; the log says why.",
    "gone": "Pictures of alerts whose moment was not kept (any more).",
    "refused": "Alerts without pictures because too many were asked for at once.",
    "blind": "Alerts without pictures because the detector of faces is missing.",
}


class Picturing:
    """`async with picturing.running(): ...`.

    Args:
        config: what is in force now.
        streams: those there are now, by name.
        weights_folder: where the weights are, None: the cache, or fetched.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        streams: Callable[[], Mapping[str, LiveStream]],
        clock: Clock,
        metrics: Metrics,
        weights_folder: Path | None = None,
    ) -> None:
        self._config = config
        self._streams = streams
        self._outbox = outbox_path(config().outbox)
        folder = self._outbox.parent / "pictures"
        self._pictures = Pictures(folder, config().pictures, clock, self._recall, weights_folder)
        self._book: Book | None = None
        self._row: int | None = None
        self._is_kept = False
        self._takes: set[asyncio.Task[list[str]]] = set()
        self._watch(metrics)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Begin now, and leave no task, process or picture on its way at the end."""
        async with self._pictures:
            following = asyncio.create_task(self._follow_forever(), name="picturing")
            try:
                yield
            finally:
                following.cancel()
                for task in self._takes:
                    task.cancel()
                await asyncio.gather(following, *self._takes, return_exceptions=True)
                if self._book is not None:
                    self._book.close()

    async def picture(self, alert: str, name: str) -> bytes | None:
        """A finished picture; None: it was not made (yet), or is gone."""
        return await self._pictures.read(alert, name)

    async def _follow_forever(self) -> None:
        failures = 0
        while True:
            try:
                await self._look()
                failures = 0
            except StreamerError as error:
                failures += 1
                if failures == 1:
                    log.warning("alerts get no pictures while the outbox can't be read: %s", error)
            except Exception:  # A fault of ours with pictures must end neither them all nor the service.
                log.exception("pictures of alerts failed, and go on")
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        config = self._config()
        rules = [rule for rule in config.alerts if names(rule)]
        self._pictures.configure(config.pictures)
        self._keep(rules)
        if not rules:
            self._row = None  # whatever fires until one asks again is of no matter
            return
        for alert in await asyncio.to_thread(self._fired):
            rule = next((rule for rule in rules if rule.name == alert.rule), None)
            if rule is not None and alert.state == "firing":
                self._begin(alert, rule)

    def _keep(self, rules: list[AlertConfig]) -> None:
        """Every stream's ring on or off, as `rules` want it."""
        if not rules and not self._is_kept:
            return
        self._is_kept = bool(rules)
        for name, live in self._streams().items():
            if isinstance(live.source, LiveSource):
                live.source.keep(asks(rules, name))

    def _fired(self) -> list[Alert]:
        """What was recorded since the last look, oldest first; nothing at the first. Blocking."""
        if self._book is None:
            if not self._outbox.is_file():
                self._row = 0
                return []
            self._book = Book.open(self._outbox, read_only=True)
        newest = self._book.listing(Filter(), limit=_NEWEST).rows
        before = self._row
        self._row = max((row.row for row in newest), default=0)
        # One that began anew counts from the beginning again.
        is_known = before is not None and self._row >= before
        return [row.alert for row in reversed(newest) if is_known and before is not None and row.row > before]

    def _begin(self, alert: Alert, rule: AlertConfig) -> None:
        at_ns = parse_rfc3339(alert.at)
        work = self._pictures.take(alert.id, alert.stream, at_ns, snapshot=rule.snapshot, clip_ns=rule.clip_ns)
        task = asyncio.create_task(work, name=f"pictures:{alert.id}")
        self._takes.add(task)
        task.add_done_callback(self._taken)

    def _taken(self, task: asyncio.Task[list[str]]) -> None:
        self._takes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the pictures of an alert failed", exc_info=error)

    async def _recall(self, stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        live = self._streams().get(stream)
        source = None if live is None else live.source
        return await source.footage(begin_ns, end_ns) if isinstance(source, LiveSource) else None

    def _watch(self, metrics: Metrics) -> None:
        def count(name: str) -> Callable[[], float]:
            return lambda: float(asdict(self._pictures.counts)[name])

        for name, text in _TEXTS.items():
            metrics.watch(f"alert_pictures_{name}", text, count(name), counter=True)
        metrics.watch("alert_pictures_waiting", "Alerts whose pictures are being made.", lambda: self._pictures.waiting)
        metrics.watch("alert_ring_bytes", "Encoded pictures kept for alerts, of all streams.", self._kept_bytes)
        metrics.watch("alert_ring_lost", "Groups of pictures too long to be kept.", self._kept_lost)

    def _kept_bytes(self) -> float:
        return float(sum(live.source.stats.kept_bytes for live in self._streams().values()))

    def _kept_lost(self) -> float:
        return float(sum(live.source.stats.kept_lost for live in self._streams().values()))
