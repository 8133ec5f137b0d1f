"""The process that explains: `python -m streamer.why.worker`.

Questions come on standard input, answers leave on standard output, each MessagePack after its length; it ends with its
input.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from typing import BinaryIO

import msgspec

from streamer.why.explain import Asked, Explained, Explainer, Graphs

LENGTH = struct.Struct("<I")
# Lower than the readers': what has a deadline comes first, whoever clicks.
_NICE = 15


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions; the first message names the graphs."""
    graphs = _read(questions)
    if graphs is None:
        return
    explainer = Explainer(msgspec.msgpack.decode(graphs, type=Graphs))
    decoder = msgspec.msgpack.Decoder(Asked)
    while (question := _read(questions)) is not None:
        answer: Explained = explainer.explain(decoder.decode(question))
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


def main() -> None:
    """Run on this process's standard input and output."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
        os.nice(_NICE)
    with os.fdopen(os.dup(1), "wb") as answers:
        # What a library prints must not get in between the answers.
        os.dup2(2, 1)
        with contextlib.suppress(BrokenPipeError):  # the service has gone
            serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
