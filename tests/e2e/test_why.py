"""Why, through the whole service: what a label of a live stream rests on, and pictures only where they may be shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.data import read_frames
from tests.e2e.running import Running, service
from tests.media_factory import Spec


async def next_segment(running: Running, stream: str) -> dict[str, Any]:
    """A coming segment of `stream` with a dog in it; the fourth of an epoch is the first with all its window there."""
    return (await running.first(4, "segment", f"?stream={stream}&label=Dog"))[-1]


async def fetched(running: Running, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    async with running.session.get(f"{running.page}/{path}") as answer:
        return answer.status, answer.content_type, await answer.read()


@pytest.fixture
def dog_clip(clips: Callable[..., Path], shared_data: Path) -> Path:
    """Four seconds of a photograph of a dog, with a tone."""
    photograph = read_frames(shared_data / "images" / "golden_retriever.jpg", 1, size=256)[0]
    return clips("dog.mp4", Spec(seconds=4, size=(256, 256), fps=10, gop=5, paint=lambda *_: np.array(photograph)))


async def test_a_label_is_explained_while_its_stream_runs(dog_clip: Path, tmp_path: Path) -> None:
    """Moments that sum to 1, the segment's own score and shares, a heat map over a picture that can be fetched where
    `preview` is set, and none of it where it is not; a stream that is removed leaves nothing."""
    config = tmp_path / "cameras.yaml"
    source = f"file:{dog_clip}?loop=1"
    config.write_text(f"streams:\n  shown: {{source: '{source}', preview: true}}\n  hidden: {{source: '{source}'}}\n")
    async with service(config=config) as running:
        shown, hidden = await next_segment(running, "shown"), await next_segment(running, "hidden")
        path = f"/v1/streams/shown/why/{shown['seq']}?label=Dog&epoch={shown['epoch']}"
        why = await running.get(path)
        dog = next(label for label in shown["labels"] if label["name"] == "Dog")
        assert (why["score"], why["share"], why["seq"]) == (dog["score"], dog["share"], shown["seq"])
        assert (why["start"], why["end"]) == (shown["start"], shown["end"])
        for moments in (why["video"], why["audio"]):
            assert sum(moment["mass"] for moment in moments) == pytest.approx(1.0, abs=1e-4)
            assert all(why["start"] <= moment["start"] < moment["end"] <= why["end"] for moment in moments)
        assert why["note"] is None and len(why["heat"]["values"]) == why["heat"]["rows"] * why["heat"]["columns"] == 49
        for picture in (why["heat"]["picture"], "v1/streams/shown/preview"):
            status, kind, body = await fetched(running, picture)
            assert (status, kind) == (200, "image/jpeg") and body[:3] == b"\xff\xd8\xff"
        why = await running.get(f"/v1/streams/hidden/why/{hidden['seq']}?label=Dog")
        assert why["heat"] is None and "preview: true" in why["note"]
        assert (await fetched(running, "v1/streams/hidden/preview"))[0] == 403
        assert (await running.call("GET", f"/v1/streams/shown/why/{shown['seq']}?label=Dgo"))[0] == 400
        assert (await running.call("GET", "/v1/streams/shown/why/999999?label=Dog"))[0] == 404
        kept = await kept_segments(running)
        assert (await running.call("DELETE", "/v1/streams/shown"))[0] == 204
        assert await kept_segments(running) < kept
        assert (await fetched(running, "v1/streams/shown/pictures/0"))[0] == 404


async def kept_segments(running: Running) -> float:
    """How many segments something is kept of."""
    async with running.session.get(f"{running.page}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("streamer_why_kept_segments ")))
