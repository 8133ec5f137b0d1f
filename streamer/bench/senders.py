"""`python -m streamer.bench.senders bare|broadcast COUNT`: what a hub is compared with, as a process.

`bare` accepts sockets and sends them bytes, one `send` each in one loop, and nothing else: the floor. `broadcast` is a
server of the websockets library and its `broadcast`. Each says `{"port"}` first, then answers `{"text"}` (base64), once
COUNT are connected, with `{"began_ns", "ended_ns"}` (monotonic) around the call that sent it to all.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sys
import time

from websockets.asyncio.server import ServerConnection, broadcast, serve

from streamer.bench.workers import allow_files, say
from streamer.hub.frames import text_frame


def bare(count: int) -> None:
    """Accept `count` sockets, then send what standard input names to each of them until it ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    say(port=listener.getsockname()[1])
    sockets = []
    for _ in range(count):
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        sockets.append(sock)
    for line in sys.stdin.buffer:
        frame = text_frame(base64.b64decode(json.loads(line)["text"]))
        began_ns = time.monotonic_ns()
        for sock in sockets:
            sock.send(frame)
        say(began_ns=began_ns, ended_ns=time.monotonic_ns())


async def broadcasting() -> None:
    """Serve websockets and send what standard input names to all of them until it ends."""
    over = asyncio.Event()

    async def stay(_: ServerConnection) -> None:
        await over.wait()

    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    server = await serve(stay, "127.0.0.1", 0, compression=None, backlog=4096, open_timeout=None)
    say(port=next(iter(server.sockets)).getsockname()[1])
    while line := await reader.readline():
        text = base64.b64decode(json.loads(line)["text"]).decode()
        connections = server.connections
        began_ns = time.monotonic_ns()
        broadcast(connections, text)
        say(began_ns=began_ns, ended_ns=time.monotonic_ns())
    # Closing ten thousand connections one by one is no part of what is measured.
    os._exit(0)


def main() -> int:
    """Run as a process."""
    allow_files()
    if sys.argv[1] == "bare":
        bare(int(sys.argv[2]))
    else:
        asyncio.run(broadcasting())
    return 0


if __name__ == "__main__":
    sys.exit(main())
