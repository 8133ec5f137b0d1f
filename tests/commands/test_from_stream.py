"""`streamer data from-stream`: only where it is allowed, whole clips that decode, and rows that people can fill in."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av
import pytest
from click.testing import CliRunner, Result

from models.data import tracks
from models.learning import manifest
from models.learning.errors import LearningError
from models.learning.recipe import parse
from streamer.commands.data import data
from streamer.errors import MediaError, UserError
from tests.cameras import ToolkitCamera
from tests.media_factory import Spec, make

NOBODY = "http://127.0.0.1:9"  # discard: nobody answers there


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, a key frame each second."""
    return make(tmp_path_factory.mktemp("media") / "clip.mp4", Spec(seconds=4.0, size=(64, 48)))


def told(tmp_path: Path, entry: str, *arguments: str, url: str = NOBODY) -> Result:
    """The command's outcome for the stream `door` with that entry; clips go to `clips`."""
    config = tmp_path / "streamer.yaml"
    config.write_text(f"streams: {{door: {{{entry}}}}}")
    command = ["from-stream", "door", str(tmp_path / "clips"), "--config", str(config), "--http", url, *arguments]
    return CliRunner().invoke(data, command)


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """The manifest's."""
    return [json.loads(line) for line in (tmp_path / "clips" / manifest.FILES[1]).read_text().splitlines()]


@contextmanager
def service(answer: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """A service that answers that, its address, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_must_be_allowed(tmp_path: Path, clip: Path) -> None:
    """Without `annotate: true` nothing is read or written, and the line says what to write."""
    result = told(tmp_path, f"source: 'file:{clip}'")
    assert isinstance(result.exception, UserError) and "annotate: true" in str(result.exception)
    assert not (tmp_path / "clips").exists()


def test_clips_are_whole(tmp_path: Path, clip: Path) -> None:
    """Cut at key frames, from 0 on, every picture and the sound in them decodes; each has a row to be filled in."""
    result = told(tmp_path, f"source: 'file:{clip}', annotate: true", "--length", "1", "--clips", "2")
    assert result.exit_code == 0, result.output
    kept = rows(tmp_path)
    assert len(kept) == 2 and result.stdout.startswith("2 clips in")
    for row in kept:
        path = tmp_path / "clips" / row["media"]
        found = tracks(path)
        assert found.video and found.audio and found.duration_s == pytest.approx(1.0, abs=0.08)
        with av.open(str(path)) as container:
            pictures = list(container.decode(video=0))
        assert len(pictures) == 25 and pictures[0].key_frame and pictures[0].time == pytest.approx(0.0, abs=0.001)
        assert row["label"] == "" and row["split"] == "" and row["group"] == "door"
        assert row["end"] == pytest.approx(1.0, abs=0.08)
    assert not list((tmp_path / "clips").glob(".*")) and "no suggestions" in result.stderr


def test_the_rest_is_kept_and_rows_are_added(tmp_path: Path, clip: Path) -> None:
    """At the stream's end what is left becomes a clip too; a second run adds to the first."""
    entry = f"source: 'file:{clip}', annotate: true"
    assert told(tmp_path, entry, "--length", "3").exit_code == 0
    assert told(tmp_path, entry, "--length", "1", "--clips", "1").exit_code == 0
    kept = rows(tmp_path)
    assert len({row["media"] for row in kept}) == 3
    assert [round(row["end"]) for row in kept] == [3, 1, 1]


def test_suggestions_are_what_the_service_said(tmp_path: Path, clip: Path) -> None:
    """Of the clip's own time, the surest first, nothing unsure; they are no labels."""
    share = {"video": 1, "audio": 0, "text": 0}
    labels = [[("Dog", 0.6), ("Cat", 0.4)], [("Rain", 0.9), ("Dog", 0.55)]]
    segments = [{"labels": [{"name": n, "score": s, "share": share} for n, s in each]} for each in labels]
    answer = json.dumps({"segments": segments, "next": None}).encode()
    with service(answer) as (url, asked):
        entry = f"source: 'file:{clip}', annotate: true"
        assert told(tmp_path, entry, "--length", "1", "--clips", "1", url=url).exit_code == 0
    (row,) = rows(tmp_path)
    assert row["suggested"] == ["Rain", "Dog"] and row["label"] == ""
    query = parse_qs(urlsplit(asked[0]).query)
    assert asked[0].startswith("/v1/segments/door?") and query["since"][0] < query["until"][0]
    assert query["since"][0] == row["recorded"]


@pytest.mark.parametrize(("answer", "status"), [(b"{}", 404), (b"no JSON", 200)])
def test_a_service_that_says_nothing(tmp_path: Path, clip: Path, answer: bytes, status: int) -> None:
    """Clips are kept all the same."""
    with service(answer, status) as (url, _):
        result = told(tmp_path, f"source: 'file:{clip}', annotate: true", "--length", "1", "--clips", "1", url=url)
    assert result.exit_code == 0 and "no suggestions" in result.stderr and rows(tmp_path)[0]["suggested"] == []


def test_rows_must_be_filled_in(tmp_path: Path, clip: Path) -> None:
    """What nobody has labelled can't be learned from by mistake."""
    told(tmp_path, f"source: 'file:{clip}', annotate: true", "--length", "1", "--clips", "1")
    for task in ("classes", "labels"):
        of = parse({"name": "t", "task": task, "audio": {}}, "t")
        with pytest.raises(LearningError, match="label is empty"):
            manifest.read(tmp_path / "clips" / manifest.FILES[1], of)
    path = tmp_path / "clips" / manifest.FILES[1]
    path.write_text(path.read_text().replace('"label": ""', '"label": "dog"'))
    (row,) = manifest.read(path, parse({"name": "t", "audio": {}}, "t"))
    assert row.media is not None and row.media.is_file() and row.target == ("dog",)


def test_what_can_not_be_read(tmp_path: Path) -> None:
    """A publisher's stream, one that isn't there, a camera that doesn't answer; no secret is in any line or file."""
    said = str(told(tmp_path, "source: whip, annotate: true").exception)
    assert "second time" in said
    config = tmp_path / "streamer.yaml"
    result = CliRunner().invoke(data, ["from-stream", "yard", str(tmp_path), "--config", str(config)])
    assert isinstance(result.exception, UserError) and "streams are door" in str(result.exception)
    result = told(tmp_path, "source: 'rtsp://user:geheim@127.0.0.1:9/x', annotate: true")
    assert isinstance(result.exception, MediaError) and "refused" in str(result.exception)
    assert "geheim" not in str(result.exception) + result.output
    assert not [path for path in tmp_path.rglob("*.jsonl") if "geheim" in path.read_text()]


def test_a_camera(tmp_path: Path, looping_clip: Path, toolkit_camera: Callable[[Path], ToolkitCamera]) -> None:
    """Over RTSP: clips with pictures and sound, from one connection."""
    camera = toolkit_camera(looping_clip)
    entry = f"source: '{camera.url}', annotate: true"
    result = told(tmp_path, entry, "--length", "1", "--clips", "2", "--minutes", "2")
    assert result.exit_code == 0, result.output + str(result.exception)
    for row in rows(tmp_path):
        found = tracks(tmp_path / "clips" / row["media"])
        assert found.video and found.audio and 0.9 < found.duration_s < 4.0
