"""RTP packets to frames: in order, whole, and what happens at holes."""

from __future__ import annotations

import random

import pytest

from streamer.sources.rtc_order import Coded, Fragment, Sequencer

MS = 1_000_000


def pictures() -> Sequencer:
    return Sequencer(joins=True, patience_ns=100 * MS, most=64)


def packets(count: int, parts: int = 3, first: int = 0) -> list[Fragment]:
    """`count` pictures of `parts` packets each; a picture's data are its number and its parts'."""
    found = []
    for number in range(count * parts):
        picture, part = divmod(number, parts)
        data = f"{picture}.{part} ".encode()
        found.append(Fragment((first + number) % 65_536, picture * 3000, part == parts - 1, data, number * 10 * MS))
    return found


def fed(sequencer: Sequencer, fragments: list[Fragment]) -> list[Coded]:
    return [coded for fragment in fragments for coded in sequencer.feed(fragment)]


def test_a_picture_comes_out_with_its_last_packet() -> None:
    """Nothing waits for the next picture: the packet with the marker ends it."""
    sequencer = pictures()
    assert [len(sequencer.feed(fragment)) for fragment in packets(2)] == [0, 0, 1, 0, 0, 1]


def test_a_picture_whose_end_is_not_marked_comes_with_the_next() -> None:
    """Where a sender sets no marker, the next time stamp ends a picture."""
    unmarked = [Fragment(f.sequence, f.timestamp, False, f.data, f.arrived_ns) for f in packets(3)]
    assert [coded.data for coded in fed(pictures(), unmarked)] == [b"0.0 0.1 0.2 ", b"1.0 1.1 1.2 "]


@pytest.mark.parametrize("first", [0, 65_530])
def test_packets_out_of_order_are_put_in_order(first: int) -> None:
    """Packets shuffled within what is waited for give the same pictures, across the wrap of their numbers too."""
    shuffled = packets(20, first=first)
    head, tail = shuffled[:1], shuffled[1:]
    rng = random.Random(5)
    for at in range(0, len(tail) - 4, 4):
        part = tail[at : at + 4]
        rng.shuffle(part)
        tail[at : at + 4] = part
    found = fed(pictures(), head + tail)
    assert [coded.data for coded in found] == [f"{n}.0 {n}.1 {n}.2 ".encode() for n in range(20)]
    assert not any(coded.follows_loss for coded in found)


def test_what_never_comes_is_given_up_in_time_and_told() -> None:
    """After the patience the picture with the hole is left out, and so is what may be its rest; the next says so."""
    sent = packets(20)
    lost = [fragment for number, fragment in enumerate(sent) if number != 4]
    sequencer = pictures()
    found = fed(sequencer, lost)
    names = [coded.data[:1] + coded.data[1:2] for coded in found]
    assert names[0] == b"0." and b"1." not in names and sequencer.lost == 1
    assert [coded.follows_loss for coded in found] == [False, True] + [False] * (len(found) - 2)
    assert found[-1].data.startswith(b"19.")
    # What waited for the hole comes all at once, when the patience is over.
    assert found[1].arrived_ns <= sent[4].arrived_ns + 100 * MS


def test_missing_packets_are_asked_for_again_and_again_but_not_always() -> None:
    """The numbers of the hole are named at once, and again 60 ms later; none where there is no hole."""
    sequencer, sent = pictures(), packets(4)
    assert fed(sequencer, sent[:2]) == [] and sequencer.missing(10 * MS) == []
    sequencer.feed(sent[4])
    assert sequencer.missing(40 * MS) == [2, 3]
    assert sequencer.missing(50 * MS) == []
    assert sequencer.missing(100 * MS) == [2, 3]
    sequencer.feed(sent[3])
    assert sequencer.missing(161 * MS) == [2]
    assert len(sequencer.feed(sent[2])) == 1 and sequencer.missing(300 * MS) == []


def test_packets_that_only_fill_a_number_belong_to_nothing() -> None:
    """Padding between pictures (bandwidth probes) neither begins a picture nor ends one."""
    sent = packets(2)
    filler = Fragment(3, 0, False, b"", 35 * MS)
    moved = [Fragment(f.sequence + 1, f.timestamp, f.ends, f.data, f.arrived_ns) for f in sent[3:]]
    assert [coded.data for coded in fed(pictures(), [*sent[:3], filler, *moved])] == [b"0.0 0.1 0.2 ", b"1.0 1.1 1.2 "]


def test_a_sender_that_counts_anew_is_followed() -> None:
    """A jump of the numbers is a loss and a new beginning, not an endless wait."""
    sequencer = pictures()
    fed(sequencer, packets(2))
    found = fed(sequencer, packets(5, first=40_000))
    assert found and found[0].follows_loss and found[-1].data.startswith(b"4.")


def test_no_more_is_held_than_said() -> None:
    """However much comes behind a hole within the patience, only so many packets wait."""
    sequencer = Sequencer(joins=True, patience_ns=10_000 * MS, most=8)
    for fragment in packets(40)[1:]:
        sequencer.feed(fragment)
        assert len(sequencer._held) <= 8
    sequencer.feed(packets(60)[170])
    for fragment in packets(90)[171:200]:
        sequencer.feed(fragment)
        assert len(sequencer._held) <= 9


def test_sound_is_a_frame_a_packet() -> None:
    """Opus packets come out one by one, in order; a lost one leaves a hole and nothing else."""
    sequencer = Sequencer(joins=False, patience_ns=60 * MS, most=32)
    sent = packets(16, parts=1)
    found = fed(sequencer, [sent[0], sent[2], sent[1], sent[3], *sent[5:]])
    assert [coded.data for coded in found] == [f"{n}.0 ".encode() for n in range(16) if n != 4]
