"""A disk that is full: where files must be made it is told in one line, and nothing else needs one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.packages import PACKAGES
from models.weights import cache_dir
from tests.cameras import ToolkitCamera, free_port
from tests.disks import fill, small_disk
from tests.e2e.running import service
from tests.e2e.watching import following
from tests.faults.books import account_of, labels_again, nothing_wrong, report, still_labelled, stored
from tests.faults.test_process_killed import child
from tests.stores import Valkey, until, valkey_fixture

__all__ = ["valkey_fixture"]

StartCamera = Callable[[Path], ToolkitCamera]


@pytest.fixture(name="disk")
def disk_fixture() -> Iterator[Path]:
    with small_disk("256k") as disk:
        yield disk


@pytest.fixture
def loose_weights(tmp_path: Path) -> Path:
    """A folder with the weights, from the user's cache."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for package in PACKAGES:
        for file in package.files:
            kept = cache_dir() / "weights" / package.folder / file.name
            if not kept.is_file():
                pytest.skip(f"{kept} is not there yet: streamer weights")
            (folder / file.name).symlink_to(kept)
    return folder


def test_a_cache_on_a_full_disk(disk: Path, loose_weights: Path) -> None:
    """A start that must make files in the cache ends with code 1 and one line that names folder, cause and remedy."""
    command = ["run", "--source", "door=rtsp://127.0.0.1:9/", "--weights", str(loose_weights), "--http", "127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-m", "streamer", *command, "--ws", "127.0.0.1:0"],
        env={**os.environ, "STREAMER_CACHE": str(disk / "cache"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert str(disk) in line and "No space left" in line and "STREAMER_CACHE" in line, done.stderr
    assert not list((disk / "cache").rglob("*.safetensors")), "no half of a file stays"


async def test_temporary_files_find_no_room(disk: Path, looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A disk that fills up under a running service stops nothing: labels go on, and a store that is killed then comes
    back on it."""
    camera = toolkit_camera(looping_clip)
    env = {"TMPDIR": str(disk)}
    async with service("--source", f"door={camera.url}", env=env) as running, following(running) as follower:
        assert str(disk) in "".join(running.log), "its store lives there"
        await follower.until_segments("door", 2)
        fill(disk)
        mark = len(follower.messages)
        segments = await follower.until_segments("door", 4, since=mark)
        still_labelled(segments)
        nothing_wrong(account_of(follower.messages, whole=False))
        os.kill(child(running, "valkey").pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await labels_again(follower, "door", killed_s)
        report("labels after the store was killed on a full disk", killed_s)


async def test_the_log_finds_no_room(
    disk: Path, valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera
) -> None:
    """A log that can't be written any more costs the log alone: segments are published in time, and the end is
    orderly."""
    camera = toolkit_camera(looping_clip)
    port = free_port()
    command = ["--debug", "run", "--source", f"door={camera.url}", "--redis", valkey.url, "--http", f"127.0.0.1:{port}"]
    with (disk / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "streamer", *command, "--ws", "127.0.0.1:0"], stderr=log, stdout=log
        )
    try:
        await until(lambda: said(valkey, 2), 30)
        fill(disk)
        # A camera that is lost and found is worth some lines.
        camera.restart()
        count = len(await stored(valkey.url))
        await until(lambda: said(valkey, count + 6), 20)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    messages = await stored(valkey.url)
    nothing_wrong(account_of(messages))
    assert messages[-1]["type"] == "stream" and messages[-1]["state"] == "ended"


async def said(valkey: Valkey, count: int) -> bool:
    """Whether the store holds so many messages."""
    return len(await stored(valkey.url)) >= count
