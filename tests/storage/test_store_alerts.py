"""Alerts in the store: appended in order, each once however often it is sent, and kept as long as the rest."""

from __future__ import annotations

import json

import pytest

from streamer.cursor import START
from streamer.errors import StoreError
from streamer.storage import store as stores
from streamer.storage.store import ALERTS, FEED, Store, StoreAway, StoreFull
from tests.stores import Proxy, Valkey, store_fixture, valkey_fixture

__all__ = ["store_fixture", "valkey_fixture"]

HOUR_NS = 3_600_000_000_000


def alerts(*numbers: int) -> list[tuple[str, bytes]]:
    return [(f"a{number}:firing", json.dumps({"type": "alert", "n": number}).encode()) for number in numbers]


async def feed(store: Store) -> list[int]:
    return [json.loads(entry)["n"] for _, entry in (await store.range_feed(START, count=10_000)).entries]


async def test_alerts_stand_in_the_feed_in_order_and_once(store: Store) -> None:
    """What was appended before is left out wherever it stands among others, and the answer says how many were new."""
    assert await store.append_alerts(alerts(1, 2, 3), HOUR_NS) == 3
    assert await store.append_alerts(alerts(2, 3, 4, 5), HOUR_NS) == 2
    assert await feed(store) == [1, 2, 3, 4, 5]


async def test_an_alert_is_new_to_a_store_that_has_lost_it(store: Store, valkey: Valkey) -> None:
    """After the store was emptied the same alert is appended again, and the store has an identity of its own."""
    await store.append_alerts(alerts(1), HOUR_NS)
    before = await store.identity()
    await valkey.run("FLUSHALL")
    assert await store.append_alerts(alerts(1), HOUR_NS) == 1
    assert (await store.range_feed(START)).store not in ("", before)


async def test_no_more_marks_are_kept_than_needed(
    store: Store, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marks of the latest alerts stay, older ones go, and all of them go a while after the last alert."""
    monkeypatch.setattr(stores, "_ALERT_MARKS", 8)
    for first in range(0, 40, 4):
        await store.append_alerts(alerts(*range(first, first + 4)), HOUR_NS)
    assert await valkey.run("ZCARD", ALERTS) == 8
    assert await store.append_alerts(alerts(*range(32, 40)), HOUR_NS) == 0
    left_ms = await valkey.run("PTTL", ALERTS)
    assert isinstance(left_ms, int) and left_ms > HOUR_NS // 1_000_000


async def test_an_answer_that_is_lost_costs_nothing(valkey: Valkey) -> None:
    """Whether the alerts were written is not known then; sending them again writes what is missing."""
    async with Proxy(valkey.socket) as proxy:
        store, lost = Store.connect(proxy.url, response_timeout_s=0.5), 0
        for number in range(30):
            proxy.loss = 0.2
            while True:
                try:
                    await store.append_alerts(alerts(number, number + 1), HOUR_NS)
                    break
                except StoreAway:
                    lost += 1
        proxy.loss = 0.0
        assert lost > 0
        assert await feed(store) == list(range(31))
        await store.close()


async def test_a_full_store_and_a_wrong_key_write_nothing(store: Store, valkey: Valkey) -> None:
    """Both are told as what they are; when they are mended the same alerts are new."""
    await valkey.run("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreFull):
        await store.append_alerts(alerts(1), HOUR_NS)
    await valkey.run("CONFIG", "SET", "maxmemory", "0")
    await valkey.run("SET", FEED, "no stream")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await store.append_alerts(alerts(1), HOUR_NS)
    await valkey.run("DEL", FEED)
    assert await store.append_alerts(alerts(1), HOUR_NS) == 1
