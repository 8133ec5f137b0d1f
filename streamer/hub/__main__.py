"""`python -m streamer.hub`: a hub as a process.

It reads its settings (`HubSettings`, one line of JSON) from standard input and ends when that is closed, so it never
outlives who started it; they travel there and not on the command line because the store's URL may hold a password. On
standard output it writes one line of JSON a second: `HubReport`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys

import msgspec

from streamer.errors import StreamerError
from streamer.hub.garbage import collect_garbage
from streamer.hub.server import Hub
from streamer.hub.settings import HubSettings

_REPORT_S = 1.0


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hub = Hub(msgspec.json.decode(await reader.readline(), type=HubSettings))
    stop, started = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    beside = [
        asyncio.create_task(_stop_at_end(reader, stop)),
        asyncio.create_task(_report(hub, started)),
        asyncio.create_task(collect_garbage(lambda: hub.departed)),
    ]
    await hub.serve_until(stop, started)
    for task in beside:
        task.cancel()
    logging.shutdown()
    # Everybody has been told. Unwinding the handlers of ten thousand connections one by one would take seconds more.
    os._exit(0)


async def _stop_at_end(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    await reader.read()
    stop.set()


async def _report(hub: Hub, started: asyncio.Event) -> None:
    await started.wait()
    while True:
        # A blocking write; but a pipe takes 64 KB, and whoever started us reads it.
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(msgspec.json.encode(hub.report()) + b"\n")
            sys.stdout.buffer.flush()
        await asyncio.sleep(_REPORT_S)


def main() -> int:
    """Run a hub as a process: settings from standard input, reports to standard output, log to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s hub: %(message)s")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(_main())
    except (StreamerError, msgspec.MsgspecError, OSError) as error:
        print(f"hub: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
