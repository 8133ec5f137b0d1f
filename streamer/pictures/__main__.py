"""The process that makes pictures: `python -m streamer.pictures`.

Jobs come on standard input, finished files leave on standard output; the first message says where the detectors'
files are. It ends with its input. It can write no file, and its memory can't become one.
"""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from models.faces import any_size
from streamer.ondemand import answer_all
from streamer.pictures.develop import Finder, Finders, develop
from streamer.pictures.faces import FaceDetector
from streamer.pictures.heads import HeadDetector
from streamer.pictures.job import Detectors, Developed, Job

log = logging.getLogger(__name__)

# A clip of large pictures takes a third of it; a file that is made to take more ends this process and nothing else.
_MEMORY = 3 * 1024**3
_PR_SET_DUMPABLE = 4


def begin(detectors: Detectors) -> Callable[[Job], Developed]:
    """Who makes the pictures."""
    finders: list[Finder] = [FaceDetector(any_size(Path(detectors.faces)))]
    if detectors.heads is not None:
        finders.append(HeadDetector(Path(detectors.heads)))
    both = Finders(finders)

    def made(job: Job) -> Developed:
        try:
            return develop(job, both)
        except Exception as error:  # Whatever a camera sent, and whatever fails on it, costs this picture alone.
            log.exception("a picture could not be made")
            return Developed(None, f"it could not be made: {error!r}")

    return made


def _confine() -> None:
    """Bounded memory, and no way to a disk for what is in it: not as a file (also not as the log, where
    that is one: who asked for a picture is told why there is none, and logs it), nor as a core file."""
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
    answer_all(Detectors, Job, begin)


if __name__ == "__main__":
    main()
