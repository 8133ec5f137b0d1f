"""`streamer privacy`: what a service with a configuration takes in, keeps, for how long, and sends where.

`facts_of` is pure: facts from the configuration alone, times and sizes from the rooms that keep things, so
that the report changes when they do. `privacy_view` has a sentence for each of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from streamer.alertconfig import AlertConfig, SendConfig
from streamer.alerts.settings import outbox_path
from streamer.commands.options import Options
from streamer.config import Config, StreamConfig, host_of, ice_servers_of, mask_url, split_url
from streamer.picturenames import names
from streamer.sources.ring import Bounds
from streamer.why.kept import KEPT_NS

_S = 1_000_000_000
_DAY_S = 86_400
# Services of apprise whose URL has a host in the host's place, whatever the rest; in others' it may be a token.
_HOSTED = frozenset({"gotify", "gotifys", "json", "jsons", "xml", "xmls", "form", "forms"})
_LOCAL_ENDS = (".local", ".lan", ".internal", ".home.arpa", ".localhost")

What = Literal["labels", "people", "words", "basis", "small_pictures", "encoded_pictures", "blurred_pictures", "alerts"]


class Kept(Struct, frozen=True, kw_only=True):
    """What is kept of a stream: where (`memory` of the service, `store`, `disk`), and for how many seconds at most.

    blurred: whether faces and heads that were found are blurred, None: it is no picture.
    """

    what: What
    where: Literal["memory", "store", "disk"]
    keep_s: float
    blurred: bool | None = None


class StreamFacts(Struct, frozen=True, kw_only=True):
    """One stream. source: without its secrets. video, audio: which is decoded. shows_pictures: to who may use the API.
    speech: what is said is written down, and (`redacted`) numbers and addresses of people are taken out of it.
    picture_rules: rules that make pictures of it. rules, sent_to: what alerts it may give, and who is told of those.
    """

    name: str
    source: str
    video: bool
    audio: bool
    people: Literal["off", "presence", "count"]
    places: list[str]
    speech: bool
    redacted: bool
    shows_pictures: bool
    kept: list[Kept]
    picture_rules: list[str]
    rules: list[str]
    sent_to: list[str]


class StoreFacts(Struct, frozen=True, kw_only=True):
    """The store. own: the service's own, which keeps nothing on disk and ends with it; else `address` says where."""

    own: bool
    address: str | None
    retention_s: float
    max_memory_bytes: int


class AlertFacts(Struct, frozen=True, kw_only=True):
    """Where alerts and their pictures are on disk, and for how long. pictures_path: None: no rule asks for pictures."""

    path: str
    keep_s: float
    pictures_path: str | None
    pictures_keep_s: float
    pictures_max_bytes: int


class ReceiverFacts(Struct, frozen=True, kw_only=True):
    """Who is told of alerts. host: None where it can't be told from what may be a secret. encrypted: None: the service
    decides. used: some rule names it."""

    name: str
    kind: Literal["webhook", "broker", "alertmanager", "service"]
    scheme: str
    host: str | None
    encrypted: bool | None
    used: bool


class Notice(Struct, frozen=True, kw_only=True):
    """Something easily overlooked: `kind` is its stable name, `about` what it is about (streams, receivers, ...)."""

    kind: str
    about: list[str]
    text: str


class Report(Struct, frozen=True, kw_only=True):
    """All of it. tokens: how many there are. listens: where, unless the command line says otherwise. ice_servers: who
    is asked for addresses when somebody publishes over WebRTC. alerts: None without rules."""

    streams: list[StreamFacts]
    store: StoreFacts
    alerts: AlertFacts | None
    receivers: list[ReceiverFacts]
    tokens: int
    allowed_origins: list[str]
    listens: list[str]
    ice_servers: list[str]
    notices: list[Notice]


# -- facts -------------------------------------------------------------------------------------------------------------


def facts_of(config: Config) -> Report:
    """What the configuration means; no secret of it is in there."""
    streams = [_stream(name, entry, config) for name, entry in config.streams.items()]
    redis = config.redis
    used = {target for rule in config.alerts for target in rule.send}
    options = Options()
    report = Report(
        streams=streams,
        store=StoreFacts(
            own=redis.url is None,
            address=None if redis.url is None else mask_url(redis.url),
            retention_s=redis.retention_ns / _S,
            max_memory_bytes=redis.max_memory_bytes,
        ),
        alerts=_alerts(config) if config.alerts else None,
        receivers=[_receiver(name, entry, name in used) for name, entry in config.send.items()],
        tokens=len(config.tokens),
        allowed_origins=list(config.allowed_origins),
        listens=[f"{host}:{port}" for host, port in (options.http, options.websocket)],
        ice_servers=[mask_url(url) for server in ice_servers_of(config) for url in server.urls],
        notices=[],
    )
    return msgspec.structs.replace(report, notices=list(_notices(report, config)))


