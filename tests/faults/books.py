"""What the tests of faults hold a service to: the account of every segment in its store, and labels that come again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.bench.outcomes import Account
from streamer.cursor import START
from streamer.storage.store import Store
from tests.conftest import eventually
from tests.e2e.running import Running
from tests.e2e.watching import Follower, Message


@asynccontextmanager
async def following_to_the_end(running: Running) -> AsyncIterator[Follower]:
    """A follower of `running` that is subscribed already, and that may outlive it."""
    follower, subscribed = Follower(running), asyncio.Event()
    task = asyncio.create_task(follower.follow(subscribed))
    try:
        await asyncio.wait_for(subscribed.wait(), 10)
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def stored(url: str) -> list[Message]:
    """Every message that the store holds, in order of publication."""
    store, place, found = Store.connect(url), START, []
    try:
        while entries := (await store.range_feed(place)).entries:
            found += [json.loads(raw) for _, raw in entries]
            place = entries[-1][0].next()
    finally:
        await store.close()
    return found


def of_stream(messages: list[Message], stream: str, kind: str = "segment") -> list[Message]:
    """The messages of one kind of a stream."""
    return [message for message in messages if message.get("stream") == stream and message["type"] == kind]


def account_of(messages: list[Message], whole: bool = True) -> Account:
    """The books over `messages`; `whole`: they begin where the feed begins."""
    account = Account(whole=whole)
    for message in messages:
        account.take(message)
    return account


def nothing_wrong(account: Account) -> None:
    """Segments there are, none of them late, missing or twice."""
    assert account.segments
    found = {"late": account.late, "missing": account.missing, "duplicate": account.duplicate}
    assert found == {"late": 0, "missing": 0, "duplicate": 0}, account.faults


def still_labelled(messages: list[Message]) -> None:
    """Segments go on having labels; where one is shed, it is because the machine had no time for it."""
    segments = [message for message in messages if message["type"] == "segment"]
    assert {segment["reason"] for segment in segments} <= {None, "overload"}
    assert any(segment["labels"] for segment in segments)


async def labels_again(follower: Follower, stream: str, since_s: float) -> float:
    """Seconds from `since_s` (monotonic) until a subscriber had labels of `stream` that arrived after it."""

    def found() -> list[Message]:
        return [m for m in follower.segments(stream) if m["at_s"] > since_s and m["labels"]]

    arrived = await eventually(found, 20, f"labels of {stream} again")
    return float(arrived[0]["at_s"]) - since_s


def report(what: str, began_s: float) -> None:
    """Say how long a recovery took until now (seen with `pytest -s`)."""
    print(f"\n{what}: {time.monotonic() - began_s:.2f} s")
