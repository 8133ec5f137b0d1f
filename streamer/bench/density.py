"""How many live 720p30 streams with sound a machine labels within the bound, and what one of them costs by stage.

The cameras are real RTSP servers and the service is the real one, each in processes of their own on the same machine;
the cameras' CPU is not counted. A number of streams *holds* when in the measured time every hop of every stream was
answered in time with labels: nothing shed, late or missing. Beside it stand its parts measured alone on one core.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from streamer.bench import parts
from streamer.bench.clip import DENSITY, made
from streamer.bench.conditions import conditions
from streamer.bench.live import Run, measure, processes_of, settled
from streamer.bench.running import running_service
from streamer.demo.camera import LocalCamera
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_SESSIONS_A_CAMERA = 4
_START = 8
_STEP = 2
_MOST = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What every stream is given: a latency bound, and whether people are looked for in its pictures."""

    bound_ns: int
    people: bool = False


def run(streams: int | None, seconds: float, clip: Path | None, asked: Asked, as_json: bool) -> None:
    """Measure and print; `streams=None` looks for the largest number that holds."""
    path = clip or made(DENSITY)
    click.echo(f"clip {path}", err=True)
    alone, everything = parts.alone(path), parts.decoding_everything(path)
    for name, cores in alone.items():
        click.echo(f"  alone: {name:8} {cores:.4f} core a stream", err=True)
    runs = asyncio.run(_measure(path, streams, seconds, asked))
    held = [entry for entry in runs if entry.holds]
    best = max(held, key=lambda entry: entry.streams) if held else runs[0]
    result = {
        "streams": best.streams if held else 0,
        "cores_a_stream": round(best.cores_a_stream, 4),
        "cores_by_process": {name: round(cores / best.streams, 4) for name, cores in best.cores.items()},
        "cores_by_stage": {name: round(cores / best.streams, 4) for name, cores in best.stages.items()},
        "latency_ms": best.latency_ms,
        "bound_ms": asked.bound_ns // 1_000_000,
        "people": asked.people,
        "looks_a_stream": round(best.looks / best.streams, 3),
        "alone": {name: round(cores, 4) for name, cores in alone.items()} | {"sum": round(sum(alone.values()), 4)},
        "alone_decode_everything": round(everything, 4),
        "runs": [asdict(entry) | {"holds": entry.holds} for entry in runs],
        "input": {"clip": path.name, "bytes": path.stat().st_size},
        "command": "streamer " + " ".join(sys.argv[1:]),
        **conditions(),
    }
    _report(result)
    if as_json:
        click.echo(json.dumps(result))


def _report(result: dict[str, object]) -> None:
    click.echo(
        f"{result['streams']} streams hold at {result['cores_a_stream']} core a stream (bound {result['bound_ms']} ms)",
        err=True,
    )
    if result["people"]:
        click.echo(f"  people looked for {result['looks_a_stream']} times a second a stream", err=True)
    for title in ("cores_by_process", "cores_by_stage", "alone", "latency_ms"):
        figures = result[title]
        assert isinstance(figures, dict)
        click.echo(f"  {title:17} " + "  ".join(f"{name} {value}" for name, value in figures.items()), err=True)


async def _measure(clip: Path, streams: int | None, seconds: float, asked: Asked) -> list[Run]:
    runs: list[Run] = []
    for count in [streams] if streams is not None else range(_START, _MOST + 1, _STEP):
        entry = await _one(clip, count, seconds, asked)
        runs.append(entry)
        click.echo(
            f"{count:3} streams: {'hold' if entry.holds else 'do not hold'}, {entry.cores_a_stream:.3f} core a stream, "
            f"{entry.statuses}, missing {entry.missing}, late {entry.late}, p99 {entry.latency_ms.get('p99')} ms",
            err=True,
        )
        if not entry.holds:
            break
    if streams is None and not runs[0].holds:
        for count in range(_START - 1, 0, -1):
            runs.append(await _one(clip, count, seconds, asked))
            if runs[-1].holds:
                break
    return runs


async def _one(clip: Path, count: int, seconds: float, asked: Asked) -> Run:
    entry = Run(count, seconds)
    async with AsyncExitStack() as stack:
        urls = await _cameras(stack, clip, count)
        embedded = await stack.enter_async_context(EmbeddedStore())
        store = Store.connect(embedded.url)
        stack.push_async_callback(store.close)
        service = await stack.enter_async_context(running_service(_config(urls, asked), embedded.url))
        await settled(store, count)
        await measure(entry, store, service, processes_of(service, embedded))
    return entry


async def _cameras(stack: AsyncExitStack, clip: Path, count: int) -> list[str]:
    urls: list[str] = []
    while len(urls) < count:
        camera = LocalCamera(clip)
        await asyncio.to_thread(camera.start)
        stack.callback(camera.stop)
        urls += [camera.url] * min(_SESSIONS_A_CAMERA, count - len(urls))
    return urls


def _config(urls: list[str], asked: Asked) -> dict[str, object]:
    people = "presence" if asked.people else "off"
    streams = {f"s{index:03}": {"source": url, "people": people} for index, url in enumerate(urls)}
    # All are let in, because how many can be is what is measured.
    return {"streams": streams, "latency_bound": f"{asked.bound_ns // 1_000_000}ms", "admission": "degrade"}
