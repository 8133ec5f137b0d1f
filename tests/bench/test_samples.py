"""Samples of a running process: what it holds, what waits in its queues, and how that grows."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from streamer.bench.processes import Samples, held, request, scrape
from streamer.bench.samples import Deepest, Sampler
from tests.conftest import eventually, eventually_sync


class Exposition(BaseHTTPRequestHandler):
    """Answers with the server's `text`, or with its `status` where that is an error."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(self.server.text.encode())  # type: ignore[attr-defined]

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing of it is of interest."""


@pytest.fixture
def exposed() -> Iterator[HTTPServer]:
    """An HTTP server whose `text` the test writes."""
    with HTTPServer(("127.0.0.1", 0), Exposition) as server:
        server.text, server.status = "", 200  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def page(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_what_a_process_holds() -> None:
    """A file and a thread more are one descriptor and one thread more; nothing is told of a process that is gone."""
    before = held(os.getpid())
    assert before is not None and before.rss_mb > 1.0
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with open(os.devnull, encoding="utf-8"):
        now = held(os.getpid())
    over.set()
    thread.join()
    assert now is not None
    assert (now.descriptors, now.threads) == (before.descriptors + 1, before.threads + 1)
    child = os.spawnlp(os.P_NOWAIT, "true", "true")
    eventually_sync(lambda: held(child) is None, what="the child has no memory any more")
    os.waitpid(child, 0)
    assert held(child) is None


def test_requests_tell_their_status(exposed: HTTPServer) -> None:
    """A status is a status, good or bad; where nobody listens it is an error."""
    assert request("PUT", page(exposed) + "/v1/streams/door", {"source": "rtsp://127.0.0.1/"}) == 200
    exposed.status = 409  # type: ignore[attr-defined]
    assert request("PUT", page(exposed) + "/v1/streams/door", {}) == 409
    with pytest.raises(OSError):
        request("DELETE", "http://127.0.0.1:9/v1/streams/door")


def test_an_exposition_is_read(exposed: HTTPServer) -> None:
    """Names, labels in any order and values; comments are none."""
    exposed.text = '# HELP a x\na 1.5\nb_total{z="1",stream="door"} 2\n'  # type: ignore[attr-defined]
    assert scrape(page(exposed)) == {("a", ()): 1.5, ("b_total", (("stream", "door"), ("z", "1"))): 2.0}


async def test_a_sampler_samples_until_it_is_told_to_end(exposed: HTTPServer) -> None:
    """It follows a process' figures, its tasks where it tells them, late segments by stream, and survives a moment
    without an answer."""
    exposed.text = (
        'streamer_tasks 12\nstreamer_late_total{stream="door"} 3\nstreamer_frozen_late_total{stream="yard"} 2\n'  # type: ignore[attr-defined]
    )
    sampler = Sampler(
        SimpleNamespace(page=page(exposed), pid=os.getpid(), hub=None, readers=[os.getpid(), os.getppid()])
    )  # type: ignore[arg-type]
    over = asyncio.Event()
    task = asyncio.create_task(sampler.run(over))
    await eventually(lambda: sampler.latest)
    over.set()
    await asyncio.wait_for(task, 5)
    assert (
        sampler.late == {"door": 3.0}
        and sampler.frozen_late == {"yard": 2.0}
        and sampler.total("streamer_tasks") == 12.0
    )
    assert sampler.total("streamer_no_such_thing") is None
    exposed.status = 500  # type: ignore[attr-defined]
    await sampler.sample()
    assert sampler.unreachable == 1


def seen(**depths: float) -> Samples:
    """An exposition with one stream, a media queue of 8 places, and these figures."""
    door = (("queue", "media"), ("stream", "door"))
    samples: Samples = {("streamer_stream_fps", (("stream", "door"),)): 25.0, ("streamer_queue_capacity", door): 8.0}
    for name, depth in depths.items():
        if name in ("depth", "peak"):
            samples[f"streamer_queue_{name}", door] = depth
        else:
            samples[f"streamer_{name}", ()] = depth
    return samples


@pytest.mark.parametrize(
    ("depths", "queue", "most", "kept"),
    [
        ({"depth": 8.0}, "media", 8.0, True),
        ({"depth": 2.0, "peak": 9.0}, "media", 9.0, False),
        ({"windows_waiting": 8.0}, "windows_waiting", 8.0, True),
        ({"windows_waiting": 9.0}, "windows_waiting", 9.0, False),
    ],
)
def test_queues_are_held_against_their_bounds(depths: dict[str, float], queue: str, most: float, kept: bool) -> None:
    """The deepest that a queue ever was counts, against its capacity or what so many streams may have waiting."""
    sampler = Sampler(SimpleNamespace())  # type: ignore[arg-type]
    sampler._look(seen(**depths))
    sampler._look(seen())
    assert sampler.queues[queue].most == most and sampler.queues[queue].kept is kept


def test_a_queue_without_a_bound_is_kept() -> None:
    """What has no bound can't exceed it."""
    assert Deepest(most=10.0).kept


def test_what_several_processes_hold_is_one_figure_of_one_life() -> None:
    """Figures of processes that work together are summed; when one of them is replaced a new life begins, whose first
    seconds are left out; a moment at which one is gone is no sample."""
    sampler = Sampler(SimpleNamespace())  # type: ignore[arg-type]
    series = sampler._series["readers"]
    sampler._hold("readers", [os.getpid(), os.getpid()], {})
    alone = held(os.getpid())
    assert alone is not None and series.values["threads"] == [2.0 * alone.threads]
    sampler._hold("readers", [os.getpid(), 2**22 + 1], {})
    sampler._hold("readers", [], {})
    assert len(series.times_s) == 1
    began_s = series.times_s[0]
    for second in range(1, 100):
        pids = (1, 2) if second < 50 else (1, 3)
        # The new process begins with 90 MB and has 50 from its tenth second on.
        mb = 50.0 if second < 50 or second > 60 else 90.0
        series.add(began_s + second, pids, {"rss_mb": mb, "descriptors": 9.0, "threads": 3.0})
    found = series.slopes(began_s + 20)["rss_mb"]
    assert found.samples == (50 - 20) + (100 - 65) and not found.grows(0.1)
