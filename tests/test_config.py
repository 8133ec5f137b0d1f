"""Shapes, checks, masking."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import (
    Config,
    IceServer,
    StreamConfig,
    check,
    check_stream,
    diff,
    ice_servers_of,
    is_forbidden_host,
    mask_text,
    mask_url,
    without_effect,
)
from streamer.speechconfig import SpeechConfig, StreamSpeech

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Z")), min_size=1)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("rtsp://user:secret@10.0.0.7:554/main?channel=1", "rtsp://***@10.0.0.7:554/main?channel=1"),
        ("rtsp://user:se@cr/et?@host/main", "rtsp://***@host/main"),
        ("rtsp://user@host/main", "rtsp://***@host/main"),
        ("rtsp://user:secret", "rtsp://***"),
        (
            "rtsp://10.0.0.7:554/user=admin&password=secret&channel=1",
            "rtsp://10.0.0.7:554/user=***&password=***&channel=1",
        ),
        ("https://host/live?token=abc&stream=2", "https://host/live?token=***&stream=2"),
        ("https://host/live?t=0123456789abcdef", "https://host/live?t=***"),
        ("https://host/live?api_key=a=b/c", "https://host/live?api_key=***"),
        ("user:secret@host", "***@host"),
        ("rtsp://[fe80::1]:554/x", "rtsp://[fe80::1]:554/x"),
        ("rtsp://host:554/x", "rtsp://host:554/x"),
        ("ws://HOST:PORT/v1/subscribe", "ws://HOST:PORT/v1/subscribe"),
        ("ws://user:PORT/v1/subscribe", "ws://***/v1/subscribe"),
        ("ws://user:pw@HOST:PORT", "ws://***@HOST:PORT"),
        ("file:/clips/a@b.mp4", "file:/clips/a@b.mp4"),
        ("whip", "whip"),
        ("", ""),
        ("://", "://"),
    ],
)
def test_mask_url(url: str, masked: str) -> None:
    """User info and secrets in parameters are masked, the rest of an address stays readable."""
    assert mask_url(url) == masked


@given(WORDS, st.sampled_from(["", "user:", "user@x:"]), st.sampled_from(["host", "10.0.0.7:554"]))
def test_a_password_never_survives_masking(password: str, user: str, host: str) -> None:
    """Whatever characters a password is made of, what stands before the last `@` is gone."""
    assert mask_url(f"rtsp://{user}{password}@{host}/main") == f"rtsp://***@{host}/main"


@given(st.text("abcXYZ-_%!$", min_size=1), st.text("abcXYZ019-_%!$.,)", min_size=1))
def test_a_password_without_a_host_never_survives_masking(user: str, password: str) -> None:
    """Where the host was cut off, what stands behind the colon and is neither a port nor `PORT` itself is gone."""
    address = f"{user}:{password}"
    for masked in (mask_url(f"rtsp://{address}/x"), mask_text(f"can't open rtsp://{address}/x: refused")):
        readable = re.fullmatch(r"\d*[.,)]*", password) is not None or (user, password.rstrip(".,)")) == (
            "HOST",
            "PORT",
        )
        assert (f"//{address}/" in masked) is readable


def test_what_our_own_messages_advise_stays_readable() -> None:
    """Placeholders and plain addresses are no secrets."""
    for text in (
        "write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix://PATH",
        "write ws://HOST:PORT/v1/subscribe",
        "nothing answers at 'http://[::1]:8080', (http://cam-7.local:80).",
    ):
        assert mask_text(text) == text


@given(st.text())
def test_masking_takes_anything(text: str) -> None:
    """Masking never fails, whatever it is given."""
    mask_url(text)
    mask_text(text)


def test_mask_text_masks_every_url_and_leaves_the_rest() -> None:
    """Other libraries' messages keep their words and lose their passwords."""
    text = "can't open rtsp://u:p@cam:554/x: refused (u:p@cam), see https://h:80/y at 10:30 by a@b.org"
    masked = "can't open rtsp://***@cam:554/x: refused ***@cam), see https://h:80/y at 10:30 by a@b.org"
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.1.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "fe80::1",
        "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "metadata.google.internal.", "100.100.100.200",
        "224.0.0.1", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_metadata_and_link_local_hosts_are_known_in_every_notation(host: str) -> None:
    """An address can be written in many ways; all of the forbidden ones are found."""
    assert is_forbidden_host(host)


@pytest.mark.parametrize("host", ["10.0.0.7", "192.168.1.20", "127.0.0.1", "::1", "camera.local", "fd12::1", "8.8.8.8"])
def test_cameras_addresses_are_allowed(host: str) -> None:
    """Cameras live on private networks, which are allowed."""
    assert not is_forbidden_host(host)


