"""`python -m streamer.speech`: one recogniser for all streams, as a process at low priority.

It reads its settings (`ListenSettings`, one line of JSON) from standard input and ends when that is closed. Sound
comes, and words leave, over the socket that it was given; on standard output it writes a line of JSON a second:
`SpeechReport`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import socket
import sys
import time
from pathlib import Path

import msgspec

from streamer.speech.heard import SpeechOptions
from streamer.speech.lane import Lane
from streamer.speech.recognise import Recogniser
from streamer.speech.talk import (
    LENGTH,
    Ease,
    End,
    ListenSettings,
    Put,
    Said,
    Sound,
    SpeechReport,
    Told,
    framed,
    unpacked,
)
from streamer.speech.vad import VoiceDetector

# After the readers and the engine, and before pictures that somebody asked for.
_NICE = 10
_NS = 1_000_000_000
_REPORT_NS = _NS
_HEARING_NS = _NS // 4
_IDLE_S = 0.25
_PIECE = 1 << 18


class Ear:
    """The process: everything happens on its one thread, a pass of the recogniser or some messages at a time."""

    def __init__(self, settings: ListenSettings) -> None:
        self._socket = socket.socket(fileno=settings.socket)
        self._recogniser = Recogniser(Path(settings.files.model), settings.threads)
        self._lane = Lane(self._recogniser, VoiceDetector(Path(settings.files.vad)))
        self._decoder = msgspec.msgpack.Decoder(Told)
        self._unread = bytearray()
        self._busy_ns = 0
        self._reported_ns = self._hearing_ns = 0

    def run(self) -> None:
        """Until standard input, or the socket, is closed."""
        is_busy = False
        while True:
            readable, _, _ = select.select([self._socket, sys.stdin], [], [], 0 if is_busy else _IDLE_S)
            if sys.stdin in readable and not os.read(sys.stdin.fileno(), _PIECE):
                return
            if self._socket in readable and not self._read():
                return
            began_ns = time.monotonic_ns()
            is_busy = self._lane.work(began_ns)
            self._busy_ns += time.monotonic_ns() - began_ns
            self._say(time.monotonic_ns())

    def _read(self) -> bool:
        """Take all that came; False: nobody is there any more."""
        while True:
            try:
                piece = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self._unread += piece
            while len(self._unread) >= LENGTH.size:
                (length,) = LENGTH.unpack_from(self._unread)
                if len(self._unread) < LENGTH.size + length:
                    break
                self._heed(self._decoder.decode(memoryview(self._unread)[LENGTH.size : LENGTH.size + length].tobytes()))
                del self._unread[: LENGTH.size + length]

    def _heed(self, message: Told) -> None:
        lane, now_ns = self._lane, time.monotonic_ns()
        match message:
            case Sound(stream, media_ns, samples, lost_ns):
                if lost_ns:
                    lane.lose(stream, lost_ns, now_ns)
                lane.feed(stream, media_ns, unpacked(samples), now_ns)
            case Put(stream, number, weight, denoise, language):
                lane.put(stream, SpeechOptions(weight, denoise, language), number)
            case End(stream, removed):
                if removed:
                    lane.remove(stream, now_ns)
                else:
                    lane.end(stream, now_ns)
            case Ease(level):
                lane.ease(level, now_ns)

    def _say(self, now_ns: int) -> None:
        heard = self._lane.take()
        is_due = now_ns - self._hearing_ns >= _HEARING_NS
        if heard or is_due:
            self._hearing_ns = now_ns
            self._socket.sendall(framed(Said(heard, self._lane.hearing(now_ns))))
        if now_ns - self._reported_ns >= _REPORT_NS:
            # A blocking write; but a pipe takes 64 KB, and whoever started us reads it.
            sys.stdout.buffer.write(msgspec.json.encode(self._report(now_ns)) + b"\n")
            sys.stdout.buffer.flush()
            self._reported_ns, self._busy_ns = now_ns, 0

    def _report(self, now_ns: int) -> SpeechReport:
        stats, since_ns = self._lane.stats, now_ns - self._reported_ns
        return SpeechReport(
            stats.utterances,
            stats.partials,
            stats.finals,
            stats.fed_ns / _NS,
            stats.shed_ns / _NS,
            stats.shed,
            stats.doubted,
            round(min(1.0, self._busy_ns / since_ns), 3),
            self._recogniser.device,
        )


def main() -> int:
    """Listen for a service: settings from standard input, reports to standard output, log to standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s speech: %(message)s")
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
        os.nice(_NICE)
    try:
        # Not through a buffer: it would hide from `select` what else has come.
        settings = msgspec.json.decode(io.FileIO(sys.stdin.fileno(), closefd=False).readline(), type=ListenSettings)
        Ear(settings).run()
    except (BrokenPipeError, ConnectionError):
        return 0  # the service has gone
    except (RuntimeError, msgspec.MsgspecError, OSError) as error:
        print(f"speech: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