def _stream(name: str, entry: StreamConfig, config: Config) -> StreamFacts:
    rules = [rule for rule in config.alerts if fnmatchcase(name, rule.stream)]
    pictured = [rule for rule in rules if names(rule)] if entry.video else []
    sent_to = dict.fromkeys(target for rule in rules for target in rule.send)
    return StreamFacts(
        name=name,
        source=mask_url(entry.source),
        video=entry.video,
        audio=entry.audio,
        people=entry.people,
        places=[*entry.zones, *entry.lines],
        speech=bool(entry.speech),
        redacted=config.speech.redact,
        shows_pictures=entry.preview and entry.video,
        kept=list(_kept(entry, config, rules, pictured)),
        picture_rules=[rule.name for rule in pictured],
        rules=[rule.name for rule in rules],
        sent_to=list(sent_to),
    )


def _kept(
    entry: StreamConfig, config: Config, rules: Sequence[AlertConfig], pictured: Sequence[AlertConfig]
) -> Iterator[Kept]:
    retention_s = config.redis.retention_ns / _S
    yield Kept(what="labels", where="store", keep_s=retention_s)
    if entry.people != "off":
        yield Kept(what="people", where="store", keep_s=retention_s)
    if entry.speech:
        yield Kept(what="words", where="store", keep_s=retention_s)
    yield Kept(what="basis", where="memory", keep_s=KEPT_NS / _S)
    if entry.preview and entry.video:
        yield Kept(what="small_pictures", where="memory", keep_s=KEPT_NS / _S, blurred=False)
    if pictured:
        yield Kept(what="encoded_pictures", where="memory", keep_s=Bounds().age_ns / _S, blurred=False)
        yield Kept(what="blurred_pictures", where="disk", keep_s=config.pictures.keep_ns / _S, blurred=True)
    if rules:
        yield Kept(what="alerts", where="disk", keep_s=config.outbox.keep_ns / _S)
        yield Kept(what="alerts", where="store", keep_s=retention_s)


def _alerts(config: Config) -> AlertFacts:
    path = outbox_path(config.outbox)
    pictured = any(names(rule) for rule in config.alerts)
    return AlertFacts(
        path=str(path),
        keep_s=config.outbox.keep_ns / _S,
        pictures_path=str(path.parent / "pictures") if pictured else None,
        pictures_keep_s=config.pictures.keep_ns / _S,
        pictures_max_bytes=config.pictures.max_bytes,
    )


def _receiver(name: str, entry: SendConfig, used: bool) -> ReceiverFacts:
    scheme = entry.url.partition("://")[0].lower()
    kind: Literal["webhook", "broker", "alertmanager", "service"]
    if scheme in ("http", "https"):
        kind = "webhook"
    elif scheme in ("mqtt", "mqtts"):
        kind = "broker"
    else:
        kind = "alertmanager" if scheme.startswith("alertmanager+") else "service"
    is_hosted = kind != "service" or scheme in _HOSTED
    encrypted = scheme.endswith("s") if is_hosted else None
    host = _host(entry.url) if is_hosted else None
    return ReceiverFacts(name=name, kind=kind, scheme=scheme, host=host, encrypted=encrypted, used=used)


def _host(url: str) -> str | None:
    """The host of `url`; None where a secret with a / or @ in it leaves open which part that is."""
    raw, masked = split_url(url), split_url(mask_url(url))
    if raw is None or masked is None or url.count("@") > 1:
        return None
    return raw.hostname if raw.hostname == masked.hostname else None


def _is_near(host: str | None) -> bool:
    """Whether a host is this machine or of a private network, as far as its name tells."""
    if host is None:
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_global
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith(_LOCAL_ENDS)


def _is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


# -- what is easily overlooked -----------------------------------------------------------------------------------------


def _notices(report: Report, config: Config) -> Iterator[Notice]:
    yield from _of_access(report)
    yield from _of_transport(report, config)
    yield from _of_keeping(report, config)
    yield from _of_pictures(report, config)
    yield from _of_speech(report, config)
    abroad = [one.name for one in report.receivers if one.kind == "service" and one.host is None and one.used]
    if abroad:
        text = "told through services that others may run, maybe abroad; what they keep is theirs to say"
        yield Notice(kind="foreign_service", about=abroad, text=text)
    asked = [url for url in report.ice_servers if not _is_near(_ice_host(url))]
    if asked:
        text = "asked whenever somebody publishes over WebRTC, by this machine and by the publisher; they learn the"
        text += " addresses of both, and a turn: server relays the media, encrypted"
        yield Notice(kind="public_ice_server", about=asked, text=text)


def _ice_host(url: str) -> str | None:
    return urlsplit("//" + url.partition(":")[2]).hostname


