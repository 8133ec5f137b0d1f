"""`streamer trace`: what it shows, and one clear line for what it can't."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from streamer.cli import main
from streamer.commands.trace_view import waterfall
from streamer.config import StreamConfig
from streamer.status import TraceStage
from tests.fake_control import FakeControl
from tests.http.serving import ENTRY, Client, serving, trace


@pytest.fixture
def control() -> FakeControl:
    """A service whose newest segment is still on its way; the one before and two of an older epoch are stored."""
    waiting = replace(trace(3, "b"), state="waiting", stages=trace(3).stages[:4], total_ns=209_000_000, cursor=None)
    ways = {"door": [waiting, trace(2, "b"), trace(2, "a"), trace(1, "a")]}
    return FakeControl({"door": StreamConfig(source=ENTRY["source"])}, ways=ways)


@pytest.fixture
async def client(control: FakeControl) -> AsyncIterator[Client]:
    """A running HTTP side in front of it."""
    async with serving(control) as client:
        yield client


async def told(client: Client, *arguments: str, **env: str) -> Result:
    """The command's outcome, asked of that service."""
    command = ["trace", *arguments, "--http", client.base]
    return await asyncio.to_thread(CliRunner(env={"STREAMER_TOKEN": None, **env}).invoke, main, command)


async def test_it_shows_every_stage(client: Client) -> None:
    """Each stage with its beginning, its length and a bar from where the one before ended; then what was computed."""
    result = await told(client, "door", "2")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "door 2 of epoch b  04:07:08.500 to 04:07:12.500  degraded without frames"
    rows = {line.split()[0]: line for line in lines[2:9]}
    assert list(rows) == ["ingest", "queue", "compute", "order", "send", "store", "total"]
    assert rows["queue"].split()[1:3] == ["31.0", "60.0"] and "waiting for its batch" in rows["queue"]
    assert rows["total"].split()[1:] == ["212.0", "of", "1000.0", "ms"]
    assert rows["queue"].index("█") > rows["ingest"].index("█")
    assert "number 881: 4 windows" in result.output and "1002-0@5f3a" in result.output


async def test_last_is_the_newest_that_is_stored(client: Client, control: FakeControl) -> None:
    """`last` names a segment that has been all the way, and one on its way only where there is no other."""
    assert json.loads((await told(client, "door", "last", "--json")).output)["seq"] == 2
    assert json.loads((await told(client, "door", "last", "--json", "--epoch", "a")).output)["epoch"] == "a"
    control.ways["door"] = control.ways["door"][:1]
    result = await told(client, "door", "last")
    assert result.exit_code == 0 and "not stored yet" in result.output


async def test_an_epoch_can_be_named(client: Client) -> None:
    """The same number stands for another segment in another epoch."""
    assert json.loads((await told(client, "door", "2", "--json")).output)["epoch"] == "b"
    assert json.loads((await told(client, "door", "2", "--json", "--epoch", "a")).output)["epoch"] == "a"


async def test_json_is_what_the_service_said(client: Client) -> None:
    """One object on one line, whose stages add up."""
    (line,) = (await told(client, "door", "2", "--json")).output.splitlines()
    found = json.loads(line)
    assert sum(stage["duration_ns"] for stage in found["stages"]) == found["total_ns"]
    assert found == (await client.ask("GET", "/v1/streams/door/trace/2"))[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody", "1"], 2, "there is no stream 'nobody'"),
        (["nobody/../door", "1"], 2, "there is no"),
        (["door", "7"], 2, "no trace of segment 7: they go from segment 1 of epoch a"),
        (["door", "last", "--epoch", "c"], 2, "no segment of epoch c among its last 10"),
        (["door", "newest"], 2, "neither a segment's number"),
    ],
)
async def test_what_is_not_there_is_one_clear_line(client: Client, arguments: list[str], code: int, words: str) -> None:
    """A wrong name or number is the user's to mend: exit code 2, and the line says how."""
    result = await told(client, *arguments)
    assert result.exit_code == code and words in result.output and "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("ftp://127.0.0.1", 2, "write it like http://127.0.0.1:8080"),
        ("http://127.0.0.1:port", 2, "write it like http://127.0.0.1:8080"),
        ("http://", 2, "write it like http://127.0.0.1:8080"),
        ("http://nobody.invalid:80", 1, "no service answers at http://nobody.invalid:80"),
    ],
)
def test_a_wrong_address_is_one_clear_line(url: str, code: int, words: str) -> None:
    """An address that is none is the user's mistake; one where nobody answers may be somebody else's."""
    result = CliRunner().invoke(main, ["trace", "door", "1", "--http", url])
    assert result.exit_code == code and words in result.output and "Traceback" not in result.output


