"""`streamer privacy`: every fact follows from the configuration, no secret is told, and what is off is not decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from av.container import InputContainer
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.alertconfig import AlertConfig, OutboxConfig, PicturesConfig, SendConfig
from streamer.cli import main
from streamer.commands.privacy import Kept, Notice, Report, StreamFacts, facts_of
from streamer.commands.privacy_view import words_of
from streamer.config import Config, IceServer, RedisConfig, StreamConfig
from streamer.peopleconfig import ZoneConfig
from streamer.sources import replay
from streamer.sources.files import open_file
from tests.conftest import eventually
from tests.media_factory import Spec
from tests.sources.recorder import Recorder

S = 1_000_000_000
H = 3600 * S
PLAIN = Config(
    streams={
        "door": StreamConfig(source="rtsps://10.0.0.7/main"),
        "yard": StreamConfig(source="whip"),
    },
    tokens=["a-token"],
)
PICTURED = AlertConfig(name="glass", when="label('Glass') > 0.6", stream="door", snapshot=True, clip_ns=6 * S)
QUIET_RULE = AlertConfig(name="bark", when="label('Dog') > 0.5", stream="door", send=["ops"])


def door(config: Config, **changes: object) -> Config:
    """`config` with its stream `door` changed."""
    return replace(config, streams={**config.streams, "door": replace(config.streams["door"], **changes)})


def of(report: Report, name: str = "door") -> StreamFacts:
    return next(stream for stream in report.streams if stream.name == name)


def kinds(report: Report) -> set[str]:
    return {notice.kind for notice in report.notices}


def about(report: Report, kind: str) -> list[str]:
    return next(notice.about for notice in report.notices if notice.kind == kind)


def said(config: Config) -> str:
    """Everything the report says, in one line."""
    return " ".join(f"{head} {word} {text}" for head, rows in words_of(facts_of(config)) for word, text in rows)


def pictures(stream: StreamFacts) -> list[Kept]:
    return [kept for kept in stream.kept if kept.blurred is not None]


# -- each fact follows from the configuration --------------------------------------------------------------------------


def test_a_plain_configuration_shows_and_sends_nothing() -> None:
    """Without preview, rules and receivers no picture is kept or shown, nothing is on disk, and nothing is sent."""
    report = facts_of(PLAIN)
    for stream in report.streams:
        assert not pictures(stream) and not stream.shows_pictures and not stream.sent_to and not stream.rules
        assert {kept.where for kept in stream.kept} == {"store", "memory"}
    assert report.alerts is None and report.receivers == [] and report.ice_servers == []
    assert report.store.own and report.store.address is None
    assert kinds(report) == {"changes_by_api"}
    assert "Nothing is sent to anybody." in said(PLAIN) and "no alert and no picture is written to disk" in said(PLAIN)


def test_preview_changes_what_is_shown_and_nothing_else() -> None:
    """It adds small pictures in memory, not blurred, to this stream, and what should be known of that."""
    before, after = facts_of(PLAIN), facts_of(door(PLAIN, preview=True))
    added = Kept(what="small_pictures", where="memory", keep_s=120.0, blurred=False)
    assert of(after) == replace(of(before), shows_pictures=True, kept=[*of(before).kept, added])
    assert of(after, "yard") == of(before, "yard")
    assert kinds(after) - kinds(before) == {"preview_not_blurred"}
    assert replace(after, streams=[], notices=[]) == replace(before, streams=[], notices=[])


def test_a_rule_with_pictures_changes_those_of_the_streams_it_matches() -> None:
    """Their encoded pictures are kept for 20 s in memory, blurred ones on disk for as long as configured."""
    config = replace(PLAIN, alerts=[PICTURED], pictures=PicturesConfig(keep_ns=2 * H))
    bare = replace(PLAIN, alerts=[replace(PICTURED, snapshot=False, clip_ns=0)])
    stream = of(facts_of(config))
    assert stream.picture_rules == ["glass"] and not stream.shows_pictures
    assert [(kept.where, kept.keep_s, kept.blurred) for kept in pictures(stream)] == [
        ("memory", 20.0, False),
        ("disk", 7200.0, True),
    ]
    assert not pictures(of(facts_of(bare))) and facts_of(bare).alerts is not None
    assert of(facts_of(config), "yard") == of(facts_of(PLAIN), "yard")
    assert kinds(facts_of(config)) - kinds(facts_of(bare)) == {"faces_missed"}


@pytest.mark.parametrize("off", ["video", "audio"])
def test_a_modality_that_is_off_is_told_to_be_off(off: str) -> None:
    """The fact changes, the other stays, and the words say that nothing of it is decoded."""
    config = door(PLAIN, **{off: False})
    stream = of(facts_of(config))
    assert {"video": stream.video, "audio": stream.audio} == {"video": True, "audio": True} | {off: False}
    assert f"Of {'pictures' if off == 'video' else 'sound'} nothing is decoded" in said(config)
    assert "nothing is decoded" not in said(PLAIN)


def test_without_video_there_are_no_pictures_whatever_else_is_on() -> None:
    """Preview and rules with pictures find none to show, keep or make."""
    stream = of(facts_of(door(replace(PLAIN, alerts=[PICTURED]), video=False, preview=True)))
    assert not pictures(stream) and not stream.shows_pictures and not stream.picture_rules
    assert stream.rules == ["glass"]


@given(
    video=st.booleans(),
    audio=st.booleans(),
    preview=st.booleans(),
    people=st.sampled_from(["off", "presence", "count"]),
    rule=st.sampled_from([None, QUIET_RULE, PICTURED]),
)
def test_pictures_are_kept_where_something_asks_for_them_and_nowhere_else(
    video: bool,
    audio: bool,
    preview: bool,
    people: Literal["off", "presence", "count"],
    rule: AlertConfig | None,
) -> None:
    """Whatever is configured: pictures need `video`, and `preview` or a rule that makes them; people need `people`."""
    config = door(PLAIN, video=video, audio=audio, preview=preview, people=people)
    config = replace(config, alerts=[] if rule is None else [rule], send={"ops": SendConfig(url="https://a.example")})
    stream = of(facts_of(config))
    kept = {one.what for one in stream.kept}
    assert ("small_pictures" in kept) == stream.shows_pictures == (video and preview)
    assert ("encoded_pictures" in kept) == ("blurred_pictures" in kept) == (video and rule is PICTURED)
    assert ("people" in kept) == (people != "off")
    assert ("alerts" in kept) == (rule is not None)
    assert all(one.blurred for one in stream.kept if one.blurred is not None and one.where == "disk")
    assert stream.sent_to == (["ops"] if rule is QUIET_RULE else [])


def test_people_and_places_are_told() -> None:
    """`count` is told with what zones say all the same, where there are any; zones by their names."""
    zone = ZoneConfig(area=[[0, 0.5], [1, 0.5], [1, 1]])
    config = door(PLAIN, people="count", zones={"mat": zone})
    assert of(facts_of(config)).places == ["mat"] and about(facts_of(config), "count_tells_more") == ["door"]
    assert "published is how many there are." in said(config)
    present = door(config, people="presence")
    assert "count_tells_more" not in kinds(facts_of(door(PLAIN, people="count")))
    assert "count_tells_more" not in kinds(facts_of(present)) and "where each is" in said(present)


def test_times_and_places_of_what_is_kept_are_those_configured(tmp_path: Path) -> None:
    """Retention, outbox and pictures: each number is the configuration's."""
    config = replace(
        PLAIN,
        redis=RedisConfig(url="rediss://:pw@store.example/0", retention_ns=48 * H, max_memory_bytes=1 << 30),
        alerts=[PICTURED],
        outbox=OutboxConfig(path=str(tmp_path / "book.sqlite3"), keep_ns=240 * H),
        pictures=PicturesConfig(keep_ns=36 * H, max_bytes=1 << 20),
    )
    report = facts_of(config)
    assert report.store.retention_s == 48 * 3600 and report.store.max_memory_bytes == 1 << 30
    assert not report.store.own and report.store.address == "rediss://***@store.example/0"
    assert report.alerts is not None
    assert (report.alerts.path, report.alerts.keep_s) == (str(tmp_path / "book.sqlite3"), 240 * 3600)
    assert report.alerts.pictures_path == str(tmp_path / "pictures") and report.alerts.pictures_max_bytes == 1 << 20
    assert {"long_retention", "long_pictures", "foreign_store"} <= kinds(report)
    assert "2 days" in said(config) and "10 days" in said(config)


