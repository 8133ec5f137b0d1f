"""Starts the alerts process and keeps it there, so that a rule or a dead receiver never holds up a label."""

from __future__ import annotations

from streamer.alerts.settings import AlertsReport, AlertsSettings
from streamer.child import ChildProcess


class AlertsProcess(ChildProcess[AlertsReport]):
    """`async with AlertsProcess(settings) as alerts: await alerts.change(other_settings)`."""

    def __init__(self, settings: AlertsSettings) -> None:
        super().__init__("streamer.alerts", "alerts process", AlertsReport)
        self._settings = settings

    def settings(self) -> AlertsSettings:
        """What the process is told."""
        return self._settings

    async def change(self, settings: AlertsSettings) -> None:
        """Let the running process go on by other settings; nothing to do where they are the same."""
        if settings != self._settings:
            self._settings = settings
            await self.tell()
