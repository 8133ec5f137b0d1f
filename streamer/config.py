"""The configuration: one YAML file, every key optional but `streams`, unknown keys are errors with their place.

This room holds the shapes, what may stand in them, and how secrets are masked; `configfile` reads them.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta, Struct, field

from streamer.alertconfig import AlertConfig, OutboxConfig, PicturesConfig, SendConfig
from streamer.configvalue import Duration, Size
from streamer.configvalue import parse_duration_ns as parse_duration_ns
from streamer.peopleconfig import LineConfig, ZoneConfig, check_places
from streamer.speechconfig import SpeechConfig, StreamSpeech, check_speech, check_stream_speech

NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,63}"
NAME_RULE = "1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit"
MIN_BOUND_NS = 200_000_000
MAX_BOUND_NS = 60_000_000_000
_MAX_URL = 4096

_SECRET_KEY = re.compile(r"pass|pwd|psw|token|secret|key|auth|sig|cred|session|sid|jwt|user|login", re.IGNORECASE)
# A value as long as this is taken for a token, whatever its name.
_LONG_VALUE = 16
# `HOST:PORT` is what our own messages say, to the letter: another word after a colon may be a password.
_AUTHORITY = re.compile(r"(?:HOST:PORT|(?:\[[^\]]*\]|[^:\[\]]*)(?::\d*)?)[:,;.'\")\]}>]*\Z")
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "metadata.azure.internal"})
_METADATA_ADDRESSES = frozenset({"100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"})


def mask_url(url: str) -> str:
    """`url` fit for logs and messages: user info and secrets in its parameters become `***`.

    Works on whatever a user may have typed. In doubt it masks more: a password with an unescaped `@`, `/` or `?` in
    it makes everything before the last `@` part of the secret.
    """
    if url.lower().startswith(("file:", "device:")):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    user, at, after = rest.rpartition("@")
    if at:
        rest = f"***@{after}" if user else rest
    elif separator:
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        if not _AUTHORITY.match(authority):
            # `user:password` whose host was cut off or never written.
            rest = "***" + rest[len(authority) :]
    return f"{scheme}{separator}{''.join(map(_mask_pair, re.split(r'([?&])', rest)))}"


def mask_text(text: str) -> str:
    """`text` with every URL in it masked as `mask_url` does; for messages of other libraries."""
    return re.sub(r"\S+", lambda word: _mask_word(word[0]), text)


def _mask_word(word: str) -> str:
    return mask_url(word) if "://" in word or ":" in word.rpartition("@")[0] else word


def _mask_pair(part: str) -> str:
    key, equals, value = part.partition("=")
    if value and (_SECRET_KEY.search(key.rpartition("/")[2]) or len(value) >= _LONG_VALUE):
        return f"{key}{equals}***"
    return part


class StreamConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stream's entry, in the file and as the body of `PUT /v1/streams/{name}`.

    source: `rtsp://`, `rtsps://`, `file:` (paced as a live source) or `device:` URL, or `whip`. `frames_per_second`:
    one of the checkpoint's rates, None for the device's default. `transport`: how RTSP media travel; `auto` tries TCP,
    then UDP. `preview`: pictures of it may be shown to who may use the API. `takeover`: a second WebRTC publisher takes
    the place of the first, who would otherwise be preferred. `annotate`: clips of it may be kept for people to label
    (`streamer data from-stream`). `people`: whether they are looked for, and what is told of
    them: `presence` how many, where and how they stand, `count` the number alone. `speech`: what is said is written
    down. `zones`, `lines`: parts of the
    picture that people enter and leave, by name.
    """

    source: str
    video: bool = True
    audio: bool = True
    speech: bool | StreamSpeech = False
    people: Literal["off", "presence", "count"] = "off"
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    group: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    frames_per_second: Annotated[int, Meta(ge=1, le=30)] | None = None
    transport: Literal["auto", "tcp", "udp"] = "auto"
    preview: bool = False
    takeover: bool = False
    annotate: bool = False
    zones: dict[str, ZoneConfig] = {}
    lines: dict[str, LineConfig] = {}


class RedisConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the store is (None: an embedded Valkey of its own), how long and how much it keeps."""

    url: str | None = None
    retention_ns: Duration = field(default=3_600_000_000_000, name="retention")
    max_memory_bytes: Size = field(default=512 * 1024 * 1024, name="max_memory")


class IceServer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A STUN or TURN server for browsers' media."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration, checked: durations in nanoseconds, sizes in bytes, `${NAME}` replaced.

    model: the checkpoint that labels: a name, or a path from where the service is started.
    tokens: what callers of the API must present as Bearer tokens; none: no token is asked. `allowed_origins`: web
    pages that may use the API and the websocket beside the service's own. `page_url`: where people find the page, for
    links in alerts.
    """

    streams: dict[str, StreamConfig] = {}
    latency_bound_ns: Duration = field(default=1_000_000_000, name="latency_bound")
    admission: Literal["refuse", "degrade"] = "refuse"
    model: str = "tags"
    redis: RedisConfig = RedisConfig()
    speech: SpeechConfig = SpeechConfig()
    ice_servers: list[str | IceServer] = []
    tokens: list[str] = []
    allowed_origins: list[str] = []
    alerts: list[AlertConfig] = []
    send: dict[str, SendConfig] = {}
    outbox: OutboxConfig = OutboxConfig()
    pictures: PicturesConfig = PicturesConfig()
    page_url: str | None = None


def ice_servers_of(config: Config) -> list[IceServer]:
    """The configured ICE servers in one shape, whichever they were written in."""
    return [IceServer(urls=[server]) if isinstance(server, str) else server for server in config.ice_servers]


Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place of a configuration, and what to do about it. Holds no secret."""

    path: Path
    text: str


def check(config: Config) -> Iterator[Fault]:
    """What the shapes alone don't catch: names, addresses, ranges, references between sections."""
    for name, stream in config.streams.items():
        if not re.fullmatch(NAME_PATTERN, name):
            yield Fault(("streams", name), f"{_shown(name)} can't name a stream: use {NAME_RULE}")
        for fault in check_stream(stream):
            yield Fault(("streams", name, *fault.path), fault.text)
    if not MIN_BOUND_NS <= config.latency_bound_ns <= MAX_BOUND_NS:
        yield Fault(("latency_bound",), "a latency bound must be between 200ms and 60s")
    yield from _check_redis(config.redis)
    for index, token in enumerate(config.tokens):
        if not re.fullmatch(r"[!-~]{1,1024}", token):
            yield Fault(("tokens", index), "a token must be 1 to 1024 visible ASCII characters without spaces")
    for index, origin in enumerate(config.allowed_origins):
        if origin not in ("*", "null") and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+", origin):
            yield Fault(
                ("allowed_origins", index), "an origin is a scheme, host and port, like https://panel.example.org"
            )
    for index, server in enumerate(ice_servers_of(config)):
        yield from _check_ice_server(("ice_servers", index), server)
    yield from (Fault(("speech", *path), text) for path, text in check_speech(config.speech))
    yield from _check_alerts(config)


def _check_ice_server(path: Path, server: IceServer) -> Iterator[Fault]:
    for place, url in enumerate(server.urls):
        if not re.fullmatch(r"(stuns?|turns?):[^\s/@]+", url):
            text = "an ICE server's URL begins with stun:, turn: or turns:, then a host, and is not followed by a path"
            yield Fault((*path, "urls", place), text)
    if any(url.startswith("turn") for url in server.urls) and not (server.username and server.credential):
        yield Fault(path, "a TURN server wants a username and a credential, or browsers refuse to use it")


def _check_redis(redis: RedisConfig) -> Iterator[Fault]:
    if redis.url is not None and not redis.url.startswith(
        ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")
    ):
        yield Fault(("redis", "url"), "a store's URL begins with redis://, rediss:// or unix://")
    if redis.retention_ns < 60_000_000_000:
        yield Fault(("redis", "retention"), "keep at least 1m, or subscribers can't resume")
    if redis.max_memory_bytes < 16 * 1024 * 1024:
        yield Fault(("redis", "max_memory"), "allow at least 16mb")


def _check_alerts(config: Config) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, rule in enumerate(config.alerts):
        if not re.fullmatch(NAME_PATTERN, rule.name):
            yield Fault(("alerts", index, "name"), f"{_shown(rule.name)} can't name a rule: use {NAME_RULE}")
        if rule.name in seen:
            yield Fault(("alerts", index, "name"), f"two rules are named {_shown(rule.name)}: give each its own name")
        seen.add(rule.name)
        for place, target in enumerate(rule.send):
            if target not in config.send:
                known = ", ".join(sorted(config.send)) or "nothing yet"
                text = f"{_shown(target)} is not in the `send` section, which has {known}"
                yield Fault(("alerts", index, "send", place), text)
    for name, sender in config.send.items():
        if not re.match(r"[a-z][a-z0-9+.-]*://[^/]", sender.url):
            yield Fault(("send", name, "url"), "where to deliver must be a whole URL, like https://example.org/hook")


