"""The alerts of a running service: their process, from the first rule on, told whenever rules, receivers or groups
change, and its figures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.process import AlertsProcess
from streamer.alerts.settings import AlertsSettings, outbox_path
from streamer.observe.metrics import Metrics
from streamer.tasks import background

log = logging.getLogger(__name__)

_FOLLOW_S = 0.5


class Alerting:
    """`async with alerting.running(): ...`.

    current: what the alerts process should be told now. on_fault: told where nothing more can be told to it.
    """

    def __init__(
        self, current: Callable[[], AlertsSettings], metrics: Metrics, on_fault: Callable[[str], None]
    ) -> None:
        self._current = current
        self._on_fault = on_fault
        self._process: AlertsProcess | None = None
        self._watch(metrics)

    @property
    def pid(self) -> int | None:
        """The alerts process's id while it runs."""
        return None if self._process is None else self._process.pid

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the process where there are rules, now or later, keep it told, and stop it at the end.

        Raises:
            UserError: the outbox can't be used.
            StreamerError: the process did not come up.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            settings = self._current()
            if settings.rules:
                path = outbox_path(settings.outbox)
                # Opened here once, so that what is wrong with it is told as one line and in time.
                await asyncio.to_thread(lambda: Outbox.open(path).close())
                self._process = AlertsProcess(settings)
                await self._process.start()
            await background(stack, self._follow(), "alerts", self._on_fault)
            yield

    async def _stop(self) -> None:
        if self._process is not None:
            await self._process.stop()

    async def _follow(self) -> None:
        """Once there, the process stays without a rule too: what the last one fired for is over, and must be sent."""
        while True:
            await asyncio.sleep(_FOLLOW_S)
            settings = self._current()
            if self._process is not None:
                await self._process.change(settings)
            elif settings.rules:
                self._process = AlertsProcess(settings)
                self._process.insist()
                log.info("the configuration has rules now: alerts begin")

    def _watch(self, metrics: Metrics) -> None:
        def figure(name: str) -> Callable[[], float]:
            def now() -> float:
                report = None if self._process is None else self._process.report
                return 0.0 if report is None else float(getattr(report, name))

            return now

        for name, text in _GAUGES.items():
            metrics.watch(f"alerts_{name}", text, figure(name))
        for name, text in _COUNTERS.items():
            metrics.watch(f"alerts_{name}", text, figure(name), counter=True)
        metrics.watch(
            "alerts_restarts",
            "Times the alerts process was replaced.",
            lambda: 0 if self._process is None else self._process.restarts,
            counter=True,
        )


_GAUGES = {
    "firing": "Alerts that fire now.",
    "pending": "Deliveries that are under way or wait to be tried again.",
    "dead": "Deliveries that were given up.",
    "behind_ms": "Age of the message that the rules read last, while more are waiting.",
    "written": "Whether the outbox takes what is written.",
}
_COUNTERS = {
    "read": "Messages that the rules read.",
    "unreadable": "Messages that were none, or whose times are none.",
    "missed": "Times the store no longer held what came next.",
    "failures": "Evaluations of rules that failed.",
    "recorded": "Alerts written to the outbox.",
    "mirrored": "Alerts brought to the feed.",
    "sent": "Deliveries that arrived.",
    "failed": "Tries to deliver that failed.",
    "died": "Deliveries given up.",
}
