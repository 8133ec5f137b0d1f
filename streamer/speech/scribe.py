"""The process that writes down what was heard: `python -m streamer.speech.scribe`. It ends with its input.

A process of its own, because reading Chinese dictionaries holds up whatever shares an interpreter with it for longer
than a segment may wait.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from streamer.ondemand import answer_all
from streamer.speech.writing import Writer
from streamer.speech.written import ToWrite, WritingSettings, Written

# A little below what has a deadline. Its work is milliseconds, and words wait for it.
_NICE = 5


def begin(settings: WritingSettings) -> Callable[[ToWrite], Written]:
    """Who answers."""
    # A million entries of dictionaries are no garbage, and looking through them takes as long as reading them.
    gc.disable()
    return Writer(settings).write


if __name__ == "__main__":
    answer_all(WritingSettings, ToWrite, begin, nice=_NICE)
