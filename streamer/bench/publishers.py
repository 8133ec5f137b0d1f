"""`python -m streamer.bench.publishers CLIP RATE`: WebRTC publishers in a process of their own, any number of them.

Each line of standard input is a command: `{"publish": URL}` starts one and is answered with `{"offered_ms",
"answered_ms"}`, the wall time at which its SDP was sent and its answer was there; `{"leave": NUMBER}` ends that one and
`{"report": true}` asks for what they did since the last time. It ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import aiohttp

from streamer.bench.publisher import Publisher, Sending, coded, publishing
from streamer.bench.workers import say


class Publishers:
    """The publishers of this process, all of one clip.

    Args:
        rate: how many times as many pictures a second as the clip has.
    """

    def __init__(self, clip: Path, rate: float) -> None:
        self._clip = clip
        self._codec = "H264" if clip.suffix == ".mp4" else "VP8"
        self._rate = rate
        self._publishers: list[Publisher] = []
        self._stacks: list[contextlib.AsyncExitStack] = []
        self._frames = 0
        for kind in ("video", "audio"):
            coded(clip, kind)  # read before anybody is waited for

    async def publish(self, url: str) -> dict[str, object]:
        """One more. The answer says when it was offered, or why it was refused."""
        sending = Sending(rate=self._rate, obeys=True, codecs=(self._codec,))
        stack = contextlib.AsyncExitStack()
        try:
            publisher = await stack.enter_async_context(publishing(url, self._clip, sending=sending))
        except (aiohttp.ClientError, OSError) as error:
            return {"error": str(error)}
        self._publishers.append(publisher)
        self._stacks.append(stack)
        return {"offered_ms": publisher.offered_ms, "answered_ms": time.time_ns() // 1_000_000}

    async def leave(self, number: int) -> dict[str, object]:
        """End one of them politely."""
        del self._publishers[number]
        await self._stacks.pop(number).aclose()
        return {}

    def report(self) -> dict[str, object]:
        """Pictures sent since the last report, how late the latest frame left, key frames asked for, states."""
        tracks = [track for publisher in self._publishers for track in publisher.tracks]
        frames = sum(track.sent for track in tracks if track.kind == "video")
        pictures, self._frames = frames - self._frames, frames
        behind_s = max((track.behind_s for track in tracks), default=0.0)
        for track in tracks:
            track.behind_s = 0.0
        return {
            "pictures": pictures,
            "behind_ms": round(behind_s * 1000, 1),
            "asked": sum(publisher.asked for publisher in self._publishers),
            "states": [publisher.pc.connectionState for publisher in self._publishers],
        }

    async def close(self) -> None:
        """End them all."""
        for stack in self._stacks:
            await stack.aclose()


async def _obey(publishers: Publishers) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(ready=True)
    while line := await reader.readline():
        command = json.loads(line)
        if "publish" in command:
            say(**await publishers.publish(command["publish"]))
        elif "leave" in command:
            say(**await publishers.leave(command["leave"]))
        else:
            say(**publishers.report())
    await publishers.close()


def main() -> int:
    """Run as a process."""
    asyncio.run(_obey(Publishers(Path(sys.argv[1]), float(sys.argv[2]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
