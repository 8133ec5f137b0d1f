"""The recent past that is kept: what overlapping segments share is held once, all of it is bounded, and it goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.answer import Answer, segment_of, shed
from streamer.clock import ManualClock
from streamer.media import Basis, Token
from streamer.messages import Label, Share
from streamer.why.kept import KEPT_NS, Kept
from tests.builders import MS, S, scores, window

JPEG = b"\xff\xd8 a picture \xff\xd9"
DOG = Label(name="Dog", score=0.9, share=Share(video=0.5, audio=0.5, text=0.0))


class Encoder:
    """Pictures wait until they are developed."""

    def __init__(self) -> None:
        self.offered: list[tuple[NDArray[np.uint8], Callable[[bytes], None]]] = []

    def offer(self, rgb: NDArray[np.uint8], done: Callable[[bytes], None]) -> None:
        self.offered.append((rgb, done))

    def develop(self) -> None:
        for _, done in self.offered:
            done(JPEG)
        self.offered.clear()


def keeping(
    shows: bool = False, *, most_bytes: int = 64_000_000, clock: ManualClock | None = None
) -> tuple[Kept, Encoder]:
    encoder = Encoder()
    clock = ManualClock() if clock is None else clock
    kept = Kept(clock, lambda _: shows, encoder, most_bytes=most_bytes)  # type: ignore[arg-type]
    return kept, encoder


def token(index: int) -> Token:
    return Token(index, index * 500 * MS, np.full(1280, index, np.float16))


def computed(stream: str = "door", seq: int = 0, *, epoch: str = "e1", every: int = 1) -> Answer:
    """Four pictures and three patches, sliding by one; of the pictures only one in `every` took part."""
    pictures, patches = tuple(range(seq, seq + 4)), tuple(range(seq, seq + 3))
    basis = Basis(tuple(map(token, pictures[::every])), tuple(map(token, patches)))
    asked = window(stream, seq, pictures=pictures, patches=patches, epoch=epoch)
    return Answer(asked, "ok", None, replace(scores(0.9), basis=basis), 0, 0)


def tell(kept: Kept, answer: Answer, now_ns: int | None = None) -> None:
    now_ns = answer.window.end_ns if now_ns is None else now_ns
    kept.answered(answer, segment_of(answer, [DOG] if answer.scores else [], S, now_ns, 0), now_ns)


def test_a_segment_is_found_with_what_it_rests_on() -> None:
    """Times, labels, and the tokens of those pictures and patches that took part, in order."""
    kept, _ = keeping()
    tell(kept, computed(seq=5, every=2))
    past = kept.find("door", 5)
    assert past is not None and past.basis is not None
    assert [held.index for held in past.basis.video] == [5, 7] and [held.index for held in past.basis.audio] == [
        5,
        6,
        7,
    ]
    assert past.basis.video[1].values[0] == 7 and past.basis.video[1].media_ns == 3500 * MS
    assert (past.epoch, past.seq, past.status, past.labels) == ("e1", 5, "ok", [DOG])
    assert (past.start_ns, past.end_ns, past.wall_offset_ns) == (S, 3 * S, 0)
    assert kept.find("door", 6) is None and kept.find("gate", 5) is None and kept.find("door", 5, "e0") is None


def test_the_newest_epoch_is_meant_unless_one_is_named() -> None:
    """Sequence numbers begin anew with every epoch; the name of an earlier one still finds its segment."""
    kept, _ = keeping()
    tell(kept, computed(seq=0, epoch="e1"))
    tell(kept, computed(seq=0, epoch="e2"))
    newest, named = kept.find("door", 0), kept.find("door", 0, "e1")
    assert newest is not None and newest.epoch == "e2" and named is not None and named.epoch == "e1"


def test_a_shed_segment_is_kept_with_its_reason() -> None:
    """It rests on nothing, and says why."""
    kept, _ = keeping()
    tell(kept, shed(window("door", 3, pictures=(1, 2)), "overload", 0))
    past = kept.find("door", 3)
    assert past is not None and past.basis is None and (past.status, past.reason) == ("shed", "overload")


def test_what_windows_share_is_held_once() -> None:
    """A hundred sliding segments hold 103 pictures and 102 patches, and no more."""
    kept, _ = keeping()
    for seq in range(100):
        tell(kept, computed(seq=seq))
    values = (103 + 102) * 1280 * 2
    assert values < kept.size < values + 100 * 2_000


def test_no_picture_is_kept_where_none_may_be_shown() -> None:
    """Without leave to show them nothing of the pictures is kept, not even for a moment: only tokens are."""
    kept, encoder = keeping(shows=False)
    for seq in range(5):
        tell(kept, computed(seq=seq))
    assert not encoder.offered and kept.picture("door", None) is None and kept.picture("door", 0) is None


def test_pictures_are_kept_where_they_may_be_shown() -> None:
    """Each is encoded once, those that took no part too; the newest is what is asked for without an index."""
    kept, encoder = keeping(shows=True)
    for seq in range(3):
        tell(kept, computed(seq=seq, every=2))
    assert len(encoder.offered) == 6 and kept.picture("door", None) is None
    encoder.offered.pop(3)[1](JPEG + b"3")
    assert kept.picture("door", None) == JPEG + b"3"
    encoder.develop()
    assert kept.picture("door", 3) == JPEG + b"3" and kept.picture("door", None) == JPEG == kept.picture("door", 5)
    assert kept.picture("door", 6) is None and kept.picture("gate", None) is None
    past = kept.find("door", 1)
    assert past is not None and set(past.pictures) == {1, 3}


def test_the_past_goes_after_two_minutes() -> None:
    """What is older goes with the next segment of any stream, or when somebody asks; its pictures go with it."""
    clock = ManualClock()
    kept, encoder = keeping(shows=True, clock=clock)
    tell(kept, computed(seq=0), 0)
    encoder.develop()
    tell(kept, computed("gate", seq=0), KEPT_NS)
    assert kept.find("door", 0) is not None
    tell(kept, computed("gate", seq=1), KEPT_NS + 1)
    assert kept.find("door", 0) is None and kept.picture("door", None) is None and kept.picture("door", 0) is None
    clock.advance(3 * KEPT_NS)
    encoder.develop()
    assert kept.picture("gate", None) is None
    assert kept.size == 0 and len(kept) == 0


def test_the_oldest_of_all_streams_goes_when_there_is_too_much() -> None:
    """The bytes of all streams together are bounded, what had to go early is counted, and the newest segments stay."""
    kept, encoder = keeping(shows=True, most_bytes=200_000)
    for seq in range(60):
        for stream in ("a", "b", "c"):
            tell(kept, computed(stream, seq))
            encoder.develop()
            assert kept.size <= 200_000 + len(JPEG)
    assert kept.evicted > 100 and len(kept) + kept.evicted == 180
    assert kept.find("a", 0) is None
    for stream in ("a", "b", "c"):
        past = kept.find(stream, 59)
        assert past is not None and past.basis is not None and len(past.basis.video) == 4


def test_a_stream_that_goes_leaves_nothing() -> None:
    """All of it is freed, what others have stays, and a picture that is encoded after that is kept by nobody."""
    kept, encoder = keeping(shows=True)
    tell(kept, computed("gate"))
    before = kept.size
    for seq in range(10):
        tell(kept, computed(seq=seq))
    kept.forget("door")
    kept.forget("door")
    assert kept.size == before and len(kept) == 1
    encoder.develop()
    assert kept.picture("door", None) is None and kept.find("door", 9) is None
    assert kept.picture("gate", None) == JPEG
    kept.forget("gate")
    assert kept.size == 0 and len(kept) == 0


Step = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["ok", "half", "shed", "forget", "wait", "develop"]))


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(Step, max_size=60), most=st.sampled_from([30_000, 10_000_000]))
def test_the_account_is_true_whatever_happens(steps: list[tuple[str, str]], most: int) -> None:
    """After any turn of events the bytes are within the bound (one segment may always stay), every segment found is
    whole, and when all streams have gone nothing is left."""
    clock = ManualClock()
    kept, encoder = keeping(shows=True, most_bytes=most, clock=clock)
    seqs = {"a": 0, "b": 0}
    for stream, what in steps:
        if what == "forget":
            kept.forget(stream)
        elif what == "wait":
            clock.advance(KEPT_NS // 3)
        elif what == "develop":
            encoder.develop()
        else:
            answer = computed(stream, seqs[stream], every=2 if what == "half" else 1)
            tell(kept, shed(answer.window, "overload", 0) if what == "shed" else answer, clock.now_ns())
            past = kept.find(stream, seqs[stream])
            assert past is not None
            if past.basis is not None:
                assert len(past.basis.video) == (2 if what == "half" else 4) and len(past.basis.audio) == 3
            seqs[stream] += 1
        assert len(kept) <= 1 or kept.size <= most + 10 * len(JPEG)
        assert kept.size >= 0
    for stream in seqs:
        kept.forget(stream)
    assert (kept.size, len(kept)) == (0, 0)


def test_any_thread_may_call() -> None:
    """While segments are told of, others ask, encode and remove without a fault, and the account is right after it."""
    kept, encoder = keeping(shows=True, most_bytes=300_000)
    over, faults = threading.Event(), list[BaseException]()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not over.is_set():
                    work()
            except BaseException as error:  # noqa: BLE001 - told below
                faults.append(error)

        return run

    def ask() -> None:
        kept.find("a", 100)
        kept.picture("a", None)

    works = [ask, lambda: kept.forget("b"), lambda: [done(JPEG) for _, done in encoder.offered[-3:]]]
    threads = [threading.Thread(target=guarded(work)) for work in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for seq in range(400):
        for stream in ("a", "b"):
            tell(kept, computed(stream, seq))
    over.set()
    for thread in threads:
        thread.join()
    assert not faults
    kept.forget("a")
    kept.forget("b")
    assert (kept.size, len(kept)) == (0, 0)
