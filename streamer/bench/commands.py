"""`streamer bench ...`: what each benchmark takes; the benchmarks themselves are imported only when they run."""

from __future__ import annotations

from pathlib import Path

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
def density(as_json: bool, streams: int | None, seconds: float, clip: Path | None, latency_bound: int) -> None:
    """How many live 720p30 streams with sound this machine labels within the bound, and what one costs by stage."""
    from streamer.bench.density import run as measure

    measure(streams=streams, seconds=seconds, clip=clip, bound_ns=latency_bound, as_json=as_json)
