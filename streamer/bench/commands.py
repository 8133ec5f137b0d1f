"""`streamer bench ...`: what each benchmark takes; the benchmarks themselves are imported only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from streamer.config import parse_duration_ns


def duration(_: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """The callback of an option that is a time: nanoseconds."""
    if value is None:
        return None
    try:
        return parse_duration_ns(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None


def _streams(_: click.Context, param: click.Parameter, value: str) -> int | None:
    """The callback of an option that is a number of streams, or `auto`: None."""
    if value == "auto":
        return None
    if not value.isdecimal() or not 0 < int(value) <= 100_000:
        raise click.BadParameter(f"{value} is neither `auto` nor a number from 1 to 100000", param=param)
    return int(value)


_json = click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")


@click.group()
def bench() -> None:
    """Measure: how many streams, how fast, what it costs."""


@bench.command()
@_json
@click.option(
    "--streams",
    type=click.IntRange(1, 256),
    help="Measure this number only, instead of looking for the largest that holds.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(5, 3600),
    default=20,
    show_default=True,
    help="How long each number of streams runs.",
)
@click.option(
    "--clip",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="720p30 H.264 clip to stream.  [default: made once from the demo's]",
)
@click.option("--latency-bound", metavar="TIME", default="1s", callback=duration)
@click.option("--people", is_flag=True, help="Look for people in the pictures, too.")
def density(
    as_json: bool, streams: int | None, seconds: float, clip: Path | None, latency_bound: int, people: bool
) -> None:
    """How many live 720p30 streams with sound this machine labels within the bound, and what one costs by stage."""
    from streamer.bench.density import Asked
    from streamer.bench.density import run as measure

    measure(streams=streams, seconds=seconds, clip=clip, asked=Asked(latency_bound, people), as_json=as_json)


@bench.command()
@_json
@click.option(
    "--clients", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="Websocket subscribers."
)
@click.option(
    "--messages", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many are sent, each to all."
)
def fanout(as_json: bool, clients: int, messages: int) -> None:
    """When the last of many subscribers has a message, beside bare sends to as many sockets."""
    from streamer.bench.fanout import run as measure

    measure(clients=clients, messages=messages, as_json=as_json)


@bench.command()
@_json
@click.option(
    "--publishers", type=click.IntRange(1, 64), default=6, show_default=True, help="How many publish at once."
)
@click.option(
    "--seconds", type=click.FloatRange(5, 3600), default=20, show_default=True, help="How long they are measured."
)
@click.option(
    "--codec", type=click.Choice(["h264", "vp8"]), default="h264", show_default=True, help="What the pictures come in."
)
@click.option("--flood", is_flag=True, help="Offer twice what can be decoded, and look at the memory.")
@click.option("--latency-bound", metavar="TIME", default="1s", callback=duration)
def whip(
    as_json: bool, publishers: int, seconds: float, codec: Literal["h264", "vp8"], flood: bool, latency_bound: int
) -> None:
    """What live 480p30 WebRTC publishers with sound cost, and whether each of their segments comes in time."""
    from streamer.bench.whip import run as measure

    measure(publishers, seconds, codec, flood, latency_bound, as_json)


@bench.command()
@_json
@click.option(
    "--minutes", type=click.FloatRange(0.5, 100_000), default=3, show_default=True, help="How long it goes on."
)
@click.option(
    "--streams", type=click.IntRange(1, 64), default=4, show_default=True, help="Streams that are there all the time."
)
@click.option(
    "--clip",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="H.264 clip without B-frames to stream.  [default: the demo's]",
)
def soak(as_json: bool, minutes: float, streams: int, clip: Path | None) -> None:
    """Streams, faults and subscribers that come and go: what grows, and whether every segment is accounted for."""
    from streamer.bench.soak import run as measure

    measure(minutes=minutes, streams=streams, clip=clip, as_json=as_json)


@bench.command()
@_json
@click.option(
    "--rate", type=click.IntRange(1, 100_000), default=5000, show_default=True, help="Segments a second that fall due."
)
@click.option(
    "--seconds", type=click.FloatRange(1, 3600), default=10, show_default=True, help="How long they fall due."
)
@click.option(
    "--streams", type=click.IntRange(1, 100_000), help="Streams they belong to.  [default: half the rate, as live]"
)
def publish(as_json: bool, rate: int, seconds: float, streams: int | None) -> None:
    """How many segments a second one process brings into the store, and how long each takes to its acknowledgement."""
    from streamer.bench.publish import run as measure

    measure(rate=rate, seconds=seconds, streams=streams, as_json=as_json)


@bench.command()
@_json
@click.option(
    "--seconds", type=click.FloatRange(3, 86_400), default=15, show_default=True, help="How long each load lasts."
)
@click.option(
    "--at",
    type=click.FloatRange(0.01, 100),
    multiple=True,
    help="A load, in parts of the measured capacity; may repeat.  [default: 0.5, 1, 2 and 4]",
)
@click.option(
    "--streams-at-capacity",
    type=click.UNPROCESSED,
    callback=_streams,
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Take so many streams for the capacity instead of measuring it.",
)
@click.option(
    "--clip",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Whose windows to compute.  [default: the demo's]",
)
@click.option("--latency-bound", metavar="TIME", default="1s", callback=duration)
def overload(
    as_json: bool,
    seconds: float,
    at: tuple[float, ...],
    streams_at_capacity: int | None,
    clip: Path | None,
    latency_bound: int,
) -> None:
    """Whether every segment comes by its deadline, and who is answered, from half to four times what can be done."""
    from streamer.bench.overload import AT, Offered, default_clip
    from streamer.bench.overload import run as measure

    offered = Offered(clip or default_clip(), at or AT, seconds, streams=streams_at_capacity, bound_ns=latency_bound)
    measure(offered, as_json)


@bench.command()
@_json
@click.option(
    "--rate", type=click.IntRange(1, 1000), default=50, show_default=True, help="Alerts a second, one after another."
)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=8, show_default=True, help="How long they come.")
@click.option(
    "--storm", type=click.IntRange(10, 100_000), default=1000, show_default=True, help="Streams that fire at once."
)
@click.option(
    "--pairs", type=click.IntRange(10, 1_000_000), default=10_000, show_default=True, help="Pairs of rule and stream."
)
def alerts(as_json: bool, rate: int, seconds: float, storm: int, pairs: int) -> None:
    """How soon an alert is on its way after its segment, how many a second are recorded, and what rules cost."""
    from streamer.bench.alerts import Offered
    from streamer.bench.alerts import run as measure

    measure(Offered(rate=rate, seconds=seconds, storm=storm, pairs=pairs), as_json)


@bench.command()
@_json
@click.option("--streams", type=click.IntRange(1, 64), default=2, show_default=True, help="How many are listened to.")
@click.option(
    "--seconds", type=click.FloatRange(5, 3600), default=60, show_default=True, help="How long, in real time."
)
@click.option(
    "--talk",
    type=click.FloatRange(0.05, 1),
    default=1.0,
    show_default=True,
    help="The part of the time that somebody speaks on each.",
)
@click.option(
    "--clips",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of speech with transcripts.tsv.  [default: shared/data/speech beside the checkout]",
)
@click.option("--baseline/--no-baseline", default=True, show_default=True, help="whisper_streaming's method, too.")
def speech(as_json: bool, streams: int, seconds: float, talk: float, clips: Path | None, baseline: bool) -> None:
    """How far behind words are on live speech, and how wrong beside the same model run offline on the whole."""
    from streamer.bench.speech import Asked
    from streamer.bench.speech import run as measure
    from streamer.bench.spoken import default_clips

    measure(Asked(clips or default_clips(), streams, seconds, talk, baseline), as_json)
