"""The process that makes pictures: `python -m streamer.pictures`.

Jobs come on standard input, finished files leave on standard output, each MessagePack after its length; the first
message says where the detector's weights are. It ends with its input. It can write no file, and its memory can't become
one.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from models.faces import any_size
from streamer.pictures.develop import develop
from streamer.pictures.faces import FaceDetector
from streamer.pictures.job import LENGTH, Developed, Job

log = logging.getLogger(__name__)

# Lower than the readers': what has a deadline comes first.
_NICE = 15
# A clip of large pictures takes a third of it; a file that is made to take more ends this process and nothing else.
_MEMORY = 3 * 1024**3
_PR_SET_DUMPABLE = 4


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Work until there is no more to do."""
    weights = _read(jobs)
    if weights is None:
        return
    faces = FaceDetector(any_size(Path(weights.decode())))
    decoder = msgspec.msgpack.Decoder(Job)
    while (job := _read(jobs)) is not None:
        try:
            answer = develop(decoder.decode(job), faces)
        except Exception as error:  # Whatever a camera sent, and whatever fails on it, costs this picture alone.
            log.exception("a picture could not be made")
            answer = Developed(None, f"it could not be made: {error!r}")
        body = msgspec.msgpack.encode(answer)
        answers.write(LENGTH.pack(len(body)) + body)
        answers.flush()


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def _confine() -> None:
    """Low priority, bounded memory, and no way to a disk for what is in it: not as a file (also not as the log, where
    that is one: who asked for a picture is told why there is none, and logs it), nor as a core file."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
        os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        # A handler of core files that is a program would get one in spite of the limit.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """Run on this process's standard input and output."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _confine()
    with os.fdopen(os.dup(1), "wb") as answers:
        # What a library prints must not get in between the answers.
        os.dup2(2, 1)
        with contextlib.suppress(BrokenPipeError):  # the service has gone
            serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
