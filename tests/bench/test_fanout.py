"""The fan-out benchmark measures what it says: every client of every way got every message, in real processes."""

from __future__ import annotations

import asyncio
import json
import resource

import pytest

from streamer.bench import fanout
from streamer.bench.workers import worker
from streamer.errors import StreamerError, UserError
from streamer.hub.frames import text_frame


def test_a_small_run_has_every_figure(capfd: pytest.CaptureFixture[str]) -> None:
    """The last line is one JSON object with the figures, their percentiles, the baselines and the conditions."""
    fanout.run(clients=1000, messages=4, as_json=True)
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert result["clients"] == 1000
    for way in ("hub", "bare", "broadcast"):
        assert result["counts"][way] == {"clients": 1000, "whole": 1000, "messages": 4}
        assert result["cpu_ms_a_message"][way] >= 0
    stalls = ("stall_ms", "stall_bare_ms", "stall_idle_ms", "stall_sleeper_ms")
    for name in ("last_ms", "bare_ms", "broadcast_ms", *stalls):
        figures = result[f"{name}_percentiles"]
        assert 0 <= figures["p50"] <= figures["p90"] <= figures["max"]
    assert result["last_ms"] == result["last_ms_percentiles"]["p50"] > 0
    assert result["bare_ms"] == result["bare_ms_percentiles"]["p50"] > 0
    assert result["stall_ms"] == result["stall_ms_percentiles"]["max"]
    assert result["ratio"] == pytest.approx(result["last_ms"] / result["bare_ms"], abs=0.01)
    assert result["input"]["messages"] == 4 and 500 < result["input"]["bytes"] < 2000
    assert {"machine", "cores", "commit", "versions", "command"} <= set(result)


@pytest.mark.prove
def test_ten_thousand_clients_each_get_every_message(capfd: pytest.CaptureFixture[str]) -> None:
    """The whole number that one hub is built for."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 11_000:
        pytest.skip("too few open files are allowed: ulimit -Hn 11000")
    fanout.run(clients=10_000, messages=10, as_json=True)
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert result["counts"]["hub"] == {"clients": 10_000, "whole": 10_000, "messages": 10}


def test_more_clients_than_files_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how many are allowed and what to do, and starts nothing."""
    monkeypatch.setattr("streamer.bench.fanout.resource.getrlimit", lambda _: (1024, 1024))
    with pytest.raises(UserError, match=r"1000 clients.*1024 are allowed: take --clients 896, or raise"):
        fanout.run(clients=1000, messages=1, as_json=False)


async def test_a_client_that_is_lost_or_misses_a_message_is_not_counted_as_whole() -> None:
    """The count at the end tells those who got every message once and in order from those who did not."""
    sent = iter([(0, 1, 2), (0, 2, 1), (0, 1, 1), (0, 1), None])

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seqs = next(sent)
        if seqs is None:
            writer.close()
            return
        for seq in seqs:
            writer.write(text_frame(b'{"type":"segment","seq":%d,"stream":"door"}' % seq))
        await asyncio.Event().wait()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, worker("streamer.bench.listeners") as listeners:
        assert (await listeners.ask(connect={"port": port, "count": 5, "path": None}))["connected"] == 5
        async with asyncio.timeout(10):
            while (found := await listeners.ask(count=True)) != {"clients": 4, "whole": 1, "messages": 3}:
                assert found.get("whole", 0) <= 5
                await asyncio.sleep(0.01)


async def test_a_worker_that_ends_is_an_error_that_names_it() -> None:
    """Nobody waits for a process that is gone."""
    async with worker("streamer.bench.listeners") as listeners:
        with pytest.raises(StreamerError, match="listeners"):
            await listeners.ask(connect={"port": 1, "count": 1, "path": None})