@pytest.mark.parametrize(
    ("url", "kind", "host", "encrypted"),
    [
        ("https://u:p@hook.example.org:8443/x?token=y", "webhook", "hook.example.org", True),
        ("http://10.0.0.9/x", "webhook", "10.0.0.9", False),
        ("mqtts://u:p@broker.example.org/top", "broker", "broker.example.org", True),
        ("alertmanager+http://am.example.org", "alertmanager", "am.example.org", False),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "service", None, None),
        ("gotifys://push.example.org/token", "service", "push.example.org", True),
    ],
)
def test_receivers_are_told_by_their_hosts(url: str, kind: str, host: str | None, encrypted: bool | None) -> None:
    """Of a service of which any part may be a token, only the scheme is."""
    config = replace(PLAIN, send={"ops": SendConfig(url=url)}, alerts=[QUIET_RULE])
    (receiver,) = facts_of(config).receivers
    assert (receiver.kind, receiver.host, receiver.encrypted, receiver.used) == (kind, host, encrypted, True)
    assert ("plain_receiver" in kinds(facts_of(config))) == (encrypted is False)
    assert ("foreign_service" in kinds(facts_of(config))) == (kind == "service" and host is None)
    idle = facts_of(replace(config, alerts=[]))
    assert not idle.receivers[0].used and not {"plain_receiver", "foreign_service"} & kinds(idle)


