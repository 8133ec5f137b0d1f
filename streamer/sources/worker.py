"""`python -m streamer.sources.worker FD`: a process that reads and decodes for the service, many streams at once.

Decoders have the interpreter's lock of a process of their own, so that however many there are, and however little CPU
they get, they never hold up an answer; and media that crash a decoder end this process and not the service. It lives as
long as the other end of its socket.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from streamer.clock import HostClock
from streamer.media import Effort, SourceEvent, SourceStats
from streamer.sources.faults import Fault
from streamer.sources.reader import Reader, ReaderSettings
from streamer.sources.ring import parts
from streamer.sources.wire import (
    Answered,
    Begin,
    Brought,
    Ease,
    End,
    Gone,
    Keep,
    Order,
    Over,
    Pulse,
    Recall,
    Recalled,
    Tell,
    Word,
)

# Words gather for this long and go in one piece: a wake-up of the service costs more than what it is told.
_GATHER_S = 0.004
_PULSE_S = 0.1
# Words that wait for a service that does not take them; then readers wait too, and catch up afterwards.
_WAITING = 512
# Pictures that are asked for go in pieces of this size, one among the words of each turn: what all streams have to say
# never waits behind more than that, neither here nor in the service.
_PIECE = 256 * 1024
# Packets that brought nothing are told of this often, because even that says that the camera is there.
_HEARD_NS = 100_000_000
_CLOSE_S = 0.5
# Behind the service's own threads: where the cores don't suffice, pictures are given up, and not the answers.
_NICE = 5


class Outbox:
    """Words on their way to the service. `put` waits while too many are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._words: list[Word] = []
        self._changed = threading.Condition()
        self._closed = False
        self._has_piece = False

    def put(self, word: Word) -> None:
        """Send `word`, soon."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._words) < _WAITING or self._closed)
            self._words.append(word)
            self._changed.notify_all()

    def put_piece(self, word: Recalled) -> None:
        """Send `word`, which is large, when no other of that kind waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._has_piece or self._closed)
            self._has_piece = True
            self._words.append(word)
            self._changed.notify_all()

    def send_forever(self) -> None:
        """Send until the service is gone."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._words))
            time.sleep(_GATHER_S)
            with self._changed:
                words, self._words = self._words, []
                self._has_piece = False
                self._changed.notify_all()
            try:
                self._connection.send_bytes(pickle.dumps(words, protocol=5))
            except OSError:
                break
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Session:
    """One reader here; what it brings goes into the outbox. It is the reader's owner."""

    def __init__(self, order: Begin, outbox: Outbox) -> None:
        self.number = order.number
        self.effort: Effort = order.effort
        self.is_wanted = True
        self._outbox = outbox
        self._clock = HostClock()
        self._told_ns = 0
        self._stats = SourceStats()
        settings = ReaderSettings(order.name, order.opener, order.target, self._clock, self._stats)
        self.reader = Reader(settings, self, self._ended)
        self.reader.keep(order.keeps)

    def deliver(self, reader: object, events: list[SourceEvent], packets: int = 1) -> bool:
        """A packet came."""
        now_ns = self._clock.now_ns()
        if self.is_wanted and (events or now_ns - self._told_ns > _HEARD_NS):
            self._told_ns = now_ns
            self._outbox.put(Brought(self.number, events, self._snapshot()))
        return self.is_wanted

    def _snapshot(self) -> SourceStats:
        stats = self._stats
        return SourceStats(
            dict(stats.packets),
            stats.bytes,
            stats.frames_decoded,
            stats.frames_sampled,
            stats.fps,
            stats.lag_ms,
            stats.reconnects,
            dict(stats.drops),
            stats.picture,
            stats.kept_bytes,
            stats.kept_lost,
        )

    def recall(self, order: Recall) -> None:
        """Send what is kept; on a thread of its own, because that waits for the service to take it."""
        footage = self.reader.kept(order.begin_ns, order.end_ns)
        for part in () if footage is None else parts(footage, _PIECE):
            self._outbox.put_piece(Recalled(self.number, order.request, part))
        self._outbox.put_piece(Recalled(self.number, order.request, None))

    def answered(self, reader: object, answer: str) -> None:
        """The reader answered an offer."""
        self._outbox.put(Answered(self.number, answer))

    def over(self, reader: object, fault: Fault | None) -> None:
        """The reader has read its last packet."""
        self._outbox.put(Over(self.number, fault))

    def _ended(self) -> None:
        self._outbox.put(Gone(self.number))


class Worker:
    """The readers of this process; `obey` is its whole life."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._outbox = Outbox(connection)
        self._sessions: dict[int, Session] = {}

    def obey(self) -> None:
        """Do what the service orders until it is gone."""
        threading.Thread(target=self._outbox.send_forever, name="outbox", daemon=True).start()
        threading.Thread(target=self._pulse_forever, name="pulse", daemon=True).start()
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._do(pickle.loads(self._connection.recv_bytes()))
        for session in self._sessions.values():
            session.reader.stop()
        deadline = time.monotonic() + _CLOSE_S
        while time.monotonic() < deadline and any(s.reader.is_alive for s in self._sessions.values()):
            time.sleep(0.01)

    def _do(self, order: Order) -> None:
        if isinstance(order, Begin):
            self._sessions[order.number] = session = Session(order, self._outbox)
            session.reader.start()
            return
        # Those that have ended are of no use to anybody.
        self._sessions = {n: s for n, s in self._sessions.items() if s.reader.is_alive or n == order.number}
        known = self._sessions.get(order.number)
        if known is not None and isinstance(order, Ease):
            known.effort = order.effort
        elif known is not None and isinstance(order, Tell):
            known.reader.tell(order.trickle)
        elif known is not None and isinstance(order, Keep):
            known.reader.keep(order.on)
        elif known is not None and isinstance(order, Recall):
            threading.Thread(target=known.recall, args=(order,), name="recall", daemon=True).start()
        elif known is not None and isinstance(order, End):
            known.is_wanted = False
            known.reader.stop()

    def _pulse_forever(self) -> None:
        while True:
            busy = frozenset(number for number, session in self._sessions.copy().items() if session.reader.is_busy)
            self._outbox.put(Pulse(busy, time.process_time()))
            time.sleep(_PULSE_S)


def main() -> None:
    """Run on the socket whose descriptor is the first argument."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The service hears of the terminal's Ctrl-C too, and ends this process when it is ready to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
        os.nice(_NICE)
    Worker(Connection(int(sys.argv[1]))).obey()
    sys.stderr.flush()
    # Readers that hang in a lookup, or in a read, would keep an ordinary exit waiting.
    os._exit(0)


if __name__ == "__main__":
    main()
