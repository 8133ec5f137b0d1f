"""A publisher for the tests: the benchmark's, which is aiortc's sender, with clips made by FFmpeg's own program.

`python -m tests.whip_publisher URL MEDIA [TOKEN]` publishes in a process of its own, until it is ended.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from streamer.bench.publisher import Answering, FileTrack, Publisher, Sending, publishing

__all__ = ["Answering", "FileTrack", "Publisher", "Sending", "prepared", "publishing"]


def prepared(
    media: Path, target: Path, *, codec: str = "libx264", seconds: float = 10.0, size: str = "854:480", fps: int = 30
) -> Path:
    """`media`, repeated, as a browser's camera would send it: a picture rate, no B pictures, Opus. Made once."""
    if not target.exists():
        tuned = {
            "libx264": ["-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline"],
            "libvpx": ["-deadline", "realtime", "-cpu-used", "8"],
        }[codec]
        coding = ["-c:v", codec, *tuned, "-b:v", "1200k", "-maxrate", "1500k", "-bufsize", "1500k", "-g", str(fps)]
        sound = ["-c:a", "libopus", "-ar", "48000", "-ac", "2", "-b:a", "64k"]
        shape = ["-vf", f"scale={size}", "-r", str(fps), "-pix_fmt", "yuv420p", *coding, *sound]
        command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(media), "-t", str(seconds)]
        subprocess.run([*command, *shape, str(target)], check=True, timeout=120)
    return target


async def _publish_forever(url: str, media: Path, token: str | None) -> None:
    async with publishing(url, media, token=token):
        print("publishing", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_publish_forever(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
