"""What is said in front of a real camera: told as it settles, final once, in one segment, and what rules make of it."""

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
  desk: {{source: "{url}", speech: {{language: en}}}}
  deaf: {{source: "{url}"}}
speech: {{keywords: [your country, help]}}
alerts:
  - {{name: americans, when: "said('fellow americans')", stream: desk}}
"""
# Models are loaded, and words recognised, by a machine that may have much else to do.
_PATIENCE_S = 100.0


@pytest.fixture(scope="module")
def speaker(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven seconds of a speech and three of silence, with a picture, that a camera can loop."""
    made = tmp_path_factory.mktemp("speech") / "speaker.mp4"
    clip = shared_data / "speech" / "en_jfk.flac"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-i", str(clip)]
    command += ["-af", "apad", "-t", "14", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "10"]
    command += ["-pix_fmt", "yuv420p", "-c:a", "aac", "-ar", "48000", str(made)]
    subprocess.run(command, check=True, timeout=60)
    return made


@pytest.mark.timeout(300)
async def test_what_is_said_is_written_down(speaker: Path, toolkit_camera: StartCamera, tmp_path: Path) -> None:
    """Words come before they settle, without a cursor; each final utterance is one message with a cursor, and stands in
    exactly one segment; a keyword is a label that rests on text alone, and an event; a rule on words fires; a stream
    that did not ask for it has none."""
    config = tmp_path / "streams.yaml"
    config.write_text(CONFIG.format(url=toolkit_camera(speaker).url))
    async with service(config=config) as running, following(running) as follower:

        def said(*, final: bool) -> list[dict[str, Any]]:
            return [m for m in follower.messages if m["type"] == "speech" and m["final"] is final]

        def spoken() -> list[dict[str, Any]]:
            return [s for s in follower.segments("desk") if s["speech"] is not None]

        await eventually(lambda: any("country" in m["text"] for m in said(final=True)), _PATIENCE_S, "the words")
        await eventually(lambda: said(final=False), _PATIENCE_S, "words before they settle")
        await eventually(lambda: [m for m in follower.messages if m["type"] == "alert"], _PATIENCE_S, "the alert")
        count = len(said(final=True))
        await eventually(lambda: len(spoken()) >= count, _PATIENCE_S, "segments with words")
        assert {message["stream"] for message in said(final=True) + said(final=False)} == {"desk"}
        assert all("cursor" not in message for message in said(final=False))
        finals = said(final=True)[:count]
        assert all(message["cursor"] and message["words"] and message["language"] == "en" for message in finals)
        assert len({message["utterance"] for message in finals}) == count
        starts = [segment["speech"]["start"] for segment in spoken()]
        assert all(starts.count(message["start"]) == 1 for message in finals)
        labels = {label["name"]: label for segment in spoken() for label in segment["labels"]}
        assert labels["said: your country"]["share"] == {"video": 0.0, "audio": 0.0, "text": 1.0}
        events = {m["label"] for m in follower.messages if m["type"] == "event"}
        assert "said: your country" in events and "said: help" not in events
        assert any(segment["coverage"]["text"] > 0.5 for segment in follower.segments("desk"))
        assert all(segment["speech"] is None for segment in follower.segments("deaf"))
        assert {segment["coverage"]["text"] for segment in follower.segments("deaf")} == {0.0}
