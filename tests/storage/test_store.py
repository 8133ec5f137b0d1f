"""The store writes a unit once, whole, in order, for its owner only, and says so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest
from msgspec.structs import replace

from streamer.cursor import START, parse_cursor
from streamer.errors import StoreError, UserError
from streamer.messages import encode
from streamer.storage.store import (
    Claim,
    ClaimRequest,
    EmbeddedStore,
    Record,
    Store,
    StoreAway,
    StoreFull,
    UnitRecord,
    Written,
)
from tests.stores import Valkey, segment, store_fixture, until, valkey_fixture

__all__ = ["store_fixture", "valkey_fixture"]

HOUR_NS = 3_600_000_000_000


async def claimed(store: Store, stream: str = "door") -> Claim:
    (claim,) = await store.claim([ClaimRequest(stream)])
    assert isinstance(claim, Claim)
    assert claim.granted
    return claim


def unit(
    owner: str, seq: int, *, after: int | None = None, deadline_us: int | None = None, epoch: str = "e1"
) -> UnitRecord:
    record = Record("segment", encode(segment(seq=seq, epoch=epoch)), epoch, seq)
    return UnitRecord("door", owner, seq, seq - 1 if after is None else after, [record], deadline_us)


async def statuses(store: Store, *units: UnitRecord) -> list[str]:
    answers = await store.append(units, HOUR_NS)
    assert all(isinstance(answer, Written) for answer in answers), answers
    return [answer.status for answer in answers if isinstance(answer, Written)]


async def feed(store: Store) -> list[dict[str, object]]:
    return [json.loads(entry) for _, entry in (await store.range_feed(START, count=10_000)).entries]


async def test_a_segment_stands_in_feed_stream_channel_and_hash(store: Store, valkey: Valkey) -> None:
    """One run writes the feed, the stream's own stream and the hash, and publishes the same JSON with its cursor."""
    claim = await claimed(store)
    connection = await asyncio.open_unix_connection(valkey.socket)
    connection[1].write(b"SUBSCRIBE streamer:segments:door\r\n")
    await connection[0].readuntil(b":1\r\n")
    (written,) = await store.append([unit(claim.owner, 0)], HOUR_NS)
    assert isinstance(written, Written)

    ((feed_id, in_feed),) = (await store.range_feed(START)).entries
    assert "cursor" not in json.loads(in_feed)
    (in_stream,) = (await store.segments("door", None, None, 10)).segments
    assert parse_cursor(json.loads(in_stream)["cursor"]) == (feed_id, written.store)
    del (whole := json.loads(in_stream))["cursor"]
    assert whole == json.loads(in_feed)
    published = await connection[0].readuntil(in_stream)
    assert b"streamer:segments:door" in published
    connection[1].close()
    reply = await valkey.run("HMGET", "streamer:last:door", "owner", "epoch", "seq")
    assert reply == [claim.owner.encode(), b"e1", b"0"]


async def test_writing_twice_writes_once(store: Store) -> None:
    """A unit that is repeated, in the same batch or later, answers `duplicate` and leaves the feed as it was."""
    owner = (await claimed(store)).owner
    assert await statuses(store, unit(owner, 0), unit(owner, 0), unit(owner, 1)) == ["written", "duplicate", "written"]
    assert await statuses(store, unit(owner, 0), unit(owner, 1)) == ["duplicate", "duplicate"]
    assert [message["seq"] for message in await feed(store)] == [0, 1]


async def test_a_seq_of_the_same_epoch_is_never_written_again(store: Store) -> None:
    """Even under another ordinal, and by a later owner, an epoch's seq stands once."""
    owner = (await claimed(store)).owner
    await statuses(store, unit(owner, 0), unit(owner, 1))
    again = UnitRecord("door", owner, 2, 1, [Record("segment", encode(segment(seq=1)), "e1", 1)])
    assert await statuses(store, again) == ["duplicate"]
    later = (await claimed(store)).owner
    assert await statuses(store, unit(later, 0)) == ["duplicate"]
    assert [message["seq"] for message in await feed(store)] == [0, 1]


async def test_a_unit_before_its_time_is_not_written(store: Store) -> None:
    """If the unit before is missing the answer is `early`, so a refused unit can be sent again in order."""
    owner = (await claimed(store)).owner
    assert await statuses(store, unit(owner, 0), unit(owner, 2), unit(owner, 1)) == ["written", "early", "written"]
    assert await statuses(store, unit(owner, 2)) == ["written"]
    assert [message["seq"] for message in await feed(store)] == [0, 1, 2]


async def test_a_later_claim_fences_the_earlier(store: Store) -> None:
    """The old owner writes nothing more and cannot claim back what it had; the new one learns what was written last."""
    old = await claimed(store)
    await statuses(store, unit(old.owner, 0))
    new = await claimed(store)
    assert (new.epoch, new.seq) == ("e1", 0)
    assert await statuses(store, unit(old.owner, 1)) == ["fenced"]
    (restored,) = await store.claim([ClaimRequest("door", old.owner, 0)])
    assert isinstance(restored, Claim)
    assert not restored.granted
    assert await statuses(store, unit(new.owner, 0, epoch="e2")) == ["written"]


