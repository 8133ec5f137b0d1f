"""The process that makes pictures: it comes when it is needed, goes when it is not, and its end costs one picture."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamer.errors import StreamerError
from streamer.footage import Coded, Footage
from streamer.pictures.darkroom import Darkroom
from streamer.pictures.job import Detectors, Job
from tests.conftest import eventually
from tests.pictures.conftest import S, footage_of, pictures_in

RUBBISH = Footage("h264", b"", (0, 0), "", 0, [Coded(np.random.default_rng(0).bytes(5000), 0, True)])


async def test_rubbish_costs_that_picture_only(talkers: Path, detector_path: Path) -> None:
    """Noise, a codec that nobody knows and a picture are asked for: the last is made, all by the same process."""
    async with Darkroom() as darkroom:
        nothing = await darkroom.develop(Detectors(str(detector_path)), Job(RUBBISH, 0))
        assert nothing.data is None and nothing.why == "nothing of it can be decoded"
        unknown = await darkroom.develop(
            Detectors(str(detector_path)), Job(Footage("nonsense", b"", (0, 0), "", 0, []), 0)
        )
        assert unknown.data is None and "nonsense" in (unknown.why or "")
        made = await darkroom.develop(Detectors(str(detector_path)), Job(footage_of(talkers), 4 * S))
        assert made.data is not None and pictures_in(made.data)[0].shape == (360, 640, 3)
        assert darkroom.starts == 1 and darkroom.pid is not None
        pid = darkroom.pid
    assert not psutil.pid_exists(pid)


async def test_a_crash_costs_that_picture_only(talkers: Path, detector_path: Path) -> None:
    """Killed at its work, the process is told of as failed, and the next picture is made by a new one."""
    async with Darkroom() as darkroom:
        job = Job(footage_of(talkers), 4 * S, 4 * S)
        task = asyncio.create_task(darkroom.develop(Detectors(str(detector_path)), job))
        pid = await eventually(lambda: darkroom.pid, 20)
        os.kill(pid or 0, signal.SIGKILL)
        with pytest.raises(StreamerError, match="the process that makes pictures failed"):
            await task
        assert (await darkroom.develop(Detectors(str(detector_path)), Job(footage_of(talkers), 4 * S))).data is not None
        assert darkroom.starts == 2


async def test_what_takes_too_long_is_ended(talkers: Path, detector_path: Path) -> None:
    """A picture that is not there in time is given up, and its process with it."""
    async with Darkroom(answer_s=0.05) as darkroom:
        with pytest.raises(StreamerError, match=r"not made within 0\.05 s"):
            await darkroom.develop(Detectors(str(detector_path)), Job(footage_of(talkers), 4 * S))
        assert darkroom.pid is None


async def test_it_can_write_no_file_and_stays_behind_the_others(detector_path: Path) -> None:
    """The kernel lets it write no byte to any file, nor its memory to a core file; its priority is low and its memory
    bounded."""
    async with Darkroom() as darkroom:
        await darkroom.develop(Detectors(str(detector_path)), Job(RUBBISH, 0))
        process = psutil.Process(darkroom.pid)
        assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0) and process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_AS)[1] == 3 * 1024**3
        assert process.nice() >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 15)


async def test_it_goes_when_nobody_asks(detector_path: Path) -> None:
    """Some time after the last picture the process ends by itself, and comes back for the next."""
    async with Darkroom(idle_s=0.1) as darkroom:
        await darkroom.develop(Detectors(str(detector_path)), Job(RUBBISH, 0))
        await eventually(lambda: darkroom.pid is None, 10)
        await darkroom.develop(Detectors(str(detector_path)), Job(RUBBISH, 0))
        assert darkroom.starts == 2


async def test_without_a_detector_there_is_no_picture(talkers: Path, tmp_path: Path) -> None:
    """Where the weights can't be read nothing is made: the process ends before it has seen a packet."""
    async with Darkroom() as darkroom:
        with pytest.raises(StreamerError, match="the process that makes pictures failed"):
            await darkroom.develop(Detectors(str(tmp_path / "nowhere.onnx")), Job(footage_of(talkers), 4 * S))
