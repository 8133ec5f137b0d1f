"""Reading YAML: every fault with its place and remedy, nothing hostile gets far."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.config import IceServer, StreamConfig
from streamer.configfile import MAX_BYTES, load, parse_stream_entry, problems
from streamer.configvalue import parse_duration_ns, parse_size_bytes
from streamer.errors import UserError

S = 1_000_000_000
FULL = """\
latency_bound: 1s
admission: refuse            # or degrade
streams:
  door:  {source: "rtsp://user:${DOOR_PASSWORD}@10.0.0.7/main", audio: true, speech: false, people: presence, weight: 1, group: front}
  lobby: {source: whip}
ice_servers: []              # none by default: nothing outside is asked
redis: {url: "redis://127.0.0.1:6379/0", retention: 1h, max_memory: 512mb}
speech: {script: simplified, redact: true}
tokens: []
alerts:
  - {name: glass, when: "label('Glass') > 0.6", stream: "*", for: 1s, cooldown: 60s, send: [ops], send_cleared: false}
send:
  ops: {url: "https://example.org/hook", secret: "${HOOK_SECRET}", allow_private: false}
"""  # noqa: E501
SECRETS = {"DOOR_PASSWORD": "hunter22", "HOOK_SECRET": "tr0ub4dor"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its configuration."""
    return tmp_path / "streamer.yaml"


def faults(file: Path, text: str | bytes, **environment: str) -> list[str]:
    """The problems of `text`, each without the file's name."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return [line.removeprefix(f"{file}:") for line in problems(file, environment)]


def test_the_documented_example_is_read(file: Path) -> None:
    """Every documented key is accepted and arrives where it belongs."""
    file.write_text(FULL)
    config = load(file, SECRETS).config
    assert config.streams["door"].source == "rtsp://user:hunter22@10.0.0.7/main"
    assert config.streams["door"].people == "presence" and config.streams["door"].group == "front"
    assert config.streams["lobby"] == StreamConfig(source="whip")
    assert (config.redis.retention_ns, config.redis.max_memory_bytes) == (3600 * S, 512 * 2**20)
    (alert,) = config.alerts
    assert (alert.for_ns, alert.cooldown_ns, alert.send) == (S, 60 * S, ["ops"])
    assert config.send["ops"].secret == "tr0ub4dor"


def test_settings_without_effect_are_told_with_their_place(file: Path) -> None:
    """What nothing makes use of is said plainly, and is no fault."""
    file.write_text("streams:\n  a: {source: whip}\nspeech: {keywords: [help]}\n")
    warnings = load(file).warnings
    assert [line.removeprefix(f"{file}:").split(" ")[0] for line in warnings] == ["3:1:"]
    assert "no stream here has `speech: true`" in warnings[0]
    assert problems(file) == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("streams: {}\nlatencybound: 1s\n", "2:15:", "did you mean `latency_bound`?"),
        ("streams:\n  a: {sourc: whip}\n", "2:14:", "did you mean `source`?"),
        ("streams:\n  a: {audio: true}\n", "2:3:", "`source` is missing"),
        ("streams:\n  a: rtsp://h/x\n", "2:6:", "expected settings: source"),
        ("streams:\n  a: {source: whip}\n  a: {source: whip}\n", "3:3:", "a second time, the first is on line 2"),
        ("streams:\n  Door: {source: whip}\n", "2:3:", "'Door' can't name a stream"),
        ("streams:\n  a: {source: http://h/}\n", "2:15:", "is no source: use rtsp://"),
        ("streams:\n  a: {source: whip, audio: maybe}\n", "2:28:", "expected true or false"),
        ("streams:\n  a: {source: whip, weight: 0}\n", "2:29:", "expected a number above 0"),
        ("streams:\n  a: {source: whip, weight: .nan}\n", "2:29:", "expected a number above 0"),
        ("streams:\n  a: {source: whip, frames_per_second: 2.5}\n", "2:40:", "expected a whole number"),
        ("streams:\n  a: {source: whip, people: presense}\n", "2:29:", "did you mean presence?"),
        ("streams:\n  a: {source: whip, group: no}\n", "2:28:", 'put it in quotes, "no"'),
        ("streams:\n  a: {source: [whip]}\n", "2:7:", "expected text, not a list"),
        ("streams:\n  a: {source: !!python/name:os.system x}\n", "2:15:", "YAML tags"),
        ("streams: {}\nlatency_bound: 1\n", "2:16:", "expected a duration: write it like 500ms"),
        ("streams: {}\nlatency_bound: 100ms\n", "2:16:", "between 200ms and 60s"),
        ("streams: {}\nredis: {max_memory: 512 parsecs}\n", "2:21:", "expected a size: write it like 512mb"),
        ("streams: {}\nredis: {url: http://h}\n", "2:14:", "begins with redis://"),
        ("streams: {}\nadmission: degrate\n", "2:12:", "did you mean degrade?"),
        ("streams: {}\ntokens: secret\n", "2:9:", "expected a list"),
        ("streams: {}\ntokens: ['a b']\n", "2:10:", "without spaces"),
        ("streams: {}\nalerts: [{name: a, when: x, send: [nobody]}]\n", "2:36:", "not in the `send` section"),
        ("streams: {}\nallowed_origins: [example.org]\n", "2:19:", "an origin is a scheme, host and port"),
        ("latency_bound: 1s\n", "1:1:", "`streams` is missing"),
        ("", "1:1:", "the file is empty"),
        ("[1, 2]", "1:1:", "expected settings: streams"),
        ("streams: {}\n---\nstreams: {}\n", "2:1:", "not YAML"),
        ("streams: {a: {source: whip}\nb: 1\n", "2:1:", "not YAML"),
        ("streams: {}\n\tb: 1\n", "2:1:", "not YAML"),
        (b"streams: {}\n# caf\xe9\n", "2:6:", "save the file as UTF-8"),
        (b"streams: {}\x00", "1:1:", "not YAML"),
    ],
)
def test_each_fault_has_its_place_and_remedy(file: Path, text: str | bytes, place: str, words: str) -> None:
    """A fault is told with line and column, and what to do."""
    (fault,) = faults(file, text)
    assert fault.startswith(place) and words in fault


def test_all_faults_are_told_at_once(file: Path) -> None:
    """One run of the check shows everything, in the file's order; loading shows the first and counts the rest."""
    text = "latency_bound: 1\nstreams:\n  A: {source: ftp://h/, weight: -1}\n  b: {sauce: x}\nalert: []\n"
    found = faults(file, text)
    assert [line.split(" ")[0] for line in found] == ["1:16:", "3:3:", "3:15:", "3:33:", "4:14:", "5:1:"]
    with pytest.raises(UserError, match=r":1:16: .* \(and 5 more: streamer check"):
        load(file)


