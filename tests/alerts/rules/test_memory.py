"""What rules remember over a restart, and what becomes of it where rules have changed."""

from __future__ import annotations

from tests.alerts.feeding import HOP_NS, NOON_NS, Feeding, S, rule, segment, told, turned

GLASS = {"Glass": 0.9}


def fed(*rules_: object, **groups: str) -> Feeding:
    """A feeding that fires for glass on `door` at noon and a half second, written down."""
    feeding = Feeding(*rules_, groups=groups)  # type: ignore[arg-type]
    assert [fired.state for fired in feeding.feed(segment("door", 0, GLASS))] == ["firing"]
    feeding.keep()
    return feeding


def test_what_fires_goes_on_firing() -> None:
    """After a restart the same alert is over, with the same id, and was not told twice."""
    feeding = Feeding(rule())
    (fired,) = feeding.feed(segment("door", 0, GLASS))
    feeding.keep()
    feeding.restart(rule())
    assert feeding.rules.firing == 1
    said = feeding.feed(segment("door", 0, GLASS), segment("door", 1, GLASS), segment("door", 2))
    assert told(said) == [("cleared", "door", 1.5)]
    assert said[0].id == fired.id


def test_the_cooldown_goes_on() -> None:
    """What was over shortly before a restart keeps still after it."""
    feeding = fed(rule(cooldown_ns=2 * S))
    feeding.feed(segment("door", 1))
    feeding.keep()
    feeding.restart(rule(cooldown_ns=2 * S))
    said = feeding.feed(segment("door", 2, GLASS), segment("door", 5, GLASS), segment("door", 6))
    assert told(said) == [("firing", "door", 3.0), ("cleared", "door", 3.5)]


def test_memories_of_time_go_on() -> None:
    """`for`, `then` and `absent` count on over a restart, also in the condition that ends it."""
    rules = (
        rule("then(label('Glass') > 0.6, label('Dog') > 0.6, '5s')", name="both"),
        rule("label('Cat') > 0.5", name="cat", for_ns=2 * S),
        rule("label('Glass') > 0.6", name="ends", clear_when="absent('Glass', '3s')"),
    )
    feeding = Feeding(*rules)
    said = feeding.feed_all(segment("door", seq, GLASS | {"Cat": 0.8}) for seq in range(2))
    assert [fired.rule for fired in said] == ["ends"]
    feeding.keep()
    feeding.restart(*rules)
    end_ns = NOON_NS + 3 * S
    said = feeding.feed_all(
        segment("door", 2 + seq, {"Dog": 0.9, "Cat": 0.8}, end_ns=end_ns + seq * HOP_NS) for seq in range(6)
    )
    assert [(fired.rule, fired.state) for fired in said] == [
        ("both", "firing"),
        ("cat", "firing"),
        ("ends", "cleared"),
    ]
    cat = said[1]
    assert cat.since_ns == NOON_NS + HOP_NS


def test_what_ends_it_goes_on_counting() -> None:
    """A `clear_when` that had counted two seconds of absence before a restart needs one more after it."""
    one = rule(clear_when="absent('Glass', '3s')")
    feeding = fed(one)
    feeding.feed_all(segment("door", seq) for seq in range(1, 5))
    feeding.keep()
    feeding.restart(one)
    assert told(feeding.feed_all(segment("door", seq) for seq in range(5, 7))) == [("cleared", "door", 3.5)]


def test_time_without_messages_is_remembered() -> None:
    """What a rule saw while a stream reconnected and nothing came is there after a restart in the midst of it."""
    one = rule("then(state == 'reconnecting', label('Glass') > 0.6, '30s')", name="back")
    feeding = Feeding(one)
    feeding.feed(segment("door", 0), turned("door", "reconnecting", NOON_NS + S))
    feeding.keep()
    feeding.pass_to(NOON_NS + 40 * S)
    feeding.keep()
    feeding.restart(one)
    feeding.since(NOON_NS + 60 * S)
    back = segment("door", 0, GLASS, epoch="e2", end_ns=NOON_NS + 60 * S)
    assert [fired.state for fired in feeding.feed(turned("door", "live", NOON_NS + 50 * S, epoch="e2"), back)] == [
        "firing"
    ]


def test_epochs_before_are_remembered() -> None:
    """What a store gives twice says nothing new after a restart either."""
    feeding = fed(rule())
    feeding.feed(segment("door", 1), segment("door", 0, epoch="e2", end_ns=NOON_NS + 2 * S))
    feeding.keep()
    feeding.restart(rule())
    assert feeding.feed(segment("door", 0, GLASS), segment("door", 2, GLASS)) == []


def test_the_cooldown_goes_on_for_other_conditions() -> None:
    """What fired for a condition that was edited fires for the new one after the cooldown."""
    feeding = fed(rule(cooldown_ns=2 * S))
    feeding.restart(rule("label('Glass') > 0.7", cooldown_ns=2 * S))
    said = feeding.feed_all(segment("door", seq, GLASS) for seq in range(1, 6))
    assert told(said) == [("cleared", "door", 0.5), ("firing", "door", 2.5)]


