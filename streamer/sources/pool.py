"""Reader processes: a stream's reader seems to be here, while its packets are read and decoded in another process."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType

from streamer import child
from streamer.clock import NS_PER_S
from streamer.footage import Footage
from streamer.media import SourceStats
from streamer.sources.faults import Fault
from streamer.sources.reader import Owner, ReaderSettings
from streamer.sources.ring import joined
from streamer.sources.sdp_fragment import Trickle
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

log = logging.getLogger(__name__)

# Streams for which one process is enough: decoding leaves the interpreter's lock alone, most of the time.
_STREAMS_A_PROCESS = 4
_MOST_PROCESSES = 32
_STOP_S = 2.0
# What a worker that has a core to itself never leaves unsaid for so long: whether its readers are busy is not known.
_SILENT_NS = NS_PER_S // 3
_BUFFER = 4 * 1024 * 1024


@dataclass(slots=True)
class _Recalling:
    """Pictures on their way here, and who waits for them."""

    answer: Callable[[Footage | None], None]
    parts: list[Footage] = field(default_factory=list)


class RemoteReader:
    """Stands here for a reader in a worker; `Reader`'s twin to whoever owns it."""

    def __init__(
        self, pool: ReaderPool, number: int, settings: ReaderSettings, owner: Owner, ended: Callable[[], None]
    ) -> None:
        self.number = number
        self.settings = settings
        self._pool = pool
        self._owner = owner
        self._ended = ended
        self._worker: _Worker | None = None
        self._effort = owner.effort
        self._counted = SourceStats()
        self._is_gone = False
        self._keeps = False
        self._requests = itertools.count()
        self._recalls: dict[int, _Recalling] = {}

    def start(self) -> None:
        """Begin."""
        self._worker = self._pool.least_loaded()
        self._effort = self._owner.effort
        settings = self.settings
        begin = Begin(self.number, settings.name, settings.opener, settings.target, self._effort, self._keeps)
        self._worker.begin(self, begin)

    def tell(self, trickle: Trickle) -> None:
        """Pass on what the sender, who was answered already, has to add."""
        if self._worker is not None:
            self._worker.order(Tell(self.number, trickle))

    def keep(self, on: bool) -> None:
        """Whether the last seconds of encoded pictures are kept, there, for `recall`."""
        self._keeps = on
        if not on:
            self.settings.stats.kept_bytes = 0  # a camera that is silent now says nothing of it
        if self._worker is not None:
            self._worker.order(Keep(self.number, on))

    def recall(self, begin_ns: int, end_ns: int, answer: Callable[[Footage | None], None]) -> None:
        """Have `answer` told what is kept of the time between (wall time), None where nothing is; on another thread."""
        request = next(self._requests)
        self._recalls[request] = _Recalling(answer)
        if self._worker is not None:
            self._worker.order(Recall(self.number, request, begin_ns, end_ns))
        if self._worker is None or self._is_gone:
            self._end_recalls()

    def stop(self) -> None:
        """Ask it to end."""
        if self._worker is not None:
            self._worker.order(End(self.number))

    @property
    def is_alive(self) -> bool:
        """Whether it still reads, or frees what it read with."""
        return self._worker is not None and not self._is_gone

    @property
    def is_busy(self) -> bool:
        """Whether it is, or may be, at work on media that came."""
        return self._worker is not None and self._worker.may_be_busy(self.number)

    # -- on the thread that listens to the worker --------------------------------------------------------------------

    def take(self, word: Answered | Brought | Recalled | Over | Gone) -> None:
        """What its twin there has to say."""
        if isinstance(word, Brought):
            if not self._owner.deliver(self, word.events, self._count(word.stats)):
                self.stop()
            elif self._owner.effort != self._effort and self._worker is not None:
                self._effort = self._owner.effort
                self._worker.order(Ease(self.number, self._effort))
        elif isinstance(word, Recalled):
            self._take_part(word)
        elif isinstance(word, Answered):
            self._owner.answered(self, word.answer)
        elif isinstance(word, Over):
            self._owner.over(self, word.fault)
        else:
            self.gone()

    def gone(self) -> None:
        """There is nothing of it any more."""
        self._is_gone = True
        self.settings.stats.kept_bytes = 0
        self._end_recalls()
        self._ended()

    def _take_part(self, word: Recalled) -> None:
        recalling = self._recalls.get(word.request)
        if recalling is None:
            return
        if word.part is not None:
            recalling.parts.append(word.part)
        elif self._recalls.pop(word.request, None) is not None:
            recalling.answer(joined(recalling.parts))

    def _end_recalls(self) -> None:
        while self._recalls:
            self._recalls.popitem()[1].answer(None)

    def lost(self) -> None:
        """Its process has ended."""
        self._owner.over(self, Fault("the process that read it ended, see the log", False))
        self.gone()

    def _count(self, stats: SourceStats) -> int:
        """Add what it counted since the last time: the source's counters outlive a reader. Gives the packets."""
        ours, before = self.settings.stats, self._counted
        for track, count in stats.packets.items():
            ours.packets[track] = ours.packets.get(track, 0) + count - before.packets.get(track, 0)
        ours.bytes += stats.bytes - before.bytes
        ours.frames_decoded += stats.frames_decoded - before.frames_decoded
        ours.frames_sampled += stats.frames_sampled - before.frames_sampled
        ours.fps, ours.lag_ms = stats.fps, stats.lag_ms
        ours.picture = stats.picture or ours.picture
        ours.kept_bytes = stats.kept_bytes
        ours.kept_lost += stats.kept_lost - before.kept_lost
        for reason, count in stats.drops.items():
            if count > before.drops.get(reason, 0):
                ours.drop(reason, count - before.drops.get(reason, 0))
        packets = sum(stats.packets.values()) - sum(before.packets.values())
        self._counted = stats
        return packets


