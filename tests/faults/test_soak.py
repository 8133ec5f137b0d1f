"""The soak as its users run it: minutes of streams, faults and subscribers that come and go."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer.bench.visitors import Visitors

FAULTS = {"camera", "network", "store_frozen", "store_killed", "reader", "hub"}


async def soak(clip: Path, minutes: int) -> dict[str, Any]:
    """What `streamer bench soak` says as its last line; it must have ended well."""
    command = ["bench", "soak", "--minutes", str(minutes), "--clip", str(clip), "--json"]
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "streamer", *command],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    output, told = await process.communicate()
    print(told.decode(errors="replace"))
    lines = output.decode().splitlines()
    assert lines, "it said nothing"
    result: dict[str, Any] = json.loads(lines[-1])
    assert result["broken"] == [], result["first_faults"]
    assert process.returncode == 0
    return result


def kept(result: dict[str, Any], minutes: int) -> None:
    """All that should have been done was done, and every segment is accounted for."""
    assert result["kept"] and set(result["faults"]) == FAULTS
    assert (result["missing"], result["duplicate"], result["late_acknowledged"]) == (0, 0, 0)
    # Late may only be what came when the machine did not let the process run.
    assert result["late"] + result["unexplained_late"] <= result["frozen_late"]
    # Two a second of each of the four streams that are there all the time, but while their cameras are away.
    assert result["segments"] > 0.75 * minutes * 60 * 2 * 4
    assert result["churn"]["added"] == result["churn"]["removed"] > 8 * minutes
    assert set(result["visitors"]) >= set(Visitors.KINDS)
    assert result["store_breaks"] == result["faults"]["store_killed"]
    assert "tasks" in result["slopes"]["service"]
    for process in ("service", "hub", "readers"):
        assert set(result["slopes"][process]) >= {"rss_mb", "descriptors", "threads"}
    assert {"rss_slope_mb_h", "fd_slope_h", "threads_slope_h", "tasks_slope_h", "commit", "machine"} <= set(result)


@pytest.mark.timeout(300)
async def test_three_minutes(looping_clip: Path) -> None:
    """In three minutes of churn, faults and subscribers nothing grows, and every segment is answered once, in order, in
    time; labels are there within 2 s of every camera's, network's and store's return."""
    kept(await soak(looping_clip, 3), 3)


@pytest.mark.prove
@pytest.mark.timeout(2100)
async def test_half_an_hour(looping_clip: Path) -> None:
    """In half an hour of churn, faults and subscribers nothing grows, and every segment is answered once, in order, in
    time; labels are there within 2 s of every camera's, network's and store's return."""
    kept(await soak(looping_clip, 30), 30)
