"""`python -m streamer.alerts`: rules, outbox and deliveries as a process.

It reads its settings (`AlertsSettings`, one line of JSON) from standard input, others whenever a further line comes,
and ends when that is closed. On standard output it writes one line of JSON a second: `AlertsReport`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import Any

import msgspec

from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.settings import AlertsSettings, outbox_path
from streamer.alerts.station import Station
from streamer.clock import HostClock
from streamer.errors import StreamerError
from streamer.memory import collected_seldom

_REPORT_S = 1.0
# Groups of ten thousand streams on one line.
_LONGEST_LINE = 64 * 1024 * 1024


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = msgspec.json.decode(await reader.readline(), type=AlertsSettings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    path = outbox_path(settings.outbox)
    async with (
        OutboxThread(lambda: Outbox.open(path)) as outbox,
        Station(settings, outbox, HostClock()) as station,
    ):
        works: list[asyncio.Future[Any]] = [
            asyncio.create_task(work) for work in (stop.wait(), _heed(reader, station, stop), _report(station))
        ]
        await asyncio.wait([*works, station.fault], return_when=asyncio.FIRST_COMPLETED)
        for work in works:
            work.cancel()
        if station.fault.done():
            station.fault.result()
        for outcome in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def _heed(reader: asyncio.StreamReader, station: Station, stop: asyncio.Event) -> None:
    """Settings that come later; the end of input is the end."""
    while line := await reader.readline():
        await station.change(msgspec.json.decode(line, type=AlertsSettings))
    stop.set()


async def _report(station: Station) -> None:
    loop = asyncio.get_running_loop()
    lag_s = 0.0
    while True:
        # A blocking write; but a pipe takes 64 KB, and whoever started us reads it.
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(msgspec.json.encode(station.report(1000 * lag_s)) + b"\n")
            sys.stdout.buffer.flush()
        due_s = loop.time() + _REPORT_S
        await asyncio.sleep(_REPORT_S)
        lag_s = max(loop.time() - due_s, 0.0)


def main() -> int:
    """Run the alerts of a service: settings from standard input, reports to standard output, log to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s alerts: %(message)s")
    try:
        with collected_seldom():
            asyncio.run(_main())
    except (StreamerError, msgspec.MsgspecError, OSError) as error:
        print(f"alerts: {error}", file=sys.stderr)
        return 1
    logging.shutdown()
    # Everything is written down. A thread in which a library still waits for somebody must not hold up the end.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
