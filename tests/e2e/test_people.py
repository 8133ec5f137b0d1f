"""People in the picture of a real camera: found, followed, and told as the configuration asks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import service
from tests.e2e.watching import following

StartCamera = Callable[[Path], ToolkitCamera]

CONFIG = """
streams:
  room:
    source: "{url}"
    people: presence
    zones:
      whole: {{area: [[0, 0], [1, 0], [1, 1], [0, 1]], dwell: 2s}}
      corner: {{area: [[0, 0], [0.02, 0], [0, 0.02]]}}
  hall: {{source: "{url}", people: count}}
  shed: {{source: "{url}"}}
alerts:
  - {{name: somebody, when: "label('Person@whole') > 0.5", for: 1s, stream: room}}
"""


@pytest.fixture(scope="module")
def room(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of somebody in a room, without B-frames, that a camera can loop."""
    made = tmp_path_factory.mktemp("people") / "room.mp4"
    clip = shared_data / "falls" / "S3_Fall_16.mp4"
    command = ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", str(clip), "-t", "12", "-an"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "25", "-pix_fmt", "yuv420p", str(made)]
    subprocess.run(command, check=True, timeout=60)
    return made


def scores(segment: dict[str, Any]) -> dict[str, float]:
    return {label["name"]: label["score"] for label in segment["labels"]}


async def test_who_is_there(room: Path, toolkit_camera: StartCamera, tmp_path: Path) -> None:
    """Somebody in a room is a label, a place and one event; another stream tells the number alone, and one of which it
    was not asked nothing; a rule that speaks of a zone fires."""
    config = tmp_path / "streams.yaml"
    config.write_text(CONFIG.format(url=toolkit_camera(room).url))
    async with service(config=config) as running, following(running) as follower:

        def seen(stream: str) -> list[dict[str, Any]]:
            return [s for s in follower.segments(stream) if s["people"] is not None and s["people"]["count"]]

        def told(label: str, state: str) -> list[dict[str, Any]]:
            events = [m for m in follower.messages if m["type"] == "event"]
            return [event for event in events if (event["label"], event["state"]) == (label, state)]

        await eventually(lambda: len(seen("room")) > 12 and len(seen("hall")) > 4, 40, "people in both")
        await eventually(lambda: [m for m in follower.messages if m["type"] == "alert"], 20, "the alert")
        # They fall once in each round of the clip.
        await eventually(lambda: told("Fall", "open"), 20, "the fall")
        later = seen("room")[4:12]
        assert all(scores(segment).get("Person", 0.0) > 0.5 for segment in later)
        assert all(scores(segment).get("Person@whole", 0.0) > 0.5 for segment in later)
        assert not any("Person@corner" in scores(segment) for segment in later)
        person = later[-1]["people"]["list"][0]
        left, top, right, bottom = person["box"]
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1 and person["zones"] == ["whole"]
        assert len(person["points"]) == 17 and person["score"] > 0.1
        (share,) = {tuple(label["share"].values()) for label in later[-1]["labels"] if label["name"] == "Person"}
        assert share == (1.0, 0.0, 0.0)
        assert all(set(segment["people"]) == {"count"} for segment in seen("hall"))
        assert all(segment["people"] is None for segment in follower.segments("shed"))
        opened = told("Person", "open")
        assert {event["stream"] for event in opened} == {"room", "hall"}
        # One person, who is lost and found again at most where the clip begins anew.
        assert len([event for event in opened if event["stream"] == "room"]) <= 4
        named = {label["name"]: label["modalities"] for label in (await running.get("/v1/labels"))["labels"]}
        assert named["Person"] == named["Enter@corner"] == ["video"]
        status, _ = await running.call("PUT", "/v1/streams/shed", {"source": "rtsp://127.0.0.1:1/x", "zones": {"a": 1}})
        assert status == 400
