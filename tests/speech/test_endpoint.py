"""Where utterances begin and end, from how likely a voice is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.speech.endpoint import Began, Ended, Endpointer, EndpointPolicy

POLICY = EndpointPolicy(before=3, after=2, least=2, hangover=6, soft=20, longest=40, least_pause=2)
# Voices as they come: runs of some length, likely or not.
VOICES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.6, 0.9, 1.0]), st.integers(1, 30)), max_size=25).map(
    lambda runs: [voice for voice, count in runs for _ in range(count)]
)


def followed(voices: Sequence[float]) -> tuple[list[Began], list[Ended]]:
    """All that begins and ends when those are all the voices there are."""
    endpoints = Endpointer(POLICY)
    events = [event for voice in voices for event in endpoints.feed(voice)] + endpoints.stop()
    return [e for e in events if isinstance(e, Began)], [e for e in events if isinstance(e, Ended)]


@settings(deadline=None)
@given(VOICES)
def test_utterances_are_whole_ordered_and_bounded(voices: list[float]) -> None:
    """Every beginning has its end; utterances come in order, never overlap, and none is longer than the longest."""
    began, ended = followed(voices)
    assert [event.start for event in began] == [event.start for event in ended]
    at = 0
    for event in ended:
        assert at <= event.start < event.end <= len(voices)
        assert event.start <= event.spoken_to <= event.end
        assert event.end - event.start <= POLICY.longest
        assert 0.0 <= event.voiced <= 1.0
        at = event.end


@settings(deadline=None)
@given(VOICES)
def test_no_lasting_voice_is_left_out(voices: list[float]) -> None:
    """As many likely steps in a row as an utterance takes to begin are all inside of utterances."""
    _, ended = followed(voices)
    inside = {step for event in ended for step in range(event.start, event.end)}
    run: list[int] = []
    for step, voice in enumerate([*voices, 0.0]):
        if voice >= POLICY.begin:
            run.append(step)
            continue
        if len(run) >= 2 * POLICY.least:
            assert inside.issuperset(run)
        run = []


@settings(deadline=None)
@given(VOICES)
def test_what_is_still_wanted_is_never_forgotten(voices: list[float]) -> None:
    """No utterance begins before the first step that was said to be needed just before it began."""
    endpoints = Endpointer(POLICY)
    for voice in voices:
        needed = endpoints.needed_from
        for event in endpoints.feed(voice):
            if isinstance(event, Began):
                assert event.start >= needed


def test_a_pause_ends_an_utterance_and_what_is_around_the_voice_is_kept() -> None:
    """10 steps of quiet, 8 of voice, quiet: the utterance has 3 steps before the voice and 2 after it."""
    began, ended = followed([0.0] * 10 + [0.9] * 8 + [0.0] * 10)
    assert [(event.start, event.spoken) for event in began] == [(7, 10)]
    assert [(event.start, event.end, event.spoken_to, event.is_cut) for event in ended] == [(7, 20, 18, False)]


def test_a_cough_is_no_utterance() -> None:
    """One step with a voice begins nothing."""
    assert followed([0.0] * 10 + [0.9] + [0.0] * 10) == ([], [])


def test_the_longest_is_cut_at_its_quietest_moment_and_goes_on() -> None:
    """A voice without a pause is cut where it is least likely, late, and the next utterance begins there."""
    voices = [0.9] * 100
    voices[30:33] = [0.4, 0.36, 0.4]
    began, ended = followed(voices)
    assert ended[0].is_cut and 30 <= ended[0].end <= 33
    assert began[1].start == ended[0].end


def test_a_shorter_pause_ends_a_longer_utterance() -> None:
    """Three steps of quiet end nothing at first, but an utterance that has nearly become too long."""
    short = followed([0.9] * 10 + [0.0] * 3 + [0.9] * 5)[1]
    assert len(short) == 1
    long = followed([0.9] * 36 + [0.0] * 3 + [0.9] * 3)[1]
    assert [event.is_cut for event in long] == [False, False]


def test_quiet_is_counted_from_the_last_voice() -> None:
    """`quiet` is 0 while somebody speaks and outside of utterances, and grows in a pause."""
    endpoints = Endpointer(POLICY)
    seen = []
    for voice in [0.0, 0.9, 0.9, 0.9, 0.1, 0.1, 0.9]:
        endpoints.feed(voice)
        seen.append(endpoints.quiet)
    assert seen == [0, 0, 0, 0, 1, 2, 0]
