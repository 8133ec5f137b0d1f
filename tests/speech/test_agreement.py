"""Which words settle, and what is cut because it goes round in circles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.speech.agreement import Agreement, Piece
from streamer.speech.repeats import repeats_from


def pieces(text: str, each_s: float = 0.3, start_s: float = 0.0) -> list[Piece]:
    """The text's words, each as long; a mark on its own is one."""
    return [
        Piece(word if word in ",.?" else f" {word}", start_s + i * each_s, start_s + (i + 1) * each_s, 0.9, (i,))
        for i, word in enumerate(text.split())
    ]


def settled(*passes: str, until_s: float = 100.0) -> str:
    """What is settled after passes that each wrote that after what had settled before."""
    agreement = Agreement()
    for text in passes:
        agreement.take(pieces(text), until_s)
    return "".join(piece.text for piece in agreement.settled).strip()


def test_nothing_settles_in_one_pass() -> None:
    """What one pass alone wrote may still change."""
    assert settled("how old is") == ""


def test_what_two_passes_agree_on_settles_up_to_where_they_differ() -> None:
    """Agreement counts from the beginning, without case and punctuation in the words."""
    assert settled("How old is a", "how old is the bridge") == "how old is"


def test_a_mark_at_the_end_waits_for_the_word_after_it() -> None:
    """A full stop that both passes wrote last may yet be a comma."""
    assert settled("how old .", "how old .") == "how old"
    assert settled("how old , is", "how old , is") == "how old, is"


def test_words_close_to_the_end_of_the_sound_wait() -> None:
    """Only words that end before that time settle."""
    assert settled("one two three", "one two three", until_s=0.65) == "one two"


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", ","]), max_size=5), max_size=8))
def test_what_has_settled_stays(passes: list[list[str]]) -> None:
    """Whatever passes write, settled pieces are only ever added to, and finishing keeps them all."""
    agreement = Agreement()
    before: list[Piece] = []
    for words in passes:
        agreement.take(pieces(" ".join(words)), 100.0)
        assert agreement.settled[: len(before)] == before
        before = list(agreement.settled)
    rest = list(agreement.rest)
    agreement.finish(rest)
    assert agreement.settled == before + rest


def test_a_second_round_without_sound_is_cut() -> None:
    """The decoder says the sentence again in no time: it stands once."""
    said = pieces("she had a dark suit")
    again = [Piece(piece.text, 1.5, 1.52, 0.9, piece.tokens) for piece in said]
    assert repeats_from(said + again) == len(said)


def test_what_is_said_twice_stands_twice() -> None:
    """Two rounds that each take their time are believed, and a word called three times is too."""
    assert repeats_from(pieces("come here now come here now")) == 6
    assert repeats_from(pieces("help help help")) == 3


def test_a_third_round_of_several_words_is_never_believed() -> None:
    """However long it takes: nobody says a sentence three times in one breath; a last round broken off goes, too."""
    assert repeats_from(pieces("the dreams built around it " * 3 + "the dreams")) == 10