@pytest.mark.parametrize(
    ("source", "in_file", "through_api"),
    [
        ("rtsp://10.0.0.7/main", True, True),
        ("rtsps://user:p%40ss@10.0.0.7:322/main", True, True),
        ("whip", True, True),
        ("file:/clips/door.mp4", True, False),
        ("file:/clips/a clip.mp4", True, False),
        ("device:/dev/video0", True, False),
        ("rtsp://169.254.169.254/latest", True, False),
        ("http://10.0.0.7/main", False, False),
        ("rtsp://", False, False),
        ("rtsp://host:99999/x", False, False),
        ("rtsp://user:pa/ss@host/x", False, False),
        ("rtsp://host/x\r\nInjected: yes", False, False),
        ("rtsp://host/a b", False, False),
        ("file:", False, False),
        ("", False, False),
        ("rtsp://h/" + "x" * 5000, False, False),
    ],
)
def test_sources(source: str, in_file: bool, through_api: bool) -> None:
    """The file may name files and devices, the API may not; nothing that is no URL gets through either."""
    entry = StreamConfig(source=source)
    assert (not list(check_stream(entry))) == in_file
    assert (not list(check_stream(entry, from_api=True))) == through_api


def test_no_fault_tells_a_password() -> None:
    """A source that is refused is shown masked."""
    for source in ("ftp://user:hunter22@host/x", "rtsp://user:hunter22/x@host/y", "rtsp://user:hunter22@host:x/"):
        (fault,) = check_stream(StreamConfig(source=source))
        assert "hunter22" not in fault.text


def test_a_stream_without_modalities_is_a_fault() -> None:
    """With video and audio both off nothing could be labelled."""
    (fault,) = check_stream(StreamConfig(source="whip", video=False, audio=False))
    assert "both off" in fault.text


def test_diff_names_only_what_changed() -> None:
    """Streams whose entries are equal are in no list."""
    old = Config(streams={name: StreamConfig(source=f"rtsp://h/{name}") for name in "abc"})
    new = Config(
        streams={**old.streams, "d": StreamConfig(source="rtsp://h/d"), "b": StreamConfig(source="rtsp://h/x")}
    )
    del new.streams["a"]
    found = diff(old, new)
    assert (found.added, found.changed, found.removed) == (["d"], ["b"], ["a"])


def test_what_has_no_effect_is_told_only_where_it_is_used() -> None:
    """A plain configuration warns of nothing; settings of speech that nobody listens by are told."""
    silent = {"a": StreamConfig(source="rtsp://h/a")}
    assert not list(without_effect(Config(streams=silent)))
    settings = SpeechConfig(keywords=["help"])
    (warning,) = without_effect(Config(streams=silent, speech=settings))
    assert warning.path == ("speech",)
    heard = {"a": StreamConfig(source="rtsp://h/a", speech=True)}
    assert not list(without_effect(Config(streams=heard, speech=settings)))


@pytest.mark.parametrize(
    ("speech", "path"),
    [
        (SpeechConfig(keywords=["help", "…"]), ("speech", "keywords", 1)),
        (SpeechConfig(keywords=["help", "help"]), ("speech", "keywords", 1)),
        (SpeechConfig(keywords=["x" * 65]), ("speech", "keywords", 0)),
        (SpeechConfig(dictionary=[""]), ("speech", "dictionary", 0)),
        (SpeechConfig(language="klingon"), ("speech", "language")),
    ],
)
def test_what_is_wrong_with_speech_is_told_with_its_place(speech: SpeechConfig, path: tuple[str | int, ...]) -> None:
    """Keywords that are no words, doubled or too long, and languages that nobody recognises."""
    (fault,) = check(Config(speech=speech))
    assert fault.path == path


def test_a_streams_speech_is_checked_too() -> None:
    """Its language has to be one, and its sound has to be taken in."""
    (fault,) = check_stream(StreamConfig(source="whip", speech=StreamSpeech(language="xx")))
    assert fault.path == ("speech", "language")
    (fault,) = check_stream(StreamConfig(source="whip", speech=True, audio=False))
    assert fault.path == ("speech",)


def test_streams_that_wait_for_publishers_are_served() -> None:
    """A `whip` stream and ICE servers have an effect: nothing warns of them."""
    config = Config(streams={"a": StreamConfig(source="whip")}, ice_servers=["stun:192.0.2.1:3478"])
    assert not list(without_effect(config)) and not list(check(config))


def test_ice_servers_have_one_shape_whichever_they_were_written_in() -> None:
    """A bare URL is an entry with that URL."""
    turn = IceServer(urls=["turn:192.0.2.1"], username="u", credential="c")
    assert ice_servers_of(Config(ice_servers=["stun:h", turn])) == [IceServer(urls=["stun:h"]), turn]


@pytest.mark.parametrize(
    "server", ["http://h", "stun:", "stun:h/path", "turn:h", IceServer(urls=["turns:h"], username="u")]
)
def test_ice_servers_that_browsers_refuse_are_told(server: str | IceServer) -> None:
    """A URL of another kind, or a TURN server without its password: every publisher would fail by it."""
    (fault,) = check(Config(ice_servers=[server]))
    assert fault.path[:2] == ("ice_servers", 0)


def test_the_default_configuration_has_no_faults() -> None:
    """Every default passes the checks that a file must pass."""
    assert not list(check(Config()))


def test_clips_are_kept_only_where_it_says_so() -> None:
    """`annotate` is off unless it is written down."""
    assert not StreamConfig(source="rtsp://h/x").annotate and StreamConfig(source="rtsp://h/x", annotate=True).annotate
