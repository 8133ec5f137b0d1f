"""What all tests share: real media beside the checkout, cameras that are cleaned up, waiting on conditions."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.cameras import GstCamera, Mount, ToolkitCamera
from tests.media_factory import Spec, loopable, make

# Some tests load the runtime themselves, and its wheels would report to their maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Found = TypeVar("Found")
_POLL_S = 0.01


async def eventually(condition: Callable[[], Found], timeout: float = 5.0, what: str = "") -> Found:  # noqa: ASYNC109
    """Wait until `condition()` is true and give what it gave; AssertionError after `timeout` seconds, naming `what`."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        await asyncio.sleep(_POLL_S)
    return found


def eventually_sync(condition: Callable[[], Found], timeout: float = 5.0, what: str = "") -> Found:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(_POLL_S)
    return found


# Whole services, browsers and broken networks: one at a time, because they are all each other's network.
_ONE_AT_A_TIME = ("e2e", "faults", "deploy")


class _Rooms(LoadScopeScheduling):
    """Where tests run in two processes: all of what runs one at a time in one of them, the other files as they fit."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "live" if set(_ONE_AT_A_TIME) & set(file.split("/")) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Who runs what."""
    return _Rooms(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long forms run under `make prove` only."""
    if os.environ.get("STREAMER_PROVE"):
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a long form: make prove"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real media and data sets beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no real media at {folder}: put the project's shared/ folder beside the checkout")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Spec], Path]:
    """Makes a clip once a session: `clips("name.mkv", Spec(...))`. The name stands for the spec."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[str, Spec] = {}

    def clip(name: str, spec: Spec | None = None) -> Path:
        spec = Spec() if spec is None else spec
        if made.setdefault(name, spec) != spec:
            raise AssertionError(f"two different specs for {name}")
        path = folder / name
        return path if path.is_file() else make(path, spec)

    return clip


@pytest.fixture(scope="session")
def looping_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.76 s of flashes and beeps, one each 0.96 s, that a looping camera can play on and on without a seam."""
    return loopable(tmp_path_factory.mktemp("looping") / "flashes.mp4")


@pytest.fixture
def toolkit_camera() -> Iterator[Callable[[Path], ToolkitCamera]]:
    """Starts cameras that loop a file over RTSP (TCP); ended with the test."""
    cameras: list[ToolkitCamera] = []

    def start(clip: Path) -> ToolkitCamera:
        cameras.append(ToolkitCamera(clip))
        return cameras[-1].start()

    yield start
    for camera in cameras:
        camera.stop()


@pytest.fixture
def gst_camera() -> Iterator[Callable[..., GstCamera]]:
    """Starts GStreamer's RTSP server (TCP, UDP) with mounts; ended with the test. Skips where it is missing."""
    cameras: list[GstCamera] = []

    def start(mounts: dict[str, Mount], user: tuple[str, str] | None = None) -> GstCamera:
        cameras.append(GstCamera(mounts, user))
        return cameras[-1].start()

    yield start
    for camera in cameras:
        camera.stop()