def test_a_service_that_is_not_there_is_one_clear_line() -> None:
    """Nobody listening is a failure, exit code 1, with the address and what to do; no password is shown."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://user:hunter22@127.0.0.1:{bound.getsockname()[1]}"
        result = CliRunner().invoke(main, ["trace", "door", "1", "--http", url])
    assert result.exit_code == 1 and "no service answers at" in result.output and "--http" in result.output
    assert "hunter22" not in result.output


async def test_another_service_is_told_from_this_one() -> None:
    """What answers with anything else is not taken for a trace."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await asyncio.to_thread(CliRunner().invoke, main, ["trace", "door", "1", "--http", url])
    assert result.exit_code == 1 and "does not answer as streamer does" in result.output


async def test_tokens(control: FakeControl) -> None:
    """A token comes from the option or the environment; without a known one the line says where to put it."""
    async with serving(control, tokens=("s3cret",)) as client:
        refused = await told(client, "door", "2")
        assert refused.exit_code == 2 and "STREAMER_TOKEN" in refused.output
        assert (await told(client, "door", "2", "--token", "wrong")).exit_code == 2
        assert (await told(client, "door", "2", "--token", "s3cret")).exit_code == 0
        assert (await told(client, "door", "2", STREAMER_TOKEN="s3cret")).exit_code == 0
        broken = await told(client, "door", "2", "--token", "s3\ncret")
        assert broken.exit_code == 2 and "s3" not in broken.output


@pytest.mark.parametrize("blocks", [True, False])
def test_bars_fit_whatever_the_stages_are(blocks: bool) -> None:
    """No bar is wider than its column, none of a stage that took any time is empty."""
    for spans in ([1, 1, 1, 1, 1, 10**9], [10**9, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0], [7, 7, 7, 7, 7, 7]):
        stages: list[TraceStage] = []
        for stage, span in zip(trace(1).stages, spans, strict=True):
            at_ns = stages[-1].start_ns + stages[-1].duration_ns if stages else 0
            stages.append(TraceStage(stage.name, at_ns, span))
        lines = waterfall(replace(trace(1), stages=stages, total_ns=sum(spans)), blocks=blocks)[2:8]
        bars = [line.plain[33:74] for line in lines]
        assert all(line.plain[74:76] == "  " and line.plain[76] != " " for line in lines)
        assert [bool(bar.strip()) for bar in bars] == [span > 0 for span in spans]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"late": True, "store_late": True}, "late: the store was away"),
        ({"late": True}, "late: past its deadline"),
        ({"frozen_ns": 500_000_000}, "did not run for 500.0 ms"),
        ({"state": "lost"}, "never stored"),
        ({"status": "shed", "reason": "overload", "batch": None}, "shed (overload)"),
    ],
)
def test_what_went_wrong_is_told(changes: dict[str, object], words: str) -> None:
    """Lateness with its cause, time in which nothing ran, a loss and a refusal are in the lines."""
    shown = "\n".join(line.plain for line in waterfall(replace(trace(1), **changes)))
    assert words in shown