async def test_a_claim_is_restored_in_a_store_that_was_emptied(store: Store, valkey: Valkey) -> None:
    """An emptied store fences everybody until a claim is restored, and gets another identity."""
    owner = (await claimed(store)).owner
    await statuses(store, unit(owner, 0), unit(owner, 1))
    before = await store.identity()
    await valkey.run("FLUSHALL")
    assert await statuses(store, unit(owner, 2)) == ["fenced"]
    await store.claim([ClaimRequest("door", owner, 1)])
    assert await statuses(store, unit(owner, 1), unit(owner, 2)) == ["duplicate", "written"]
    assert await store.identity() != before


async def test_late_is_decided_by_the_store_when_it_writes(store: Store) -> None:
    """Past its deadline on the store's clock, a segment says `delivered_late`; before it, it does not."""
    claim = await claimed(store)
    hour_us = 3_600_000_000
    units = [
        unit(claim.owner, 0, deadline_us=claim.time_us + hour_us),
        unit(claim.owner, 1, deadline_us=claim.time_us - 1),
    ]
    answers = await store.append(units, HOUR_NS)
    assert [isinstance(a, Written) and a.late for a in answers] == [False, True]
    assert [message["delivered_late"] for message in await feed(store)] == [False, True]


async def test_a_forgotten_script_is_loaded_again(store: Store, valkey: Valkey) -> None:
    """After SCRIPT FLUSH (or a restart) appending works as before."""
    owner = (await claimed(store)).owner
    await valkey.run("SCRIPT", "FLUSH")
    assert await statuses(store, unit(owner, 0), unit(owner, 1)) == ["written", "written"]


async def test_the_feed_is_trimmed_by_retention(store: Store) -> None:
    """What is older than the retention goes (whole blocks at a time), what is younger stays, and the page says so."""
    owner = (await claimed(store)).owner
    await store.append([unit(owner, seq) for seq in range(500)], HOUR_NS)
    assert (await store.range_feed(START, count=1)).complete_from == START
    await asyncio.sleep(1.0)
    answers = await store.append([unit(owner, seq) for seq in range(500, 600)], HOUR_NS)
    assert isinstance(answers[0], Written)
    began_us = answers[0].time_us
    (again,) = await store.claim([ClaimRequest("lobby")])
    assert isinstance(again, Claim)
    await store.trim(["door"], (again.time_us - began_us + 500_000) * 1000, 1 << 30)
    left = [message["seq"] for message in await feed(store)]
    assert left[-1] == 599
    assert 100 <= len(left) < 200
    assert len((await store.segments("door", None, None, 1000)).segments) < 200
    page = await store.range_feed(START, count=1)
    assert page.complete_from == page.entries[0][0]