def _of_access(report: Report) -> Iterator[Notice]:
    if not report.tokens:
        text = "there are no tokens: every program and user of this machine may use the API, and everybody whom --http,"
        text += " --ws and --insecure let in; whether those are used can't be seen from the configuration"
        yield Notice(kind="no_tokens", about=[], text=text)
        shown = [stream.name for stream in report.streams if stream.shows_pictures]
        if shown:
            text = "pictures (`preview: true`) can be seen without a token"
            yield Notice(kind="preview_without_tokens", about=shown, text=text)
    if "*" in report.allowed_origins:
        text = "web pages of every origin may use the API from a visitor's browser"
        yield Notice(kind="every_origin", about=["*"], text=text)
    text = "who may use the API may add streams (rtsp://, rtsps:// or whip), change and remove these, and switch"
    text += " `preview` on; this report knows the file alone"
    yield Notice(kind="changes_by_api", about=[], text=text)


def _of_transport(report: Report, config: Config) -> Iterator[Notice]:
    plain = [
        one.name for one in report.receivers if one.used and one.encrypted is False and not _is_this_machine(one.host)
    ]
    if plain:
        text = "alerts go there unencrypted; whoever is on the way can read them"
        yield Notice(kind="plain_receiver", about=plain, text=text)
    open_sources = [
        name
        for name, entry in config.streams.items()
        if entry.source.lower().startswith("rtsp://") and not _is_this_machine(host_of(entry.source))
    ]
    if open_sources:
        text = "these cameras send pictures and sound unencrypted (rtsp://); rtsps:// would not, where a camera has it"
        yield Notice(kind="plain_source", about=open_sources, text=text)
    url = config.redis.url
    if url is not None and url.lower().startswith(("redis://", "valkey://")) and not _is_this_machine(_host(url)):
        text = "what is published goes to the store unencrypted; rediss:// would not"
        yield Notice(kind="plain_store", about=[mask_url(url)], text=text)


def _of_keeping(report: Report, config: Config) -> Iterator[Notice]:
    store = report.store
    if store.retention_s > _DAY_S:
        text = f"what is published is kept for {span_in_words(store.retention_s)}, longer than a day"
        yield Notice(kind="long_retention", about=["redis.retention"], text=text)
    if report.alerts is not None and report.alerts.pictures_path and report.alerts.pictures_keep_s > _DAY_S:
        text = f"pictures of alerts are kept for {span_in_words(report.alerts.pictures_keep_s)}, longer than a day"
        yield Notice(kind="long_pictures", about=["pictures.keep"], text=text)
    if not store.own:
        text = "this store is not the service's own: whether it writes to disk, and who else reads it, is up to it;"
        text += " what it holds when the service stops is not dropped before the service runs again"
        yield Notice(kind="foreign_store", about=[store.address or ""], text=text)
    if report.alerts is not None:
        text = "alerts of which a delivery waits or was given up are kept for longer, and nothing is dropped while the"
        text += " service does not run"
        yield Notice(kind="kept_longer", about=[report.alerts.path], text=text)
    counted = [stream.name for stream in report.streams if stream.people == "count" and stream.places]
    if counted:
        text = (
            "`people: count` leaves out where each person is and how they stand, but labels and events still say that"
        )
        text += " somebody enters or leaves the zones and lines that are named"
        yield Notice(kind="count_tells_more", about=counted, text=text)


def _of_pictures(report: Report, config: Config) -> Iterator[Notice]:
    shown = [stream.name for stream in report.streams if stream.shows_pictures]
    if shown:
        text = "pictures that `preview` shows are small, and faces in them are not blurred"
        yield Notice(kind="preview_not_blurred", about=shown, text=text)
    rules = [rule for rule in config.alerts if names(rule)]
    if rules:
        text = "faces are blurred where they are found, and some are not: a picture of a fall may show one"
        yield Notice(kind="faces_missed", about=[rule.name for rule in rules], text=text)
    wide = [rule.name for rule in rules if any(sign in rule.stream for sign in "*?[")]
    if wide:
        text = "these rules make pictures of every stream whose name fits, those to come included"
        yield Notice(kind="pictures_of_all", about=wide, text=text)


def _of_speech(report: Report, config: Config) -> Iterator[Notice]:
    heard = [stream.name for stream in report.streams if stream.speech]
    if not heard:
        return
    text = "what people say there is written down and published; in many places they have to be told, or asked, before"
    yield Notice(kind="speech_written", about=heard, text=text)
    if not config.speech.redact:
        text = "numbers and e-mail addresses that are said are published as they are (`redact: false`)"
        yield Notice(kind="speech_not_redacted", about=["speech.redact"], text=text)
    else:
        text = "long numbers and e-mail addresses are taken out of what is said; names, places and all else are not"
        yield Notice(kind="speech_names", about=heard, text=text)


def span_in_words(seconds: float) -> str:
    for unit, length in (("days", _DAY_S), ("hours", 3600), ("minutes", 60)):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return f"{count} {unit if count != 1 else unit[:-1]}"
    return f"{seconds:g} seconds"
