"""`streamer privacy`: the facts of `privacy` in short sentences, and their printing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from streamer import configfile
from streamer.alertcheck import check_alerts
from streamer.commands.privacy import Kept, ReceiverFacts, Report, StreamFacts, facts_of, span_in_words
from streamer.why.kept import KEPT_BYTES

_PROBED = (
    "When it is opened, FFmpeg may look into the first packets of every track to learn its format; nothing of that is"
    " used or kept."
)

Section = tuple[str, list[tuple[str, str]]]
"""A heading, and rows of a word at the margin and a text."""


def words_of(report: Report) -> Iterator[Section]:
    """The report in plain words."""
    for stream in report.streams:
        yield f"stream {stream.name}", list(_stream_words(stream, report))
    if not report.streams:
        yield "streams", [("none", "The configuration names no stream; the API may add some.")]
    yield "the service", list(_service_words(report))
    yield (
        "receivers of alerts",
        [(one.name, _receiver_words(one)) for one in report.receivers] or [("none", "Nothing is sent to anybody.")],
    )
    shown = ((", ".join(notice.about), notice.text) for notice in report.notices)
    yield "easily overlooked", [("!", f"{about}: {text}." if about else f"{_capital(text)}.") for about, text in shown]


def _stream_words(stream: StreamFacts, report: Report) -> Iterator[tuple[str, str]]:
    whole = {(True, True): "Pictures and sound", (True, False): "Pictures alone", (False, True): "Sound alone"}
    where = "from whoever publishes over WebRTC (WHIP)" if stream.source == "whip" else f"from {stream.source}"
    yield "takes in", f"{whole.get((stream.video, stream.audio), 'Nothing')} {where}. {_left_out(stream)}".rstrip()
    made = f"Labels with scores: what is {_senses(stream)}. What is said is {_written(stream)}."
    if stream.people != "off":
        whole_bodies = "how many, where each is, the body's points, the posture, and labels such as Standing or Fall"
        told = "how many there are" if stream.people == "count" else whole_bodies
        made += f" People are looked for and followed; published is {told}."
        made += f" Entering and leaving: {', '.join(stream.places)}." if stream.places else ""
        made += " Nobody is recognised."
    else:
        made += " People are not looked for."
    yield "makes", made
    for kept in stream.kept:
        yield "keeps", _kept_words(kept, stream, report)
    if not any(kept.blurred is not None for kept in stream.kept):
        yield "", "No picture and no sound is kept beyond what is being worked on (some seconds, in memory)."
    yield "shows", _shown_words(stream)
    yield "sends", _sent_words(stream)


def _written(stream: StreamFacts) -> str:
    if not stream.speech:
        return "not written down"
    return "written down; numbers and addresses of people are " + ("taken out before" if stream.redacted else "left in")


def _left_out(stream: StreamFacts) -> str:
    if stream.video and stream.audio:
        return ""
    off = "sound" if stream.video else "pictures"
    if stream.source == "whip":
        return f"A publisher's {off} is refused when it connects, and not decoded."
    # A camera announces its tracks itself; only where it does not, or in a file, does FFmpeg look.
    return f"Of {off} nothing is decoded: what comes of it is dropped as it arrives. {_PROBED}"


def _senses(stream: StreamFacts) -> str:
    return " and ".join(word for word, on in (("seen", stream.video), ("heard", stream.audio)) if on) or "there"


def _kept_words(kept: Kept, stream: StreamFacts, report: Report) -> str:
    span, rules = span_in_words(kept.keep_s), ", ".join(stream.picture_rules)
    store = "the service's own store (memory alone)" if report.store.own else "the store"
    if kept.what == "labels":
        return f"Labels, events and states, in {store}, for {span}."
    if kept.what == "people":
        return f"What is told of people, in {store}, for {span}."
    if kept.what == "words":
        return f"Words that are said, in {store}, for {span}."
    if kept.what == "basis":
        what = "What labels rest on (a network's numbers for pictures and sound)"
        return f"{what}, in memory, for {span}, {_size(KEPT_BYTES)} at most for all streams."
    if kept.what == "small_pictures":
        return f"Small pictures, not blurred, in memory, for {span}: `preview` is on."
    if kept.what == "encoded_pictures":
        return f"Pictures as they came, without sound, in memory, for {span}: rules ask for pictures ({rules})."
    if kept.what == "blurred_pictures":
        return f"Pictures of alerts ({rules}), faces and heads blurred, without sound, on disk, for {span}."
    if kept.where == "store":
        return f"Alerts, in {store}, for {span}."
    words = ", words" if stream.speech else ""
    return f"Alerts ({', '.join(stream.rules)}): time, labels{words}, text; on disk, for {span}."


def _shown_words(stream: StreamFacts) -> str:
    parts = ["what is published"]
    parts += ["small pictures, not blurred"] if stream.shows_pictures else []
    parts += ["the pictures of alerts"] if stream.picture_rules else []
    asked = f"To who may use the API and the websocket: {', '.join(parts)}."
    return asked if stream.shows_pictures else f"{asked} No live picture."


def _sent_words(stream: StreamFacts) -> str:
    if not stream.sent_to:
        return "Nothing to anybody."
    words = ", words" if stream.speech else ""
    pictures = "; links to pictures on this service, not the pictures" if stream.picture_rules else ""
    return f"Alerts (time, labels{words}, text{pictures}) to {', '.join(stream.sent_to)}."


def _service_words(report: Report) -> Iterator[tuple[str, str]]:
    store, alerts = report.store, report.alerts
    where = "A server of its own, in memory alone, gone with the service" if store.own else f"At {store.address}"
    most = _size(store.max_memory_bytes)
    yield "store", f"{where}. What is published is kept for {span_in_words(store.retention_s)}, {most} at most."
    if alerts is None:
        yield "alerts", "There are no rules: no alert and no picture is written to disk. Alerts of earlier rules stay."
    else:
        yield "alerts", f"In {alerts.path}, for {span_in_words(alerts.keep_s)}."
        if alerts.pictures_path is not None:
            limits = f"{span_in_words(alerts.pictures_keep_s)}, {_size(alerts.pictures_max_bytes)} at most"
            yield "pictures", f"Those of alerts, blurred, in {alerts.pictures_path}, for {limits}."
    yield "memory", "Written to disk only where the machine itself swaps or dumps it."
    yield "listens", f"{' and '.join(report.listens)} (this machine alone), unless the command line says otherwise."
    tokens = f"Who shows one of {report.tokens} tokens" if report.tokens > 1 else "Who shows the token"
    yield "who asks", f"{tokens}." if report.tokens else "Everybody who reaches it: there are no tokens."
    if report.allowed_origins:
        yield "web pages", f"Beside its own page those of {', '.join(report.allowed_origins)} may use it."
    asked = ", ".join(report.ice_servers)
    yield "WebRTC", f"ICE servers that are asked: {asked}." if asked else "No STUN or TURN server is asked."
    yield "page", "Comes whole from this service; it loads nothing from elsewhere."
    models = "Weights are fetched once as Python packages, by pip, or taken from --weights; nothing is told about use:"
    yield "models", f"{models} the telemetry of ONNX Runtime is switched off."
    yield "log", "On standard error: names, addresses and what failed, without passwords and tokens."


def _receiver_words(one: ReceiverFacts) -> str:
    if one.kind == "service":
        what = f"The service `{one.scheme}`" + (f" at {one.host}" if one.host else ", by its own address")
        sent = "headline and text of an alert, no picture"
    else:
        named = {"webhook": "A webhook", "broker": "An MQTT broker", "alertmanager": "Alertmanager"}[one.kind]
        what = f"{named} at {one.host or 'an address that is not shown, for it may hold a secret'}"
        sent = "the alert (stream, rule, times, labels with scores, text, links), no picture"
        sent += "; the broker keeps the last one of each rule and stream" if one.kind == "broker" else ""
    how = {True: ", encrypted", False: ", unencrypted", None: ""}[one.encrypted]
    return f"{what}{how}. It gets {sent}." if one.used else f"{what}{how}. No rule names it: it gets nothing."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _size(count: int) -> str:
    return f"{count / 2**20:g} MiB" if count >= 2**20 else f"{count} bytes"


# -- printing ----------------------------------------------------------------------------------------------------------


def show(path: Path, *, as_json: bool) -> None:
    """Print the report on the configuration at `path`.

    Raises:
        UserError: it can't be used; the text is `streamer check`'s first line.
    """
    loaded = configfile.load(path, further=check_alerts)
    report = facts_of(loaded.config)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    console = Console(highlight=False)
    for place, (heading, rows) in enumerate(words_of(report)):
        if place:
            console.print()
        console.print(Text(heading, "bold"), soft_wrap=True)
        for line in _laid_out(rows, console.width):
            console.print(line, soft_wrap=True)
    for warning in loaded.warnings:
        console.print(Text(warning, "dim"), soft_wrap=True)


def _laid_out(rows: Sequence[tuple[str, str]], width: int) -> Iterator[Text]:
    """Lines of at most `width` columns; a word that several rows have stands at the margin of the first."""
    margin = min(max(len(word) for word, _ in rows) + 4, max(width // 3, 6))
    before = ""
    for word, text in rows:
        head = f"  {word}" if word != before or word == "!" else ""
        before = word
        if len(head) >= margin:  # a long name has a line of its own
            yield Text(head, "dim")
            head = ""
        for line in textwrap.wrap(text, max(width - margin, 20), break_on_hyphens=False):
            yield Text.assemble((head.ljust(margin), "yellow" if word == "!" else "dim"), line)
            head = ""
