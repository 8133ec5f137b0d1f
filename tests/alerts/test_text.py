"""What alerts say: words, templates, messages, titles and texts."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alertconfig import AlertConfig
from streamer.alerts import template
from streamer.alerts.records import Delivery, Fired, Summary
from streamer.alerts.text import MAX_TEXT, alert_message, body, check_template, title
from streamer.alerts.wording import Language, duration, language_of, local, percent, plain, sentence
from streamer.clock import NS_PER_S, parse_rfc3339
from streamer.messages import Alert, AlertState, Label, Share, encode

SINCE_NS = parse_rfc3339("2026-11-23T04:07:01Z")
GLASS = Label("Glass", 0.91, Share(0.2, 0.8, 0.0))


def fired(state: AlertState = "firing", lasted_s: int = 2, **more: object) -> Fired:
    """Glass breaks at the door."""
    given = Fired(
        id="0123456789abcdef",
        rule="glass",
        key="door",
        stream="door",
        group="ground-floor",
        state=state,
        severity="critical",
        since_ns=SINCE_NS,
        at_ns=SINCE_NS + lasted_s * NS_PER_S,
        labels=(GLASS,),
        words=("help", "me"),
        epoch="e",
        seq=7,
    )
    return replace(given, **more)  # type: ignore[arg-type]


def message(what: Fired, text: str | None = None, language: Language = "en", late_s: float = 1.5) -> Alert:
    """What is recorded of it."""
    rule = AlertConfig(name="glass", when="true", text=text, language=language)
    return alert_message(what, rule, what.at_ns + int(late_s * NS_PER_S), "http://localhost:8080/", ["p1"])


def test_a_message_has_all_that_was_found() -> None:
    """The message names the rule, stream, times, lateness, labels, words, segment, link and pictures."""
    alert = message(fired())
    assert (alert.id, alert.rule, alert.key, alert.stream) == ("0123456789abcdef", "glass", "door", "door")
    assert (alert.group, alert.state, alert.severity) == ("ground-floor", "firing", "critical")
    assert (alert.since, alert.at) == ("2026-11-23T04:07:01.000Z", "2026-11-23T04:07:03.000Z")
    assert alert.late_ms == 1500.0
    assert alert.labels == [GLASS] and alert.words == ["help", "me"] and alert.pictures == ["p1"]
    assert alert.segment is not None and (alert.segment.epoch, alert.segment.seq) == ("e", 7)
    assert alert.link == "http://localhost:8080/#/streams/door?at=2026-11-23T04%3A07%3A01.000Z"
    assert encode(alert)


def test_what_time_alone_did_has_no_segment() -> None:
    """Without a segment, labels and words there is a text still, and without a page no link; a recorder whose clock is
    behind the camera's is not early."""
    bare = fired(labels=(), words=(), epoch=None, seq=None, lasted_s=0)
    alert = alert_message(bare, AlertConfig(name="glass", when="true"), bare.at_ns - NS_PER_S, None)
    assert alert.segment is None and alert.link is None and alert.late_ms == 0.0
    assert alert.text == "glass: fired on door"


@pytest.mark.parametrize(
    ("language", "state", "text", "headline"),
    [
        (
            "en",
            "firing",
            "glass: Glass 91% (audio 80%, video 20%), heard “help me”, for 2 s",
            "[critical] glass on door",
        ),
        ("en", "cleared", "glass: over after 2 s", "[cleared] glass on door"),
        (
            "zh",
            "firing",
            "glass：Glass 91%（声音 80%、画面 20%），说话内容“help me”，已持续 2 秒",
            "[严重] door：glass",
        ),
        ("zh", "cleared", "glass：已解除，持续 2 秒", "[已解除] door：glass"),
    ],
)
def test_default_texts(language: Language, state: AlertState, text: str, headline: str) -> None:
    """Labels with scores and what they rest on, the words, and how long, in both languages; the title too."""
    alert = message(fired(state), language=language)
    assert alert.text == text
    delivery = Delivery("m", "ops", alert, 1, 0)
    assert title(delivery) == headline
    lines = body(delivery).splitlines()
    assert lines[0] == text and "2026-11-23 04:07:01 UTC" in lines[1] and lines[2] == alert.link
    assert ("1.5 秒" if language == "zh" else "1.5 s") in lines[1]