Change = Callable[[Config], Config]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("no_tokens", lambda config: replace(config, tokens=[])),
        ("preview_without_tokens", lambda config: replace(door(config, preview=True), tokens=[])),
        ("every_origin", lambda config: replace(config, allowed_origins=["*"])),
        ("plain_source", lambda config: door(config, source="rtsp://10.0.0.7/main")),
        ("plain_store", lambda config: replace(config, redis=RedisConfig(url="redis://10.0.0.2/0"))),
        ("public_ice_server", lambda config: replace(config, ice_servers=["stun:stun.example.org:3478"])),
        ("pictures_of_all", lambda config: replace(config, alerts=[replace(PICTURED, stream="*")])),
        ("kept_longer", lambda config: replace(config, alerts=[QUIET_RULE])),
    ],
)
def test_what_is_easily_overlooked_is_told_where_it_is_so(kind: str, change: Change) -> None:
    """Each notice is there with its reason and not without."""
    assert kind not in kinds(facts_of(PLAIN)) and kind in kinds(facts_of(change(PLAIN)))


@pytest.mark.parametrize("near", ["stun:10.0.0.3:3478", "stun:[fd00::3]:3478", "turn:relay:3478", "stun:relay.lan"])
def test_an_ice_server_of_ones_own_network_is_not_called_public(near: str) -> None:
    """It is told, and nothing more is said of it."""
    report = facts_of(replace(PLAIN, ice_servers=[IceServer(urls=[near], username="u", credential="c")]))
    assert report.ice_servers == [near] and "public_ice_server" not in kinds(report)


# -- secrets -----------------------------------------------------------------------------------------------------------

SECRETS = st.text("abcXYZ019@:/?#&=%!$-_.~", min_size=4, max_size=20).map(lambda text: f"Qz{text}zQ")


@given(SECRETS)
def test_no_secret_is_told(secret: str) -> None:
    """A password in any URL, a token, a webhook's secret or an ICE credential is neither in the words nor in the JSON,
    whole or in its parts, even where it was not percent-encoded as it should be."""
    config = Config(
        streams={"door": StreamConfig(source=f"rtsp://admin:{secret}@10.0.0.7/main", preview=True)},
        redis=RedisConfig(url=f"redis://:{secret}@10.0.0.2/0"),
        tokens=[secret],
        ice_servers=[IceServer(urls=["turn:relay.example.org:3478"], username=secret, credential=secret)],
        alerts=[replace(PICTURED, send=["web", "mq", "am", "told", "push"])],
        send={
            "web": SendConfig(url=f"https://u:{secret}@hook.example.org/x", secret=secret),
            "mq": SendConfig(url=f"mqtt://u:{secret}@broker.example.org/x"),
            "am": SendConfig(url=f"alertmanager+http://u:{secret}@am.example.org/x"),
            "told": SendConfig(url=f"tgram://{secret}/1"),
            "push": SendConfig(url=f"gotify://u:{secret}@push.example.org/{secret}"),
        },
    )
    whole = said(config) + msgspec.json.encode(facts_of(config)).decode()
    # Every part begins or ends in a mark that nothing else has; hosts are told in lower case.
    assert "qz" not in whole.lower() and "zq" not in whole.lower()
    # A host that a part of a password was taken for would have no mark.
    for receiver in facts_of(config).receivers:
        assert receiver.host in (None, *(f"{name}.example.org" for name in ("hook", "broker", "am", "push")))


