"""Conditions that can't be used: what is told of them, and where."""

from __future__ import annotations

import pytest

from streamer.alerts.conditions.expression import Expression, ExpressionError

NAMES = ["Dog", "Cat", "Glass", "Person", "Domestic animals, pets", "Smoke detector, smoke alarm"]

DEEP = "nested more than 40 deep"


@pytest.mark.parametrize(
    ("source", "place", "text"),
    [
        # Labels, names and fields, with the nearest that there is.
        ("label('Glas') > 0.6", "'Glas'", "no label 'Glas': did you mean Glass?"),
        ("true && label('dog') > 0.6", "'dog'", "did you mean Dog?"),
        ("label('smoke alarm') > 0.6", "'smoke", "did you mean Smoke detector, smoke alarm?"),
        ("label('Zebra') > 0.6", "'Zebra'", "GET /v1/labels"),
        ("absent('Persn', '10m')", "'Persn'", "did you mean Person?"),
        ("then(true, label('Ct') > 0.5, '1s')", "'Ct'", "did you mean Cat?"),
        ("share('Dgo', 'audio') > 0.5", "'Dgo'", "did you mean Dog?"),
        ("share('Dog', 'vidio') > 0.5", "'vidio'", "did you mean video?"),
        ("share('Dog', stream) > 0.5", "stream", "there are video, audio, text"),
        ("strem == 'a'", "strem", "no variable strem: did you mean stream?"),
        ("xyzzy == 'a'", "xyzzy", "there are stream, group"),
        ("lable('Dog') > 0.5", "lable", "no function lable(): did you mean label?"),
        ("stream.startWith('a')", "startWith", "did you mean startsWith?"),
        ("stream.said('a')", "said", "write said('help')"),
        ("startsWith(stream, 'a')", "startsWith", "goes after a value"),
        ("coverage.vidio > 0.5", "vidio", "coverage has no field vidio: did you mean video?"),
        ("coverage > 0.5", "coverage", "write coverage.video or coverage.audio"),
        ("people > 0", "people", "write people.count"),
        ("label > 0.5", "label", "label is a function: write label('Dog')"),
        ("stream.name == 'a'", "name", "text has no fields"),
        ("status == 'shedd'", "'shedd'", "status is never 'shedd': did you mean shed?"),
        ("state in ['live', 'dead']", "'dead'", "state is never 'dead': did you mean ended?"),
        ("'OK' != status", "'OK'", "did you mean ok?"),
        # Kinds.
        ("label('Dog')", "label", "true or false, but this is a number: compare it"),
        ("words", "words", "true or false, but this is a list"),
        ("label('Dog') && true", "label", "&& joins what is true or false, not a number: compare it"),
        ("label('Dog') > '0.5'", ">", "a number > text can't be compared"),
        ("label('Dog') > 0.5 > 0.2", "> 0.2", "true or false > a number"),
        ("stream == 5", "==", "text is never equal to a whole number"),
        ("'help' in stream", "in", "write b.contains(a) for a in b"),
        ("5 in words", "in", "a whole number is never equal to text"),
        ("words.contains('a')", "contains", "write 'a' in b for lists"),
        ("words['a'] == 'b'", "'a'] ", "takes a whole number here, not text"),
        ("stream[0] == 'b'", "[", "text has no [ ]"),
        ("!people.count", "count", "this is a whole number"),
        ("-stream == ''", "stream", "- goes before a number"),
        ("stream - 'a' == ''", "-", "- can't be taken of text and text"),
        ("label('Dog') % 2 == 1", "%", "% can't be taken of a number and a whole number"),
        ("people.count / 0 > 1", "0 >", "divides by zero"),
        ("(true ? 1 : 'a') == 1", "?", "are a whole number and text"),
        ("(1 ? 1 : 2) == 1", "?", "before ? stands what is true or false"),
        ("[1, 'a'] == []", "'a'", "a list's items are all of one kind"),
        ("{1.5: 2}[1] == 2", "1.5", "a map's key is text or a whole number"),
        ("label(5) > 0.5", "5)", "label() takes text, not a whole number"),
        ("label('Dog', 1) > 0.5", "label", "label() is written label('Dog')"),
        ("size(5) > 1", "size", "size() counts text, a list or a map"),
        ("int(stream) > 1", "int", "int() takes a number, not text"),
        ("string(words) == ''", "string", "string() takes a number or text"),
        ("words.exists(w, size(w))", "size", "exists() asks what is true or false"),
        ("words.map(w, size(w), w) == []", "size", "map() asks what is true or false"),
        ("words.exists('w', true)", "exists", "write exists(w, ...)"),
        ("stream.exists(w, true)", "exists", "goes through a list or a map, not text"),
        ("words.all(a, words.all(b, words.all(c, true)))", "all(c", "more than 2 loops"),
        ("stream.matches('(')", "'('", "'(' is no pattern"),
        ("stream.matches(group)", "group", "its pattern in quotes"),
        ("said('?!')", "'?!'", "takes a word"),
        # Time.
        ("absent('Person', '10x')", "'10x'", "write it like '30s'"),
        ("absent('Person', 10)", "10", "a duration is written in quotes"),
        ("absent('Person', '0s')", "'0s'", "this duration is zero"),
        ("absent(stream, '10m')", "stream", "the label is written in quotes"),
        ("absent('Person')", "absent", "absent() is written absent('Person', '10m')"),
        ("absent('Person', '10m', 2)", "2)", "a number above 0, up to 1"),
        ("absent('Person', '10m', '1')", "'1'", "a number above 0, up to 1"),
        ("then(true, 5, '1s')", "5", "each of the two of then() is true or false, but this is a whole number"),
        ("then(true, true)", "then", "then() is written then(label('Dog')"),
        ("words.exists(w, then(w == 'a', true, '1s'))", "w == 'a'", "then() can't see w of the loop around it"),
        ("words.exists(stream, then(stream == 'a', true, '1s'))", "stream == 'a'", "then() can't see stream"),
        ("duration('1s') == duration('1s')", "duration", "stands in absent() and then() alone"),
        # What fails on every segment in which nobody speaks, or in which nobody is.
        ("words[0] == 'a'", "words", "ask first, as in size(words) > 0"),
        ("1 / people.count > 0", "1", "division by zero"),
        ("share('Dog', 'audio') / label('Dog') > 0.5", "share", "0 divided by 0"),
        # The text itself.
        ("label('Dog' > 0.5", "", "a comma or ) is missing"),
        ("label('Dog') > 0.5)", ")", None),
        ("(true", "", "it ends too early: ) is missing"),
        ("true and false", "and", "write && for and"),
        ("not true", "not", "write ! for not"),
        ("stream = 'a'", "= ", "= can't stand here: write =="),
        ("true & true", "& ", "write &&"),
        ("label(“Dog”) > 0.5", "“", 'write "'),
        ("label（'Dog'） > 0.5", "（", "write ("),
        ("stream == 'a", "'a", "the closing quote is missing"),
        ("stream == '\\q'", "'\\q'", "an escape that is none"),
        ("stream == b'a'", "b'a'", "bytes are of no use here"),
        ("people.count > 99999999999999999999", "99999", "too large a number"),
        ("people.count > 5x", "5x", "neither a number nor a name"),
        ("group == null", "null", "nothing here is ever null"),
        ("for > 1", "for", "a word that CEL keeps to itself"),
        ("", "", "it ends too early"),
        ("true true", "true", "expected an operator"),
        ("true ? false", "", "it ends too early: : is missing"),
        ("[1, 2 == 2", "", "a comma or ] is missing"),
        ("{1 2}", "2", ": is missing between a key and its value"),
        ("stream.5", ".5", "expected an operator"),
        ("Point{x: 1}", "{", "expected an operator"),
        ("(" * 60 + "true" + ")" * 60, None, DEEP),
        ("!" * 60 + "true", None, DEEP),
        ("1" + " + 1" * 60 + " > 0", None, DEEP),
        ("(" * 20 + "1" + " + 1 + 1 + 1)" * 20 + " > 0", None, DEEP),
        ("true ? true : " * 60 + "true", None, DEEP),
        ("[" * 60 + "]" * 60 + " == []", None, DEEP),
    ],
)
def test_what_is_told(source: str, place: str | None, text: str | None) -> None:
    """The error says what is wrong, names the nearest that would do, and points at its place."""
    with pytest.raises(ExpressionError) as told:
        Expression.compile(source, NAMES)
    assert text is None or text in str(told.value)
    assert "\n" not in str(told.value)
    if place is not None:
        assert source[told.value.offset :].startswith(place)


def test_labels_that_are_not_known_are_not_refused() -> None:
    """Where nobody knows the names yet, any will do; what else is wrong is told all the same."""
    assert Expression.compile("label('Unicorn') > 0.5", None).labels == ("Unicorn",)
    with pytest.raises(ExpressionError):
        Expression.compile("label('Unicorn') > 0.5 && strem == ''", None)


@pytest.mark.parametrize(
    "source",
    [
        "(" * 30 + "label('Dog')" + ")" * 30 + " > 0.5",
        " || ".join(["label('Dog') > 0.99"] * 200),
        " && ".join(f"(label('Dog') > 0.{at} || people.count > {at})" for at in range(90)),
        "1" + " + 1" * 30 + " > 0",
        "(" * 12 + "1" + " + 1 + 1)" * 12 + " > 0",
    ],
)
def test_large_conditions(source: str) -> None:
    """What a program may write for a person is taken: long rows of && and ||, more parentheses than anybody reads."""
    Expression.compile(source, NAMES)
