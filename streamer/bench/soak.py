"""Streams, faults and subscribers for a while: does anything grow, and is every segment accounted for?

The service is the real one, in processes of its own, with cameras and a store that are broken and healed while streams
and subscribers come and go. Nothing is broken twice at the same time, so that each recovery can be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import click

from streamer.bench.conditions import conditions
from streamer.bench.followers import Follower, Tap
from streamer.bench.outcomes import Account
from streamer.bench.relay import Relay
from streamer.bench.running import Started, running_service
from streamer.bench.samples import ALLOWED, Sampler
from streamer.bench.slopes import Slope
from streamer.bench.unrest import Churn, Faults, Recovery, Steady
from streamer.bench.verdict import Soak
from streamer.bench.visitors import Visitors
from streamer.demo.camera import LocalCamera
from streamer.demo.reel import reel
from streamer.storage.embedded import EmbeddedStore

_BOUND_MS = 1000
_CAMERAS = 2
_VISITORS = 5
_SEED = 7
# The part of a run in which pools, caches and arenas fill up; its samples are left out of the slopes.
_WARM_UP_PART, _WARM_UP_MOST_S = 1 / 3, 180.0

# How the slopes of the service's own process are called, and the figures that they are of.
_SLOPES = {
    "rss_slope_mb_h": "rss_mb",
    "fd_slope_h": "descriptors",
    "threads_slope_h": "threads",
    "tasks_slope_h": "tasks",
}
_REPORTED = (
    "segments",
    "statuses",
    "shed",
    "late",
    "missing",
    "duplicate",
    "delivered_late",
    "labels_again_s",
    "churn",
)


def run(minutes: float, streams: int, clip: Path | None, as_json: bool) -> None:
    """Soak and print. Exit code 1 where the promise was broken."""
    path = clip or reel().path
    click.echo(f"{minutes:g} minutes of {streams} streams of {path}, with churn, faults and subscribers", err=True)
    soak = asyncio.run(_soak(minutes * 60, streams, path))
    broken = soak.broken()
    result = _result(soak, broken, path)
    _report(result)
    if as_json:
        click.echo(json.dumps(result))
    if broken:
        raise SystemExit(1)


async def _soak(seconds: float, count: int, clip: Path) -> Soak:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(EmbeddedStore())
        cameras = [await _camera(stack, clip) for _ in range(_CAMERAS)]
        steady = [await _steady(stack, f"steady-{number}", cameras[number % _CAMERAS]) for number in range(count)]
        config = {
            "streams": {stream.name: {"source": stream.relay.url(stream.camera.url)} for stream in steady},
            "latency_bound": f"{_BOUND_MS}ms",
        }
        service = await stack.enter_async_context(running_service(config, store.url))
        tap = Tap(store.url, Account())
        follower = Follower(service.websocket, Account(whole=False))
        chance = random.Random(_SEED)
        soak = Soak(
            seconds=seconds,
            streams=count,
            account=tap.account,
            follower=follower,
            sampler=Sampler(service),
            churn=Churn(service, cameras, chance),
            faults=Faults(service, store, steady, follower, (tap.account, follower.account), chance),
            visitors=Visitors(service.websocket, _VISITORS, chance, lambda: follower.past),
        )
        await _run(soak, service, tap)
    return soak


async def _camera(stack: contextlib.AsyncExitStack, clip: Path) -> LocalCamera:
    camera = LocalCamera(clip)
    stack.callback(camera.stop)
    await asyncio.to_thread(camera.start)
    return camera


async def _steady(stack: contextlib.AsyncExitStack, name: str, camera: LocalCamera) -> Steady:
    return Steady(name, camera, await stack.enter_async_context(Relay(camera.port)))


async def _run(soak: Soak, service: Started, tap: Tap) -> None:
    began_s, over = time.monotonic(), asyncio.Event()
    readers = [asyncio.create_task(tap.run()), asyncio.create_task(soak.follower.run())]
    ended = asyncio.create_task(service.process.wait())
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in (soak.sampler, soak.churn, soak.faults, soak.visitors):
                tasks.create_task(part.run(over))
            tasks.create_task(_watch(soak, began_s))
            await asyncio.wait([ended], timeout=soak.seconds)
            soak.ended_early = ended.done()
            over.set()
        await soak.sampler.sample()  # what was broken last was healed after its last look
        warm_up_s = min(soak.seconds * _WARM_UP_PART, _WARM_UP_MOST_S)
        soak.slopes = soak.sampler.slopes(began_s + warm_up_s)
        stopping_s = time.monotonic()
        soak.exit_code = await service.stop()
        soak.stopped_in_s = time.monotonic() - stopping_s
        if soak.exit_code:
            click.echo("".join(service.log), err=True)
    finally:
        for task in (*readers, ended):
            task.cancel()
        await asyncio.gather(*readers, ended, return_exceptions=True)
    await tap.finish()
    soak.breaks = tap.losses


async def _watch(soak: Soak, began_s: float) -> None:
    """A line a minute, so that whoever waits sees that it lives."""
    minutes = int(soak.seconds // 60)
    for minute in range(1, minutes):
        await asyncio.sleep(max(0.0, began_s + 60 * minute - time.monotonic()))
        account = soak.account
        click.echo(
            f"{minute} min: {account.segments} segments, missing {account.missing}, late {account.late}, duplicate "
            f"{account.duplicate}; {soak.churn.added} streams added, faults {soak.faults.injected}",
            err=True,
        )


# -- the report ----------------------------------------------------------------------------------------------------


def _result(soak: Soak, broken: list[str], clip: Path) -> dict[str, object]:
    account = soak.account
    service = soak.slopes.get("service", {})
    return {
        **{title: round(service[name].per_hour, 3) if name in service else None for title, name in _SLOPES.items()},
        "slopes": {process: _slopes(found) for process, found in soak.slopes.items()},
        "allowed_growth": ALLOWED,
        "queues": {name: asdict(queue) for name, queue in sorted(soak.sampler.queues.items())},
        "segments": account.segments,
        "epochs": account.epochs,
        "statuses": dict(account.statuses),
        "shed": dict(account.shed),
        "late": account.late,
        "late_acknowledged": int(sum(soak.sampler.late.values())),
        "missing": account.missing,
        "duplicate": account.duplicate,
        "delivered_late": account.delivered_late,
        "unexplained_late": account.unexplained_late,
        "outages_s": [round(((o.ended_ms or o.began_ms) - o.began_ms) / 1000, 2) for o in account.outages],
        "store_breaks": soak.breaks,
        "lost_at_breaks": account.lost_at_breaks,
        "again_at_breaks": account.again_at_breaks,
        "frozen_late": int(sum(soak.sampler.frozen_late.values())),
        "frozen_s": soak.sampler.total("streamer_frozen_seconds_total"),
        "faults": soak.faults.injected,
        "labels_again_s": _times(soak.faults.recoveries),
        "churn": {"added": soak.churn.added, "removed": soak.churn.removed, "refused": soak.churn.refused},
        "subscriber": {
            "segments": soak.follower.account.segments,
            "missing": soak.follower.account.missing,
            "duplicate": soak.follower.account.duplicate,
            "gaps": soak.follower.gaps,
            "interruptions": soak.follower.interruptions,
        },
        "visitors": dict(soak.visitors.seen),
        "stopped_in_s": round(soak.stopped_in_s, 2),
        "kept": not broken,
        "broken": broken,
        "first_faults": [*account.faults, *(f"subscriber: {text}" for text in soak.follower.account.faults)],
        "seconds": soak.seconds,
        "streams": soak.streams,
        "bound_ms": _BOUND_MS,
        "input": {"clip": clip.name, "bytes": clip.stat().st_size},
        "command": "streamer " + " ".join(sys.argv[1:]),
        **conditions(),
    }


def _times(recoveries: list[Recovery]) -> dict[str, dict[str, float | int | None]]:
    """By fault: how many recoveries, how many of them never or under overload, the median and the longest in
    seconds."""
    by_fault: dict[str, list[Recovery]] = defaultdict(list)
    for recovery in recoveries:
        by_fault[recovery.fault].append(recovery)
    found = {}
    for fault, ones in by_fault.items():
        known = sorted(one.seconds for one in ones if one.seconds is not None)
        found[fault] = {
            "count": len(ones),
            "never": len(ones) - len(known),
            "overloaded": sum(one.overloaded for one in ones),
            "p50": round(known[len(known) // 2], 2) if known else None,
            "max": round(known[-1], 2) if known else None,
        }
    return found


def _slopes(found: dict[str, Slope]) -> dict[str, dict[str, float]]:
    return {name: {key: round(value, 3) for key, value in asdict(fitted).items()} for name, fitted in found.items()}


def _report(result: dict[str, object]) -> None:
    for title in (
        "segments",
        "statuses",
        "shed",
        "late",
        "missing",
        "duplicate",
        "delivered_late",
        "labels_again_s",
        "churn",
    ):
        click.echo(f"  {title:15} {result[title]}", err=True)
    for title in ("rss_slope_mb_h", "fd_slope_h", "threads_slope_h", "tasks_slope_h"):
        click.echo(f"  {title:15} {result[title]}", err=True)
    broken = result["broken"]
    assert isinstance(broken, list)
    for text in broken:
        click.echo(f"  broken: {text}", err=True)
    click.echo("the promise was " + ("broken" if broken else "kept"), err=True)
