"""One segment's way in the terminal: asked of a running service, shown as a waterfall."""

from __future__ import annotations

import http.client
import sys
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from rich.console import Console
from rich.text import Text

from streamer.clock import NS_PER_MS
from streamer.config import mask_url
from streamer.errors import StreamerError, UserError
from streamer.status import Trace, TraceBatch, TraceStage

LAST = "last"
_TIMEOUT_S = 5.0
# Of the newest few the first that is stored: the very last one is still on its way, more often than not.
_LAST_OF = 10
_MAX_ANSWER = 1 << 20
_BAR = 40
_WORDS = {
    "ingest": "captured to closed window",
    "queue": "waiting for its batch",
    "compute": "in the engine",
    "order": "after the windows before it",
    "send": "waiting to be sent",
    "store": "until the store had it",
}
_BLOCKS = " ▏▎▍▌▋▊▉"

Answer = TypeVar("Answer", bound=msgspec.Struct)


class _Problem(msgspec.Struct):
    detail: str


class _Traces(msgspec.Struct):
    traces: list[Trace]


@dataclass(frozen=True, slots=True)
class Question:
    """Which segment of which stream: `seq` is its number or `last`. `url`: the HTTP side of a running service."""

    stream: str
    seq: str
    epoch: str | None = None
    url: str = "http://127.0.0.1:8080"
    token: str | None = None


def show(question: Question, *, as_json: bool) -> None:
    """Print the segment's way.

    Raises:
        UserError: the stream, the segment, the URL or the token is not known.
        StreamerError: the service can't be reached or doesn't answer the question.
    """
    trace = ask(question)
    if as_json:
        print(msgspec.json.encode(trace).decode())
        return
    console = Console(highlight=False, soft_wrap=True)
    # A terminal that can't show block elements would show worse in their place.
    blocks = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    for line in waterfall(trace, blocks=blocks):
        console.print(line)


def ask(question: Question) -> Trace:
    """The trace that is asked for; raises as `show`."""
    stream = f"/v1/streams/{quote(question.stream, safe='')}"
    if question.seq != LAST:
        epoch = "" if question.epoch is None else f"?epoch={quote(question.epoch, safe='')}"
        return _get(question, f"{stream}/trace/{quote(question.seq, safe='')}{epoch}", Trace)
    found = [
        trace
        for trace in _get(question, f"{stream}/traces?limit={_LAST_OF}", _Traces).traces
        if question.epoch in (None, trace.epoch)
    ]
    if not found:
        epoch = "" if question.epoch is None else f" of epoch {question.epoch} among its last {_LAST_OF}"
        raise UserError(f"{question.stream} has no segment{epoch} yet; try again when it is live")
    return next((trace for trace in found if trace.state != "waiting"), found[0])


def _get(question: Question, path: str, kind: type[Answer]) -> Answer:
    shown = mask_url(question.url)
    status, body = _fetch(question, path)
    if status == 200:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise StreamerError(f"{shown} does not answer as streamer does; is another service there?") from error
    try:
        detail = msgspec.json.decode(body, type=_Problem).detail
    except msgspec.MsgspecError:
        detail = "no reason given; is another service there?"
    if status == 401:
        raise UserError(f"{shown}: a known token is needed: --token, or STREAMER_TOKEN in the environment")
    if status < 500:
        raise UserError(f"{shown}: {detail}")
    raise StreamerError(f"{shown} can't say now ({status}): {detail}")