def test_the_environment_is_read_where_it_is_asked_for(file: Path) -> None:
    """`${NAME}` is replaced wherever a value stands, numbers too; `$${` stays a plain `${`."""
    file.write_text('streams:\n  a: {source: "rtsp://${HOST}/${PATH_}/$${x}", weight: "${W}", audio: "${A}"}\n')
    stream = load(file, {"HOST": "10.0.0.7", "PATH_": "main", "W": "2.5", "A": "off"}).config.streams["a"]
    assert stream == StreamConfig(source="rtsp://10.0.0.7/main/${x}", weight=2.5, audio=False)


@pytest.mark.parametrize("name", ["NOT_SET", "9", "", "a b"])
def test_a_variable_that_is_not_there_is_a_fault(file: Path, name: str) -> None:
    """An unset or impossible name is told with its place instead of becoming an empty password."""
    (fault,) = faults(file, f'streams:\n  a: {{source: "rtsp://u:${{{name}}}@h/"}}\n')
    assert fault.startswith("2:15:") and "environment" in fault


@pytest.mark.parametrize("source", ["${S}", "rtsp://u:${S}@", "${S}://h/", "rtsp://h:${S}/x", "ftp://u:${S}@h/"])
def test_what_comes_from_the_environment_is_never_shown(file: Path, source: str) -> None:
    """However wrong a value is, the error says the variable's name and not what is in it."""
    found = faults(file, f'streams:\n  a: {{source: "{source}"}}\n', S="hunter22'\\x")
    assert found and "hunter22" not in " ".join(found)


def test_unquoted_braces_get_the_remedy_that_helps(file: Path) -> None:
    """A bare `${NAME}` inside braces is YAML's trap, and the error says so."""
    (fault,) = faults(file, "streams:\n  a: {source: rtsp://h/${PATH}}\n", PATH="x")
    assert 'put "${NAME}" in quotes' in fault


def test_anchors_and_merge_keys_work(file: Path) -> None:
    """Streams may share settings by `<<`, and their own settings win."""
    file.write_text("streams:\n  a: &all {source: whip, audio: false, group: x}\n  b: {<<: *all, group: y}\n")
    streams = load(file).config.streams
    assert streams["b"] == StreamConfig(source="whip", audio=False, group="y")


def test_ice_servers_are_text_or_entries(file: Path) -> None:
    """Both ways in which people write ICE servers are read."""
    file.write_text("streams: {}\nice_servers: ['stun:h:3478', {urls: ['turn:h'], username: u, credential: c}]\n")
    found = load(file).config.ice_servers
    assert found == ["stun:h:3478", IceServer(urls=["turn:h"], username="u", credential="c")]


