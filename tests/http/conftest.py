"""The HTTP side's fixtures: a service with one stream, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamer.config import StreamConfig
from tests.fake_control import FakeControl
from tests.http.serving import ENTRY, Client, segment, serving


@pytest.fixture
def control() -> FakeControl:
    """A service with one stream, `door`, and three segments of it."""
    return FakeControl({"door": StreamConfig(source=ENTRY["source"])}, {"door": [segment(seq) for seq in range(3)]})


@pytest.fixture
async def client(control: FakeControl) -> AsyncIterator[Client]:
    """A client of a server in front of `control`."""
    async with serving(control) as client:
        yield client
