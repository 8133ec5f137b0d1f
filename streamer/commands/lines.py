"""Messages as lines for a person: what `watch`, `demo` and `label` print."""

from __future__ import annotations

from typing import Any

from rich.text import Text

_SHOWN_LABELS = 5


def pretty(message: dict[str, Any]) -> Text:
    """A message as one line for a person."""
    line = Text()
    kind, stream = message.get("type"), str(message.get("stream", ""))
    if kind == "segment":
        line.append(f"{_clock(message['end'])} ", style="dim")
        line.append(f"{stream:<12} ", style="bold")
        line.append_text(answer(message))
    elif kind == "event":
        line.append(f"{_clock(message['end'] or message['start'])} ", style="dim")
        line.append(f"{stream:<12} ", style="bold")
        line.append(f"{message['state']:<6} {message['label']} {message['score']:.2f}", style="cyan")
    elif kind == "speech":
        line.append(f"{_clock(message['end'])} ", style="dim")
        line.append(f"{stream:<12} ", style="bold")
        words = message["text"] if message["final"] else f"{message['text']} …"
        line.append(f"“{words}”", style="magenta" if message["final"] else "dim italic")
    elif kind == "stream":
        line.append(" " * 13)
        line.append(f"{stream:<12} ", style="bold")
        line.append(str(message["state"]), style="green" if message["state"] == "live" else "yellow")
        line.append(f" ({message['reason']})" if message.get("reason") else "")
    elif kind == "gap":
        count = message.get("count")
        line.append(f"missed {count if count is not None else 'some'} messages", style="red")
    elif kind == "hello":
        names = ", ".join(message["streams"]) or "none yet"
        line.append(f"following; streams: {names}", style="dim")
    else:
        line.append(f"{kind} {stream} {message.get('text', '')}".strip())
    return line


def answer(segment: dict[str, Any]) -> Text:
    """What a segment says: labels with scores and what they rest on, or why there are none."""
    line = Text()
    if segment["status"] == "shed":
        line.append(f"no answer ({segment['reason']})", style="red")
        return line.append_text(_said(segment))
    for label in segment["labels"][:_SHOWN_LABELS]:
        line.append(f"{label['name']} ")
        line.append(f"{label['score']:.2f} ", style="green" if label["score"] >= 0.5 else "dim")
        line.append(f"{_shares(label['share'])}  ", style="dim")
    if not segment["labels"]:
        line.append("nothing  ", style="dim")
    if segment["status"] == "degraded":
        line.append(f"[less work: {', '.join(segment['degraded'])}] ", style="yellow")
    if segment["bound_ms"]:
        late = segment["delivered_late"]
        line.append(f"{segment['latency_ms']['total']:.0f} ms", style="red" if late else "dim")
    line.rstrip()
    return line.append_text(_said(segment))


def _said(segment: dict[str, Any]) -> Text:
    speech = segment.get("speech")
    return Text() if speech is None else Text(f"  “{speech['text']}”", style="magenta")


def _shares(share: dict[str, float]) -> str:
    """What the label rests on, e.g. `(44% seen, 56% heard)`."""
    parts = [("seen", share["video"]), ("heard", share["audio"]), ("said", share["text"])]
    return "(" + ", ".join(f"{part:.0%} {name}" for name, part in parts if part >= 0.005) + ")"


def _clock(rfc3339: str) -> str:
    return rfc3339[11:23]
