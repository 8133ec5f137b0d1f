"""Waiting for a host that does not answer to answer again, without losing time when it does."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections import deque

# A connection attempt sends its packet at once and then after 1, 3 and 7 s (RFC 6298); with a fresh attempt as often as
# this one is never far off when the host comes back. Older ones stay open, for hosts that are far away.
_EVERY_S = 0.5
_PENDING = 4


def knock(host: str, port: int, within_s: float, stop: threading.Event) -> bool:
    """Wait until something at `host:port` accepts or refuses a TCP connection, at most `within_s` or until `stop`.

    Returns:
        whether it answered; True as well where the name can't be resolved, which is for the connection to tell.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return True
    pending: deque[socket.socket] = deque()
    until_s = time.monotonic() + within_s
    try:
        while not stop.is_set() and (left_s := until_s - time.monotonic()) > 0:
            pending.append(socket.socket(family, socket.SOCK_STREAM))
            pending[-1].setblocking(False)
            if pending[-1].connect_ex(address) in (0, errno.ECONNREFUSED):
                return True
            if len(pending) > _PENDING:
                pending.popleft().close()
            if _is_answered(pending, min(_EVERY_S, left_s)):
                return True
    finally:
        for attempt in pending:
            attempt.close()
    return False


def _is_answered(pending: deque[socket.socket], within_s: float) -> bool:
    """Whether one of the attempts is accepted or refused in time; those that fail otherwise are taken out."""
    poller, sockets = select.poll(), {attempt.fileno(): attempt for attempt in pending}
    for number in sockets:
        poller.register(number, select.POLLOUT)
    until_s = time.monotonic() + within_s
    while (left_s := until_s - time.monotonic()) > 0:
        for number, _ in poller.poll(1000 * left_s):
            if sockets[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED):
                return True
            poller.unregister(number)
            pending.remove(sockets[number])
            sockets[number].close()
    return False