class _Worker:
    """One process and its readers; a thread listens to it."""

    def __init__(self, on_death: Callable[[_Worker], None]) -> None:
        self.readers: dict[int, RemoteReader] = {}
        self.cpu_s = 0.0
        self._on_death = on_death
        self._busy: frozenset[int] = frozenset()
        self._heard_ns = time.monotonic_ns()
        self._lock = threading.Lock()
        self._is_stopping = False
        self._is_dead = False
        ours, self._theirs = socket.socketpair()
        for end in (ours, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._connection = Connection(ours.detach())
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._listen, name="readers", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Its process id once it was started."""
        return None if self._process is None else self._process.pid

    def begin(self, reader: RemoteReader, order: Begin) -> None:
        """Take `reader` on."""
        with self._lock:
            dead = self._is_dead
            if not dead:
                self.readers[reader.number] = reader
        if dead:
            # Not on this thread: who starts a reader holds the lock that its owner needs to hear of this.
            threading.Thread(target=reader.lost, name="readers", daemon=True).start()
        else:
            self.order(order)

    def order(self, order: Order) -> None:
        """Have something done there; nothing where it has ended, because then everything has."""
        try:
            with self._lock:
                self._connection.send_bytes(pickle.dumps(order, protocol=5))
        except OSError:
            return

    def may_be_busy(self, number: int) -> bool:
        """Whether that reader is at work on a packet, or can't be known not to be."""
        return number in self._busy or time.monotonic_ns() - self._heard_ns > _SILENT_NS

    def stop(self) -> None:
        """End it: its readers have been told already, or are ended with it."""
        self._is_stopping = True
        # A shutdown and not a close: another thread reads from it.
        end = socket.socket(fileno=os.dup(self._connection.fileno()))
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        finally:
            end.close()

    def join(self, timeout_s: float) -> None:
        """Wait for its process and kill it where it does not end."""
        self._thread.join(timeout_s)
        process = self._process
        if process is None:
            return
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("a reader process does not stop: killed")
            process.kill()
            process.wait()

    def _listen(self) -> None:
        # Here and not by who asked for it, because starting a process takes a while; orders wait in the socket.
        command = [sys.executable, "-m", "streamer.sources.worker", str(self._theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                command, pass_fds=[self._theirs.fileno()], stdin=subprocess.DEVNULL, env=child.environment()
            )
            self._theirs.close()
            while True:
                for word in pickle.loads(self._connection.recv_bytes()):
                    self._take(word)
        except (EOFError, OSError) as error:
            self._died(error)

    def _take(self, word: Word) -> None:
        self._heard_ns = time.monotonic_ns()
        if isinstance(word, Pulse):
            self._busy, self.cpu_s = word.busy, word.cpu_s
            return
        reader = self.readers.get(word.number)
        if reader is None:
            return
        try:
            reader.take(word)
        except Exception:  # A fault of ours with one stream must not silence the others of this process.
            log.exception("what came for %s could not be taken", reader.settings.name)
        if isinstance(word, Gone):
            del self.readers[word.number]

    def _died(self, error: Exception) -> None:
        with self._lock:
            self._is_dead = True
            readers, self.readers = list(self.readers.values()), {}
        self._connection.close()
        self._theirs.close()
        if self._process is None:
            log.error("no process could be started to read %d streams: %s; they try again", len(readers), error)
        elif not self._is_stopping:
            code = self._process.wait()
            log.error("a reader process ended with code %s; its %d streams connect again", code, len(readers))
        self._on_death(self)
        for reader in readers:
            reader.lost()


class ReaderPool:
    """`with ReaderPool() as pool: pool.reader(settings, owner, ended)`: processes are started as streams need them."""

    def __init__(self, processes: int | None = None) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._most = processes or min(cores, _MOST_PROCESSES)
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._spent_s = 0.0
        self._is_open = False
        self.deaths = 0

    def __enter__(self) -> ReaderPool:
        self._is_open = True
        with self._lock:
            self._workers.append(_Worker(self._forget))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join(_STOP_S)

    def reader(self, settings: ReaderSettings, owner: Owner, ended: Callable[[], None]) -> RemoteReader:
        """A reader that will run in one of the processes."""
        return RemoteReader(self, next(self._numbers), settings, owner, ended)

    def least_loaded(self) -> _Worker:
        """The process for one reader more."""
        with self._lock:
            readers = sum(len(worker.readers) for worker in self._workers)
            wanted = min(self._most, readers // _STREAMS_A_PROCESS + 1)
            if len(self._workers) < wanted:
                self._add(needed=not self._workers)
            return min(self._workers, key=lambda worker: len(worker.readers))

    def _add(self, *, needed: bool) -> None:
        try:
            self._workers.append(_Worker(self._forget))
        except OSError:  # no descriptor is left for one more; those there are will do for now
            if needed:
                raise

    def cpu_seconds(self) -> float:
        """CPU time of all of them so far, to a tenth of a second or so."""
        with self._lock:
            return self._spent_s + sum(worker.cpu_s for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        with self._lock:
            return [worker.pid for worker in self._workers if worker.pid is not None]

    def _forget(self, worker: _Worker) -> None:
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
                self._spent_s += worker.cpu_s
                self.deaths += self._is_open
