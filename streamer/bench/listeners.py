"""`python -m streamer.bench.listeners`: many websocket clients in one process, which tell when the last has a message.

Commands, one JSON line each on standard input: `{"connect": {"port", "count", "path"}}` connects that many (without a
handshake where `path` is null) and answers `{"connected", "seconds"}`. From then on each message that all have is told
by itself: `{"seq", "first_ns", "median_ns", "last_ns", "text"}`, times of the host's monotonic clock and the text in
base64. `{"count": true}` answers `{"clients", "whole": clients that got every message once and in order, "messages"}`.

Messages are segments whose `seq` counts from 0. The clients are sockets on one epoll and not a library's, so that
receiving takes as little as it can from the machine that sends at the same time.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import sys
import time

from streamer.bench.workers import allow_files, say

_WAVE = 200
_READ = 16384
_TIMEOUT_S = 30.0
# Addresses have so many ports for one server; more clients than that come from the next address of 127/8.
_PORTS_AN_ADDRESS = 20_000
_SEGMENT = b'{"type":"segment"'
_TEXT, _PING = 0x81, 0x89
# A client's pong, masked with zeros; its payload is that of the ping.
_PONG, _MASKED, _MASK = 0x8A, 0x80, bytes(4)


class Listeners:
    """All the clients; `run` serves commands and sockets until standard input ends."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._held: dict[int, bytes] = {}
        self._next: dict[int, int] = {}
        self._times_ns: dict[int, list[int]] = {}
        self._wrong: set[int] = set()

    def run(self) -> None:
        """Serve until standard input ends."""
        stdin = sys.stdin.fileno()
        self._poll.register(stdin, select.EPOLLIN)
        commands = b""
        while True:
            for fd, _ in self._poll.poll(maxevents=1024):
                if fd != stdin:
                    self._read(fd)
                    continue
                data = os.read(stdin, 65536)
                if not data:
                    return
                *lines, commands = (commands + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, command: dict[str, object]) -> None:
        wanted = command.get("connect")
        if isinstance(wanted, dict):
            began = time.monotonic()
            self._connect(wanted["port"], wanted["count"], wanted["path"])
            say(connected=len(self._sockets), seconds=round(time.monotonic() - began, 2))
        else:
            most = max(self._next.values(), default=0)
            whole = sum(1 for fd, count in self._next.items() if count == most and fd not in self._wrong)
            say(clients=len(self._sockets), whole=whole, messages=most)

    # -- connecting --------------------------------------------------------------------------------------------------

    def _connect(self, port: int, count: int, path: str | None) -> None:
        for first in range(0, count, _WAVE):
            wave = [_open(port, number, path) for number in range(first, min(first + _WAVE, count))]
            for sock in wave:
                self._held[sock.fileno()] = _after_handshake(sock) if path is not None else b""
                self._next[sock.fileno()] = 0
                self._sockets[sock.fileno()] = sock
                sock.setblocking(False)
                self._poll.register(sock.fileno(), select.EPOLLIN)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _read(self, fd: int) -> None:
        try:
            data = self._sockets[fd].recv(_READ)
        except OSError as error:
            return self._lose(fd, str(error))
        if not data:
            return self._lose(fd, "closed by the server")
        now_ns = time.monotonic_ns()
        held = self._held[fd]
        if held:
            data = held + data
        place = 0
        while (end := _end_of_frame(data, place)) is not None:
            self._take(fd, data[place:end], now_ns)
            place = end
        if held or place < len(data):
            self._held[fd] = data[place:]

    def _lose(self, fd: int, why: str) -> None:
        if not self._wrong:
            print(f"listeners: a client was lost: {why}", file=sys.stderr)
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()
        self._wrong.add(fd)

    def _take(self, fd: int, frame: bytes, now_ns: int) -> None:
        if frame[0] == _PING:
            self._sockets[fd].send(bytes((_PONG, _MASKED | frame[1])) + _MASK + frame[2:])
        elif frame[0] == _TEXT and frame.startswith(_SEGMENT, _payload_at(frame)):
            seq = self._next[fd]
            if b'"seq":%d,' % seq not in frame:
                self._wrong.add(fd)
            self._next[fd] = seq + 1
            times_ns = self._times_ns.setdefault(seq, [])
            times_ns.append(now_ns)
            if len(times_ns) == len(self._sockets):
                self._tell(seq, frame)

    def _tell(self, seq: int, frame: bytes) -> None:
        times_ns = sorted(self._times_ns.pop(seq))
        text = base64.b64encode(frame[_payload_at(frame) :]).decode()
        middle_ns = times_ns[len(times_ns) // 2]
        say(seq=seq, first_ns=times_ns[0], median_ns=middle_ns, last_ns=times_ns[-1], text=text)


def _open(port: int, number: int, path: str | None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(_TIMEOUT_S)
    if number >= _PORTS_AN_ADDRESS:
        sock.bind((f"127.0.0.{1 + number // _PORTS_AN_ADDRESS}", 0))
    sock.connect(("127.0.0.1", port))
    if path is not None:
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{upgrade}\r\n\r\n".encode())
    return sock


def _after_handshake(sock: socket.socket) -> bytes:
    """What came after the answer to the upgrade; ConnectionError where there is none or it is a refusal."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("the server hung up in the handshake")
        data += more
    if not data.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"no websocket: {data[:300].decode(errors='replace')}")
    return data.partition(b"\r\n\r\n")[2]


def _payload_at(frame: bytes) -> int:
    """Where the payload of a server's frame begins (RFC 6455, section 5.2)."""
    return {126: 4, 127: 10}.get(frame[1], 2)


def _end_of_frame(data: bytes, place: int) -> int | None:
    """Where the frame that begins at `place` ends; None while it is not all there."""
    have = len(data) - place
    if have < 2:
        return None
    length, header = data[place + 1], 2
    if length == 126:
        header = 4
        length = int.from_bytes(data[place + 2 : place + 4], "big")
    elif length == 127:
        header = 10
        length = int.from_bytes(data[place + 2 : place + 10], "big")
    return place + header + length if have >= header + length else None


def main() -> int:
    """Run as a process; 1 where the clients can't connect."""
    allow_files()
    try:
        Listeners().run()
    except OSError as error:
        print(f"listeners: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