async def test_the_feed_is_trimmed_by_memory(store: Store) -> None:
    """Where the streams exceed the memory allowed, the oldest go until they fit."""
    owner = (await claimed(store)).owner
    await store.append([unit(owner, seq) for seq in range(2000)], HOUR_NS)
    used = await store.trim(["door"], HOUR_NS, 1 << 30)
    await store.trim(["door"], HOUR_NS, used // 2)
    assert await store.trim(["door"], HOUR_NS, 1 << 30) < used // 2
    assert (await feed(store))[-1]["seq"] == 1999


async def test_a_full_store_says_so_and_writes_nothing_of_the_unit(store: Store, valkey: Valkey) -> None:
    """Out of memory is `StoreFull`, and the unit can be written later."""
    owner = (await claimed(store)).owner
    await valkey.run("CONFIG", "SET", "maxmemory", "1")
    (answer,) = await store.append([unit(owner, 0)], HOUR_NS)
    assert isinstance(answer, StoreFull)
    await valkey.run("CONFIG", "SET", "maxmemory", "0")
    assert await feed(store) == []
    assert await statuses(store, unit(owner, 0)) == ["written"]


async def test_segments_are_found_by_cursor_and_by_time(store: Store) -> None:
    """`since` includes, `until` excludes, `limit` leaves a cursor to go on from, and all pages together hold all."""
    owner = (await claimed(store)).owner
    await store.append([unit(owner, seq) for seq in range(1200)], HOUR_NS)

    async def seqs(since: str | None, until: str | None, limit: int = 10_000) -> tuple[list[int], str | None]:
        page = await store.segments("door", since, until, limit)
        return [json.loads(found)["seq"] for found in page.segments], page.next

    assert await seqs(None, None) == (list(range(1200)), None)
    collected, following = await seqs(None, None, 700)
    assert collected == list(range(700))
    assert following is not None
    assert await seqs(following, None) == (list(range(700, 1200)), None)
    assert await seqs("2026-11-23T04:00:05Z", "2026-11-23T04:00:07.000Z") == ([10, 11, 12, 13], None)
    assert await seqs("2026-11-23T04:00:05+00:00", following) == (list(range(10, 700)), None)
    assert await seqs("0-0@0000000f", None, 3) == ([0, 1, 2], (await seqs(None, None, 3))[1])
    assert (await store.segments("nobody", None, None, 5)).segments == []
    with pytest.raises(UserError, match=r"since: 'yesterday' is neither a cursor nor a time"):
        await store.segments("door", "yesterday", None, 5)


async def test_streams_that_ended_are_not_listed(store: Store) -> None:
    """`streams` names those whose last state is not `ended`."""
    owner = (await claimed(store)).owner
    await claimed(store, "lobby")
    assert await store.streams() == ["door", "lobby"]
    await statuses(store, UnitRecord("door", owner, 0, -1, [Record("stream", b'{"type":"stream"}', "e1", "ended")]))
    assert await store.streams() == ["lobby"]


async def test_a_dead_or_frozen_store_is_away(valkey: Valkey) -> None:
    """Nothing to connect to and no answer in time are both `StoreAway`, and the next try after its return works."""
    store = Store.connect(valkey.url, response_timeout_s=0.2)
    await store.ping()
    valkey.freeze()
    with pytest.raises(StoreAway):
        await store.ping()
    valkey.thaw()
    await store.ping()
    await valkey.kill()
    with pytest.raises(StoreAway):
        await store.ping()
    await valkey.start()
    await store.ping()
    await store.close()


async def test_answers_are_never_taken_for_others(store: Store, valkey: Valkey) -> None:
    """A call that was cancelled while its answer was under way leaves nothing behind for the next one."""
    for tries in range(30):
        call = asyncio.create_task(store._link.run([("ECHO", "old")]))
        for _ in range(tries):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert await store._link.run([("ECHO", f"new{tries}")]) == [f"new{tries}".encode()]


@pytest.mark.parametrize(
    "url", ["http://user:s3cret@host/", "redis://user:s3cret@host:port/", "s3cret", "redis://:s3cret@h/0?nonsense=1"]
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """The error names a remedy, and neither it nor what it came from is needed to see that no secret is in it."""
    with pytest.raises(UserError, match="redis://HOST:PORT") as caught:
        Store.connect(url)
    assert "s3cret" not in str(caught.value) or url == "s3cret"


async def test_a_wrong_password_is_not_in_the_error() -> None:
    """A store that refuses us is away, and the error has no password in it."""
    async with Valkey("--requirepass", "right") as server:
        store = Store.connect(f"unix://:s3cret@{server.socket}?db=0")
        with pytest.raises(StoreError) as caught:
            await store.ping()
        await store.close()
    assert "s3cret" not in str(caught.value)
    assert "password" in str(caught.value)


async def test_the_embedded_store_comes_back_after_a_crash() -> None:
    """Killed, it is started again at the same URL; stopped, its folder and process are gone."""
    async with EmbeddedStore() as embedded:
        store = Store.connect(embedded.url)
        await store.ping()
        first, folder = embedded.pid, embedded._socket.parent
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: embedded.pid not in (None, first))
        await until(lambda: _answers(store))
        assert embedded.restarts == 1
        last = embedded.pid
        await store.close()
    assert not folder.exists()
    assert last is not None
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_the_embedded_store_dies_with_a_service_that_is_killed() -> None:
    """SIGKILL of the process that started it leaves no server behind, and its folder goes with the next start."""
    code = (
        "import asyncio\nfrom streamer.storage.store import EmbeddedStore\n"
        "async def main():\n"
        "    async with EmbeddedStore() as e:\n"
        "        print(e.pid, e._socket.parent, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    pid, folder = (await service.stdout.readline()).decode().split()
    service.kill()
    await service.wait()
    await until(lambda: not _alive(int(pid)))
    async with EmbeddedStore() as next_one:
        # Others that start at this moment tidy up as well, and may be in the middle of it.
        await until(lambda: not os.path.exists(folder))
        assert next_one.pid is not None


def _alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet reaped by init does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _answers(store: Store) -> bool:
    try:
        await store.ping()
    except StoreAway:
        return False
    return True


async def test_what_is_written_again_is_marked(store: Store) -> None:
    """Entries of units that are written again, or were sent before without an answer, can be told from the others."""
    owner = (await claimed(store)).owner
    units = [unit(owner, 0), replace(unit(owner, 1), again=True), replace(unit(owner, 2), resent=True), unit(owner, 3)]
    assert await statuses(store, *units) == ["written"] * 4
    for page in (await store.range_feed(START), await store.newest(10)):
        ids = [entry_id for entry_id, _ in page.entries]
        assert page.again == {ids[1], ids[2]}