def test_other_conditions_end_what_fired() -> None:
    """What fired for a rule whose condition is another now is over at the next word, and may fire anew."""
    feeding = fed(rule())
    feeding.restart(rule("label('Glass') > 0.7"))
    said = feeding.feed(segment("door", 1, GLASS))
    assert [fired.state for fired in said] == ["cleared", "firing"]
    feeding.keep()
    feeding.restart(rule("label('Glass') > 0.7"))
    assert feeding.pass_to(NOON_NS + 2 * S) == []
    assert feeding.rules.firing == 1


def test_a_rule_that_is_gone_is_over() -> None:
    """What fired for a rule that is no more is over, once, and leaves nothing behind."""
    feeding = fed(rule(), rule("label('Dog') > 0.5", name="dog"))
    feeding.restart(rule("label('Dog') > 0.5", name="dog"))
    (cleared,) = feeding.pass_to(NOON_NS + 2 * S)
    assert (cleared.rule, cleared.state, cleared.at_ns) == ("glass", "cleared", NOON_NS + HOP_NS)
    feeding.keep()
    assert not any("glass" in key for key in feeding.memory)
    feeding.restart(rule("label('Dog') > 0.5", name="dog"))
    assert feeding.pass_to(NOON_NS + 4 * S) == []


def test_that_it_is_over_is_not_forgotten_before_it_is_said() -> None:
    """Whoever is killed between a change of the rules and the next message hears of it after the next start."""
    feeding = fed(rule())
    feeding.restart()
    feeding.keep()
    feeding.restart()
    assert [fired.state for fired in feeding.feed(turned("yard", "connecting", NOON_NS + 2 * S))] == ["cleared"]


def test_a_stream_that_the_rule_no_longer_means_is_over() -> None:
    """Another glob, which this stream is not like, ends what fired for it."""
    feeding = fed(rule())
    feeding.restart(rule(stream="yard"))
    assert [fired.state for fired in feeding.feed(segment("door", 1, GLASS))] == ["cleared"]


def test_another_text_or_severity_changes_nothing() -> None:
    """What says when it fires is the same, so what fires goes on firing, and ends under the severity it began with."""
    feeding = fed(rule())
    feeding.restart(rule(severity="critical", text="{{ stream }}", send=["ops"]))
    assert feeding.feed(segment("door", 1, GLASS)) == []
    (cleared,) = feeding.feed(segment("door", 2))
    assert cleared.severity == "warning"


def test_a_stream_of_another_group_stands_for_that_group() -> None:
    """A stream that moved to another group ends the old group's alert and fires for the new one."""
    feeding = fed(rule(key="group"), door="front")
    feeding.restart(rule(key="group"), groups={"door": "back"})
    said = feeding.feed(segment("door", 1, GLASS))
    assert [(fired.state, fired.key) for fired in said] == [("cleared", "front"), ("firing", "back")]


def test_the_first_of_a_group_is_the_same_after_a_restart() -> None:
    """Where time alone makes several streams fire at once, the one that is named does not hang on a restart."""
    one = rule("state == 'failed'", name="gone", key="rule", for_ns=10 * S)
    named = []
    for restarts in (False, True):
        feeding = Feeding(one)
        feeding.feed(*(turned(stream, "failed", NOON_NS) for stream in ("b", "c", "a")))
        feeding.keep()
        feeding.memory = dict(reversed(feeding.memory.items()))
        if restarts:
            feeding.restart(one)
        (fired,) = feeding.pass_to(NOON_NS + 20 * S)
        named.append(fired.stream)
    assert named == ["a", "a"]


def test_what_is_damaged_is_counted_and_begun_anew() -> None:
    """Parts that can't be read are counted; the others are taken up, and the damaged one is written anew."""
    feeding = fed(rule())
    feeding.feed(segment("yard", 0, GLASS))
    feeding.keep()
    feeding.memory["stream/door"] = b"\xff{"
    feeding.memory["alert/glass/yard"] = b"[1]"
    feeding.restart(rule())
    assert feeding.rules.unreadable == 2
    said = feeding.feed(segment("yard", 1), segment("door", 1))
    assert [(fired.stream, fired.state) for fired in said] == [("door", "cleared")]
    feeding.keep()
    feeding.restart(rule())
    assert feeding.rules.unreadable == 0


def test_only_what_changed_is_written() -> None:
    """A second without messages changes nothing; one segment changes its own stream alone."""
    feeding = Feeding(rule())
    feeding.feed(segment("door", 0), segment("yard", 0))
    feeding.keep()
    assert feeding.pass_to(NOON_NS + 3 * S) == []
    assert feeding.rules.changed() == {}
    feeding.feed(segment("door", 1))
    assert set(feeding.rules.changed()) == {"stream/door"}


def test_what_ended_long_ago_is_forgotten() -> None:
    """An hour after a stream ended and its alert was over, nothing of it is kept."""
    feeding = fed(rule())
    feeding.feed(turned("door", "ended", NOON_NS + S))
    feeding.keep()
    assert set(feeding.memory) == {"stream/door", "alert/glass/door"}
    feeding.pass_to(NOON_NS + 3 * 3600 * S)
    feeding.keep()
    assert feeding.memory == {}