def test_a_password_that_was_not_encoded_hides_the_host() -> None:
    """Where an address can be read in two ways, none of them is told."""
    config = replace(PLAIN, send={"ops": SendConfig(url="https://u:p@ss/w@rd@hook.example.org/x")})
    assert facts_of(config).receivers[0].host is None
    assert "an address that is not shown" in said(config)


# -- the command -------------------------------------------------------------------------------------------------------

FILE = """
streams:
  door: {source: "rtsp://admin:${PRIVACY_PW}@10.0.0.7/main", audio: false, preview: true}
  lobby: {source: whip, speech: true}
redis: {retention: 30m}
alerts:
  - {name: glass, when: "label('Glass') > 0.6", stream: door, snapshot: true, send: [ops]}
send:
  ops: {url: "https://hook.example.org/x?token=hidden-thing"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration."""
    path = tmp_path / "cameras.yaml"
    path.write_text(FILE)
    return path


def told(*arguments: str | Path, columns: int = 80) -> Result:
    environment = {"PRIVACY_PW": "s3cret-s3cret", "COLUMNS": str(columns)}
    return CliRunner().invoke(main, ["privacy", *map(str, arguments)], env=environment)


def test_the_report_on_a_real_file(path: Path) -> None:
    """Each section is there, in lines of the width given, without colours and secrets."""
    for columns in (50, 100):
        result = told(path, columns=columns)
        assert result.exit_code == 0, result.output
        assert "s3cret" not in result.output and "hidden" not in result.output and "\x1b" not in result.output
        lines = result.output.splitlines()
        of_report = [line for line in lines if "cameras.yaml" not in line]
        assert max(map(len, of_report)) <= columns and not any(line.endswith(" ") for line in lines)
        for heading in ("stream door", "stream lobby", "the service", "receivers of alerts", "easily overlooked"):
            assert heading in lines
        whole = " ".join(result.output.split())
        assert "Pictures alone from rtsp://***@10.0.0.7/main. Of sound nothing is decoded" in whole
        assert "kept for 30 minutes" in whole and "A webhook at hook.example.org, encrypted." in whole
        assert "What is said is written down; numbers and addresses of people are taken out before." in whole
        assert "Words that are said, in the service's own store (memory alone), for 30 minutes." in whole


def test_json_holds_the_same_facts(path: Path) -> None:
    """One object, which reads back as the report."""
    result = told(path, "--json")
    report = msgspec.convert(json.loads(result.output), Report)
    assert result.exit_code == 0 and [stream.name for stream in report.streams] == ["door", "lobby"]
    assert of(report).picture_rules == ["glass"] and of(report, "lobby").picture_rules == []
    assert all(isinstance(notice, Notice) and notice.text for notice in report.notices)


def test_a_wrong_file_ends_as_check_says(path: Path) -> None:
    """Exit code 2, and the line that `check` begins with: file, line, column, what, remedy."""
    path.write_text(FILE.replace("retention: 30m", "retention: soon"))
    result = told(path)
    checked = CliRunner().invoke(main, ["check", str(path)], env={"PRIVACY_PW": "x"})
    assert result.exit_code == checked.exit_code == 2
    assert checked.output.splitlines()[0] in result.output and "cameras.yaml:5:" in result.output
    assert told(path.with_name("missing.yaml")).exit_code == 2


# -- what the report says of decoding is so; for cameras and publishers see the tests of sources -----------------------


@pytest.mark.parametrize(("off", "on"), [("audio", "video"), ("video", "audio")])
async def test_the_decoder_of_a_track_that_is_off_is_never_opened(
    clips: Callable[[str, Spec], Path], monkeypatch: pytest.MonkeyPatch, off: str, on: str
) -> None:
    """While the other track is decoded, FFmpeg's decoder of this one stays closed, so nothing went through it."""
    opened: list[InputContainer] = []

    def keep(path: Path) -> InputContainer:
        opened.append(open_file(path))
        return opened[-1]

    monkeypatch.setattr(replay, "open_file", keep)
    clip = clips("privacy.mp4", Spec(seconds=3.0))
    async with Recorder(f"file:{clip}?loop=1", **{off: False}) as tape:
        await eventually(lambda: len(tape.frames if on == "video" else tape.chunks) > 2, 10, on)
        is_open = {stream.type: stream.codec_context.is_open for stream in opened[0].streams}
        assert is_open == {on: True, off: False}
        assert not (tape.frames if off == "video" else tape.chunks)