def test_summaries_say_how_many() -> None:
    """A summary's title and text tell the count, the rules and between when, in the language of the alert."""
    summary = Summary(12, SINCE_NS, SINCE_NS + 60 * NS_PER_S, (("glass", 8), ("fall", 4)))
    english = Delivery("m", "ops", message(fired()), 1, 0, summary)
    assert title(english) == "12 more alerts were held back"
    assert "glass 8, fall 4" in body(english) and "04:08:01" in body(english)
    chinese = Delivery("m", "ops", message(fired(), language="zh"), 1, 0, summary)
    assert "12" in title(chinese) and language_of(title(chinese)) == "zh"
    assert "glass 8, fall 4" in body(chinese)


def test_a_template_says_what_it_likes() -> None:
    """Names, fields, filters, conditions and a loop over the labels."""
    text = (
        "{% for label in labels %}{{ label.name }} {{ label.score|percent }} {{ label.share.audio|percent }}"
        "{% if not loop.last %}, {% endif %}{% else %}nothing{% endfor %}"
        " | {{ said|upper }} | {{ words[:1]|join('-') }} | {{ lasted }} | {{ late_s|duration }} | {{ lasted_s * 2 }}"
        " | {{ since|local('Asia/Shanghai') }} | {{ severity }} | {{ group or 'none' }}"
    )
    assert check_template(text) is None
    said = message(fired(), text).text
    assert said == (
        "Glass 91% 80% | HELP ME | help | 2 s | 1.5 s | 4.0 | 2026-11-23 12:07:01 | critical | ground-floor"
    )
    bare = message(fired(labels=(), words=(), group=None), text, "zh").text
    assert bare.startswith("nothing |  |  | 2 秒 | 1.5 秒") and bare.endswith("严重 | none")


def test_a_template_may_build_on_the_default() -> None:
    """`default_text` is the text that would be said without a template."""
    assert message(fired(), "{{ default_text }}. Call 123!").text == f"{message(fired()).text}. Call 123!"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{{ lable }}", "did you mean 'labels'"),
        ("fine\n{{ streem }}", "line 2: 'streem' is unknown: did you mean 'stream'"),
        ("{% for label in labels %}{{ label.scor }}{% endfor %}", "did you mean 'score'"),
        ("{{ late_s|durations }}", "did you mean 'duration'"),
        ("{{ labels is fooled }}", "no test is called 'fooled'"),
        ("{% if labels %}", "line 1"),
        ("{{ labels[0].name }}", "{% if labels %}"),
        ("{{ labels }}", "is no text"),
        ("{{ since|local('Asia/Shangai') }}", "Asia/Shangai"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ said|percent }}", "fails"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(text: str, named: str) -> None:
    """Each fault names its place or its cause, and what was probably meant."""
    said = check_template(text)
    assert said is not None and named in said and "\n" not in said


@pytest.mark.parametrize(
    "text",
    [
        "{{ range(10**9)|join }}",
        "{{ 9**9**9 }}",
        "{{ 'a' * 999999999 }}",
        "{{ words * 999999999 }}",
        "{{ '%0999999999d' % 1 }}",
        "{% set a = 'aa' %}{% set a = a ~ a %}{{ a }}",
        "{% for a in words %}{% for b in words %}x{% endfor %}{% endfor %}",
        "{% for a in [1, 2, 3] %}x{% endfor %}",
        "{% for a in words recursive %}{{ loop(words) }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ said|center(999999999) }}",
        "{{ said|join(said) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ rule['__class__'] }}",
        "{{ lipsum() }}",
        "{{ cycler }}",
        "{% include 'secrets' %}",
        "{% extends rule %}",
        "{% with a = words %}{{ a }}{% endwith %}",
        "{{ words.append }}",
        "{{ " + "(" * 1500 + "1" + ")" * 1500 + " }}",
        "{{ " + "-" * 4000 + "1 }}",
        "{% if 1 %}" * 200 + "{% endif %}" * 200,
    ],
)
def test_what_could_cost_without_bound_has_no_place(text: str) -> None:
    """Work, memory and the machine's insides are out of a template's reach; that is said before any alert."""
    assert check_template(text) is not None