BOMB = "tokens: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"ice_servers{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 400_000,
        "{a: " * 200_000,
        "streams: " + "[" * 100,
        "streams: &a\n  x: *a\n",
        BOMB,
        "streams:\n" + "  a: &s {source: whip}\n" + "".join(f"  b{i}: {{<<: [*s]}}\n" for i in range(100)),
        "x" * (MAX_BYTES + 1),
        "a: " + "1" * 500_000,
        "streams: {}\nlatency_bound: " + "1" * 100_000 + "s\n",
        '"' + "\\u0000" * 1000 + '": 1',
        "%YAML 9.9\n---\nstreams: {}\n",
        "? [a, b]\n: c\n",
    ],
)
def test_hostile_files_cost_an_error_and_little_time(file: Path, text: str) -> None:
    """Depth, expansion, size and odd keys are refused with an error, within a fraction of a second."""
    file.write_text(text)
    begun_s = time.process_time()
    assert problems(file)
    assert time.process_time() - begun_s < 2.0


def test_aliases_that_multiply_are_stopped(file: Path) -> None:
    """A chain of aliases that would read as billions of values ends after a bounded number."""
    rule = "  - &r {name: a, when: x, send: &s [" + "ops, " * 999 + "ops]}\n"
    nested = "streams: {}\nalerts:\n" + rule + "  - *r\n" * 999
    file.write_text(nested)
    begun_s = time.process_time()
    assert any("aliases make too much" in fault for fault in problems(file))
    assert time.process_time() - begun_s < 5.0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_no_file_makes_a_traceback(file: Path, content: bytes) -> None:
    """Whatever bytes a file holds, it is read or it has problems, and nothing else comes out."""
    faults(file, content)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_file_that_cannot_be_read_is_one_clear_problem(file: Path, make: object) -> None:
    """A missing file or a directory is told by name."""
    make(file)  # type: ignore[operator]
    (fault,) = problems(file)
    assert str(file) in fault and "can't be read" in fault


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1s", S), ("500ms", S // 2), ("1h30m", 5400 * S), ("1.5s", 3 * S // 2), ("0s", 0), ("1d", 86_400 * S)],
)
def test_durations(text: str, ns: int) -> None:
    """Durations are a number and a unit, or several in a row."""
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "-1s", "1s2", "1x", "1e3s", "٣s", "9999999999d", "1s" * 40])
def test_what_is_no_duration(text: str) -> None:
    """Without a unit, negative, padded, or absurdly long: refused."""
    with pytest.raises(ValueError, match="write it like"):
        parse_duration_ns(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512mb", 512 * 2**20), ("1k", 1000), ("1kb", 1024), ("1.5GB", 3 * 2**29), ("1048576", 2**20)]
)
def test_sizes(text: str, size: int) -> None:
    """Sizes count as the store's own configuration does."""
    assert parse_size_bytes(text) == size


def test_entries_of_the_api() -> None:
    """A stream's entry as JSON is what it would be in the file."""
    entry = parse_stream_entry(b'{"source": "rtsp://10.0.0.7/main", "weight": 2, "group": "front"}')
    assert entry == StreamConfig(source="rtsp://10.0.0.7/main", weight=2.0, group="front")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 60_000, "not JSON|Expected `object`"),
        (b'{"source": "rtsp://h/", "x": ' + b"[" * 60_000, "not JSON|unknown field"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'{"source": 1}', "Expected `str`"),
        (b'{"sauce": "x"}', "unknown field `sauce`; an entry takes source"),
        (b"{}", "missing required field `source`"),
        (b'{"source": "rtsp://h/", "weight": -1}', "weight"),
        (b'{"source": "rtsp://h/", "weight": 1e999}', "weight"),
        (b'{"source": "file:/etc/passwd"}', "configuration file only"),
        (b'{"source": "rtsp://[::ffff:a9fe:a9fe]/"}', "link-local"),
        (b'{"source": "rtsp://h/\\r\\nX: y"}', "control characters"),
    ],
)
def test_bodies_that_are_refused(body: bytes, words: str) -> None:
    """Each bad body gets one error that says what is wrong with it."""
    with pytest.raises(UserError, match=words):
        parse_stream_entry(body)


def test_the_api_never_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller of the API can't learn a variable by naming it."""
    monkeypatch.setenv("HOST_", "10.0.0.7")
    with pytest.raises(UserError):
        parse_stream_entry(b'{"source": "rtsp://${HOST_}:x/"}')
    assert parse_stream_entry(b'{"source": "rtsp://h/${HOST_}"}').source == "rtsp://h/${HOST_}"
