"""What holds for rules whatever comes: order of fired and cleared, cooldown and `for`, and restarts at any moment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.alertconfig import AlertConfig
from streamer.alerts.records import Fired
from tests.alerts.feeding import HOP_NS, NOON_NS, Feeding, Message, S, rule, segment, turned

GROUPS = {"a": "front", "b": "front"}
_conditions = st.sampled_from(
    [
        "label('Glass') > 0.6",
        "label('Glass') > 0.6 || state == 'failed'",
        "status == 'shed'",
        "state != 'live'",
        "absent('Glass', '2s')",
        "then(label('Dog') > 0.6, label('Glass') > 0.6, '3s')",
        "said('help')",
    ]
)
_times = st.sampled_from([0, S // 2, S, 3 * S])
_rules = st.builds(
    lambda name, when, clear_when, for_ns, clear_for_ns, cooldown_ns, key: rule(
        when,
        name=name,
        clear_when=clear_when,
        for_ns=for_ns,
        clear_for_ns=clear_for_ns,
        cooldown_ns=cooldown_ns,
        key=key,
    ),
    st.just("one"),
    _conditions,
    st.none() | st.sampled_from(["label('Glass') < 0.3", "absent('Glass', '1s')"]),
    _times,
    _times,
    _times,
    st.sampled_from(["stream", "group", "rule"]),
)
_pairs = st.tuples(_rules, _rules).map(lambda two: (two[0], replace(two[1], name="two")))
_steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(
            [
                "glass",
                "glass",
                "glass",
                "dog",
                "none",
                "none",
                "shed",
                "help",
                "pause",
                "lost",
                "failed",
                "stalled",
                "ended",
            ]
        ),
    ),
    max_size=80,
)


def written(steps: Sequence[tuple[str, str]]) -> list[Message]:
    """Messages as streams say them, one every hop or so: segments of an epoch, a state, or a while of nothing."""
    messages: list[Message] = []
    now_ns = NOON_NS
    epochs = dict.fromkeys("abc", 0)
    seqs: dict[str, int | None] = dict.fromkeys("abc")
    for stream, what in steps:
        now_ns += 7 * S if what == "pause" else HOP_NS
        if what in ("lost", "failed", "ended", "stalled"):
            state = {"lost": "reconnecting"}.get(what, what)
            live = what == "stalled" and seqs[stream] is not None
            seqs[stream] = seqs[stream] if live else None
            epoch = f"{stream}{epochs[stream]}" if live else None
            messages.append(turned(stream, state, now_ns + S // 5, epoch=epoch))  # type: ignore[arg-type]
            continue
        seq = seqs[stream]
        if seq is None:
            epochs[stream] += 1
            messages.append(turned(stream, "live", now_ns, epoch=f"{stream}{epochs[stream]}"))
        seqs[stream] = seq = 0 if seq is None else seq + 1
        labels = {"glass": {"Glass": 0.9}, "dog": {"Dog": 0.8}}.get(what, {"Cat": 0.1})
        shed = "overload" if what == "shed" else None
        said = ["help"] if what == "help" else []
        place = {"epoch": f"{stream}{epochs[stream]}", "end_ns": now_ns}
        messages.append(segment(stream, seq, labels, shed=shed, said=said, **place))  # type: ignore[arg-type]
    return messages


def by_key(said: Sequence[Fired]) -> dict[tuple[str, str], list[Fired]]:
    found: dict[tuple[str, str], list[Fired]] = {}
    for fired in said:
        found.setdefault((fired.rule, fired.key), []).append(fired)
    return found


def check_order(steps: Sequence[tuple[str, str]], rules: tuple[AlertConfig, AlertConfig]) -> None:
    """Asserts what must hold of whatever two rules say of these steps."""
    feeding = Feeding(*rules, groups=GROUPS)
    said = feeding.feed_all(written(steps))
    configured = {each.name: each for each in rules}
    ids = [fired.id for fired in said if fired.state == "firing"]
    assert len(ids) == len(set(ids))
    for (name, _), one in by_key(said).items():
        assert [fired.state for fired in one] == (["firing", "cleared"] * len(one))[: len(one)]
        for fired, after in itertools.pairwise(one):
            if after.state == "cleared":
                assert after.id == fired.id
                assert after.at_ns >= fired.at_ns
                assert (after.stream, after.since_ns) == (fired.stream, fired.since_ns)
            else:
                assert after.at_ns - fired.at_ns >= configured[name].cooldown_ns
        for fired in one:
            assert fired.at_ns - fired.since_ns >= (configured[name].for_ns if fired.state == "firing" else 0)
    still = sum(len(one) % 2 for one in by_key(said).values())
    assert feeding.rules.firing == still


def check_cut(steps: Sequence[tuple[str, str]], rules: tuple[AlertConfig, AlertConfig], cut: int, back: int) -> None:
    """Asserts that a restart after `cut` messages, from what was written down `back` messages before, says the same."""
    messages = written(steps)
    whole = Feeding(*rules, groups=GROUPS).feed_all(messages)
    cut = min(cut, len(messages))
    kept = max(0, cut - back)
    feeding = Feeding(*rules, groups=GROUPS)
    before = feeding.feed_all(messages[:kept])
    feeding.keep()
    lost = feeding.feed_all(messages[kept:cut])
    feeding.restart(*rules)
    # The recorder knows where it was, and lets time go on from there.
    feeding.since(messages[kept - 1][0] if kept else 0)
    after = feeding.feed_all(messages[kept:])
    assert before + after == whole
    assert lost == after[: len(lost)]


LONG = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The short forms draw the same cases each time.
SETTINGS = settings(LONG, derandomize=True)


@settings(SETTINGS, max_examples=300)
@given(_steps, _pairs)
def test_fired_and_cleared_take_turns(steps: list[tuple[str, str]], rules: tuple[AlertConfig, AlertConfig]) -> None:
    """Never two firing without a cleared between for a key, never a cleared without a firing; ids differ; cooldown
    and `for` are kept."""
    check_order(steps, rules)


@settings(SETTINGS, max_examples=400)
@given(_steps, _pairs, st.integers(0, 80), st.integers(0, 10))
def test_a_restart_changes_nothing(
    steps: list[tuple[str, str]], rules: tuple[AlertConfig, AlertConfig], cut: int, back: int
) -> None:
    """Cut at any message and begun again from an older memory, the rules say the same, also what was said twice."""
    check_cut(steps, rules, cut, back)


@pytest.mark.prove
@settings(LONG, max_examples=5000)
@given(_steps, _pairs, st.integers(0, 80), st.integers(0, 10))
def test_both_for_long(
    steps: list[tuple[str, str]], rules: tuple[AlertConfig, AlertConfig], cut: int, back: int
) -> None:
    """The same two, on many more cases."""
    check_order(steps, rules)
    check_cut(steps, rules, cut, back)


@settings(SETTINGS, max_examples=100)
@given(_steps, _rules)
def test_what_is_read_twice_says_nothing_new(steps: list[tuple[str, str]], one: AlertConfig) -> None:
    """A store that gives all its segments again gets nothing new out of the rules."""
    feeding = Feeding(one, groups=GROUPS)
    messages = [message for message in written(steps) if message[1].__struct_config__.tag == "segment"]
    feeding.feed_all(messages)
    assert [said for stored_ns, message in messages for said in feeding.rules.take(message, stored_ns)] == []