def test_a_text_ends_somewhere() -> None:
    """What a template makes beyond the limit is cut, and no more of it is made; control characters are left out."""
    words = tuple("word" * 20 for _ in range(1000))
    said = message(fired(words=words), "{% for word in words %}" + "{{ said }}" * 50 + "{% endfor %}").text
    assert len(said) == MAX_TEXT and said.endswith("…")
    assert len(message(fired(words=words)).text) <= MAX_TEXT
    assert message(fired(words=("\x1b[31mred\x00",)), "{{ said }}").text == "[31mred"


def test_a_template_that_fails_after_all_loses_no_alert(caplog: pytest.LogCaptureFixture) -> None:
    """Where the values are such as nobody thought of, the default is said, and a line in the log says why."""
    with caplog.at_level(logging.WARNING):
        alert = message(fired(), "{{ 1 / (lasted_s - 2) }}")
    assert alert.text == message(fired()).text
    assert "glass" in caplog.text and "division" in caplog.text


def test_every_name_is_there() -> None:
    """Templates may use every name that is told to be known."""
    for name in template.NAMES - {"labels", "words"}:
        assert check_template("{{ " + name + " }}") is None


@given(st.text(alphabet="{}%|()[]'*~+-. abelsrowdin0123456789_#\n", max_size=60))
def test_no_template_brings_anybody_down(text: str) -> None:
    """Whatever is written as a template is either found wrong or says something of bounded length."""
    source = "{{ " + text + " }}"
    if check_template(source) is None:
        assert len(message(fired(), source).text) <= MAX_TEXT


@given(st.integers(0, 10**18), st.sampled_from(get_args(Language)))
def test_durations_are_close(length_ns: int, language: Language) -> None:
    """A length in words is what was meant, to a tenth or to the smaller of its two units."""
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3}
    sizes |= {"天": 86400, "小时": 3600, "分": 60, "秒": 1, "毫秒": 1e-3}
    parts = duration(length_ns, language).split()
    said_s = sum(float(number) * sizes[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    length_s = length_ns / NS_PER_S
    assert abs(said_s - length_s) <= max(0.1 * length_s, 0.001)


def test_durations_in_words() -> None:
    """The two largest units, without those that are empty."""
    lengths = {0.04: "40 ms", 0: "0 s", 2: "2 s", 2.5: "2.5 s", 125: "2 min 5 s", 3600: "1 h", 3900: "1 h 5 min"}
    assert {length: duration(int(length * NS_PER_S), "en") for length in lengths} == lengths
    assert duration(93_600 * NS_PER_S, "zh") == "1 天 2 小时"
    assert duration(-5, "en") == "0 s"


def test_wording() -> None:
    """Percents never round to all or nothing, words are put together by script, times know their zone."""
    assert [percent(part) for part in (0.0, 0.001, 0.5, 0.999, 1.0)] == ["0%", "1%", "50%", "99%", "100%"]
    assert sentence(["救命", "啊", "help", "me", "快"]) == "救命啊 help me 快"
    assert local("2026-07-01T12:00:00.500Z", "Europe/Berlin") == "2026-07-01 14:00:00"
    assert local("2026-12-01T12:00:00.500Z", "Europe/Berlin") == "2026-12-01 13:00:00"
    assert plain("a" * 20, 10) == "a" * 9 + "…" and plain(" a\nb\t\x07 ", 10) == "a\nb"