def check_stream(stream: StreamConfig, *, from_api: bool = False) -> Iterator[Fault]:
    """What is wrong with one stream's entry; through the API fewer sources are allowed.

    Files and devices are named by the configuration file alone, and no caller may make the service ask link-local or
    cloud metadata addresses, which answer whoever runs on the machine.
    """
    if not (stream.video or stream.audio):
        yield Fault((), "video and audio are both off, so nothing is left: turn one on")
    if stream.people != "off" and not stream.video:
        yield Fault(("people",), "people are looked for in pictures, and video is off: turn one on, or the other off")
    if stream.speech and not stream.audio:
        yield Fault(("speech",), "speech is heard in sound, and audio is off: turn one on, or the other off")
    yield from (Fault(("speech", *path), text) for path, text in check_stream_speech(stream.speech))
    if (stream.zones or stream.lines) and stream.people == "off":
        yield Fault(("people",), "zones and lines want people to be looked for: write `people: presence`")
    yield from (Fault(path, text) for path, text in check_places(stream.zones, stream.lines))
    text = _source_fault(stream.source, from_api=from_api)
    if text is not None:
        yield Fault(("source",), text)


def _source_fault(source: str, *, from_api: bool) -> str | None:
    schemes = "rtsp://, rtsps:// or whip" if from_api else "rtsp://, rtsps://, file:, device: or whip"
    scheme = source.partition(":")[0].lower()
    if re.search(r"[\x00-\x1f\x7f]" if scheme in ("file", "device") else r"[\x00-\x20\x7f]", source):
        return "a source has no spaces or control characters in it: write them percent-encoded (%20)"
    if len(source) > _MAX_URL:
        return f"a source has at most {_MAX_URL} characters"
    if source == "whip":
        return None
    if scheme in ("file", "device"):
        if from_api:
            return f"{scheme}: sources come from the configuration file only; use {schemes} here"
        return None if len(source) > len(scheme) + 1 else f"name one after the colon: {scheme}:/path"
    if scheme not in ("rtsp", "rtsps") or "://" not in source:
        return f"{_shown(mask_url(source))} is no source: use {schemes}"
    parts = split_url(source)
    if parts is None:
        return (
            f"{_shown(mask_url(source))} has no valid host and port: write it like {scheme}://10.0.0.7:554/main, with"
            " / ? # @ in a password percent-encoded"
        )
    if from_api and is_forbidden_host(parts.hostname or ""):
        return "this address is link-local or a cloud's metadata service, which the API may not be sent to"
    return None


def split_url(url: str) -> SplitResult | None:
    """The parts of `url`, None where it has no host or its port is no port."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and (parts.port is None or parts.port > 0) else None
    except ValueError:
        return None


def host_of(source: str) -> str | None:
    """The host that an RTSP source names, None where it names none."""
    parts = split_url(source) if "://" in source else None
    return parts.hostname if parts is not None else None


def is_forbidden_host(host: str) -> bool:
    """Whether `host` (a name or an address in any notation) is link-local, multicast or a cloud's metadata service."""
    host = host.rstrip(".").lower()
    if host in _METADATA_NAMES:
        return True
    try:
        # inet_aton takes the notations that resolvers take as well: 0xa9fea9fe, 2852039166, 169.254.43518.
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _nat64(address) or address
    return address.is_link_local or address.is_multicast or str(address) in _METADATA_ADDRESSES


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(address.packed[12:]) if address in ipaddress.IPv6Network("64:ff9b::/96") else None


@dataclass(frozen=True, slots=True)
class Difference:
    """What to do to the running streams after the configuration changed; names in order."""

    added: list[str]
    changed: list[str]
    removed: list[str]


def diff(old: Config, new: Config) -> Difference:
    """Which streams `new` adds, changes and removes against `old`; those in none of the lists go on untouched."""
    return Difference(
        added=[name for name in new.streams if name not in old.streams],
        changed=[name for name in new.streams if name in old.streams and new.streams[name] != old.streams[name]],
        removed=[name for name in old.streams if name not in new.streams],
    )


def without_effect(config: Config) -> Iterator[Fault]:
    """The settings that nothing of this configuration makes use of."""
    if config.speech != SpeechConfig() and not any(stream.speech for stream in config.streams.values()):
        text = "no stream here has `speech: true`: without one that comes by the API this has no effect"
        yield Fault(("speech",), text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")
