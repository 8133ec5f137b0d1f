"""What waits to be told to the process that listens: bounded sound, and all else in order. Pure."""

from __future__ import annotations

from collections import deque

from streamer.speech.talk import Sound, Told
from streamer.speech.utterance import ns_of

_BYTES_A_SAMPLE = 2


class Backlog:
    """First in, first out. Of each stream at most `most_ns` of sound waits; the oldest makes room, and what follows it
    says how much was lost. lost_ns: by stream, of those that were told of since `forget`."""

    def __init__(self, most_ns: int = 4_000_000_000) -> None:
        self._most_ns = most_ns
        self._waiting: deque[Told] = deque()
        self._sound_ns: dict[str, int] = {}
        self._untold_ns: dict[str, int] = {}
        self.lost_ns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Told) -> int:
        """Put it last; how many nanoseconds of its stream's sound were lost for it."""
        self._waiting.append(message)
        if not isinstance(message, Sound):
            return 0
        stream = message.stream
        self._sound_ns[stream] = self._sound_ns.get(stream, 0) + _ns(message)
        lost_ns = 0
        while self._sound_ns[stream] > self._most_ns:
            lost_ns += self._drop_oldest(stream)
        if lost_ns:
            self._untold_ns[stream] = self._untold_ns.get(stream, 0) + lost_ns
            self.lost_ns[stream] = self.lost_ns.get(stream, 0) + lost_ns
        return lost_ns

    def take(self) -> Told | None:
        """The first; None: nothing waits."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        if not isinstance(message, Sound):
            return message
        self._sound_ns[message.stream] -= _ns(message)
        lost_ns = self._untold_ns.pop(message.stream, 0)
        return Sound(message.stream, message.media_ns, message.samples, lost_ns) if lost_ns else message

    def clear(self) -> None:
        """Forget all that waits, and count it as lost."""
        while (message := self.take()) is not None:
            if isinstance(message, Sound):
                self.lost_ns[message.stream] = self.lost_ns.get(message.stream, 0) + _ns(message)

    def forget(self, stream: str) -> None:
        """No more is said of that stream."""
        self.lost_ns.pop(stream, None)

    def _drop_oldest(self, stream: str) -> int:
        for index, waiting in enumerate(self._waiting):
            if isinstance(waiting, Sound) and waiting.stream == stream:
                del self._waiting[index]
                self._sound_ns[stream] -= _ns(waiting)
                return _ns(waiting)
        raise AssertionError("sound that waits is counted as it is put and taken")


def _ns(sound: Sound) -> int:
    return ns_of(len(sound.samples) // _BYTES_A_SAMPLE)