def _fetch(question: Question, path: str) -> tuple[int, bytes]:
    """Status and body of one GET; redirects are not followed, so that a token goes nowhere else."""
    url = question.url if "://" in question.url else f"http://{question.url}"
    parts = urlsplit(url)
    wrong = UserError(f"{mask_url(url)} is no address of a service: write it like http://127.0.0.1:8080")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not host:
        raise wrong
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {} if question.token is None else {"Authorization": f"Bearer {question.token}"}
    connection = kind(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(_MAX_ANSWER)
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise UserError(f"{mask_url(url)} or the token can't be sent: {type(error).__name__}") from error
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        remedy = "start it, or name its address with --http URL"
        raise StreamerError(f"no service answers at {mask_url(url)} ({why}): {remedy}") from error
    finally:
        connection.close()


def waterfall(trace: Trace, *, blocks: bool = True) -> list[Text]:
    """The trace in lines for a person; `blocks`: bars of block elements, else of ASCII."""
    head = Text.assemble((f"{trace.stream} {trace.seq}", "bold"), f" of epoch {trace.epoch}  ")
    head.append(f"{trace.start[11:-1]} to {trace.end[11:-1]}  ", "dim")
    head.append(trace.status, {"ok": "green", "degraded": "yellow"}.get(trace.status, "red"))
    head.append(f" ({trace.reason})" if trace.reason else "")
    head.append(f" without {', '.join(trace.degraded)}" if trace.degraded else "", "yellow")
    lines = [head, Text.assemble((f"{'stage':<8}{'from ms':>10}{'took ms':>10}", "dim"))]
    lines += [_stage_line(stage, trace.total_ns, blocks=blocks) for stage in trace.stages]
    lines += [_total_line(trace), _window_line(trace)]
    if trace.batch is not None:
        lines.append(_batch_line(trace.batch, trace))
    if trace.cursor is not None:
        lines.append(Text.assemble(("cursor  ", "dim"), trace.cursor))
    return lines


def _stage_line(stage: TraceStage, total_ns: int, *, blocks: bool) -> Text:
    line = Text(f"{stage.name:<8}{_ms(stage.start_ns):>10}{_ms(stage.duration_ns):>10}     ")
    line.append(f"{_bar(stage, total_ns, blocks=blocks):<{_BAR + 1}}", "cyan")
    return line.append(f"  {_WORDS[stage.name]}", "dim")


def _bar(stage: TraceStage, total_ns: int, *, blocks: bool) -> str:
    """From where the stage began to where it ended, to an eighth of a cell where it ends."""
    scale = 8 * _BAR / max(total_ns, 1)
    begin, eighths = int(stage.start_ns * scale) // 8, round(stage.duration_ns * scale)
    if not blocks:
        return " " * begin + "#" * (round(eighths / 8) or bool(stage.duration_ns))
    whole, rest = divmod(eighths, 8)
    end = _BLOCKS[rest].strip()
    return " " * begin + "█" * whole + (end or ("▏" if stage.duration_ns and not whole else ""))


def _total_line(trace: Trace) -> Text:
    line = Text.assemble((f"{'total':<8}{'':>10}{_ms(trace.total_ns):>10}", "bold"), f" of {_ms(trace.bound_ns)} ms")
    if trace.state != "stored":
        line.append("  not stored yet" if trace.state == "waiting" else "  never stored", "yellow")
    if trace.late:
        fault = "the store was away" if trace.store_late else "past its deadline"
        line.append(f"  late: {fault}", "red")
    if trace.frozen_ns:
        line.append(f"  the process did not run for {_ms(trace.frozen_ns)} ms of it", "yellow")
    return line


def _window_line(trace: Trace) -> Text:
    coverage = trace.coverage
    there = f"video {coverage.video:.2f}, audio {coverage.audio:.2f}, text {coverage.text:.2f}"
    return Text.assemble(
        ("window  ", "dim"), f"{trace.pictures} pictures, {trace.patches} patches of sound; there: {there}"
    )


def _batch_line(batch: TraceBatch, trace: Trace) -> Text:
    took_ns = next((stage.duration_ns for stage in trace.stages if stage.name == "compute"), 0)
    return Text.assemble(
        ("batch   ", "dim"),
        f"number {batch.number}: {batch.windows} windows with {batch.pictures} new pictures and {batch.patches} new"
        f" patches; took {_ms(took_ns)} ms, expected at most {_ms(batch.expected_ns)}",
    )


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / NS_PER_MS:.1f}"
