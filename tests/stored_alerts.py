"""Streams in a real store on which a dog barks every so often: what rules are tried on."""

from __future__ import annotations

from msgspec.structs import replace

from streamer.clock import NS_PER_S, rfc3339
from streamer.messages import StreamMessage, encode
from streamer.storage.store import Claim, ClaimRequest, Record, Store, UnitRecord, Written
from tests.fake_alerts import NOON_NS
from tests.stores import segment

_HOP_NS = NS_PER_S // 2
_DAY_NS = 86_400 * NS_PER_S


async def barking(store: Store, stream: str, *, seconds: int, every_s: int, lasts_s: int) -> None:
    """Store so many seconds of a stream from noon on; a dog begins every `every_s` and lasts for `lasts_s`."""
    (claim,) = await store.claim([ClaimRequest(stream)])
    assert isinstance(claim, Claim) and claim.granted
    live = encode(StreamMessage(stream=stream, state="live", epoch="e1"))
    units = [UnitRecord(stream, claim.owner, 0, -1, (Record("stream", live, "e1", "live"),))]
    for seq in range(2 * seconds):
        barks = seq % (2 * every_s) < 2 * lasts_s
        start_ns = NOON_NS + seq * _HOP_NS
        message = replace(
            segment(stream, seq, "e1", (("Dog", 0.9 if barks else 0.1),)),
            start=rfc3339(start_ns),
            end=rfc3339(start_ns + 4 * _HOP_NS),
        )
        units.append(UnitRecord(stream, claim.owner, seq + 1, seq, (Record("segment", encode(message), "e1", seq),)))
    answers = await store.append(units, _DAY_NS)
    assert all(isinstance(answer, Written) and answer.status == "written" for answer in answers)
