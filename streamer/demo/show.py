"""`streamer demo`: a camera of its own, the service, its page, and the labels in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from rich.text import Text

from streamer.commands.options import Addresses, Options
from streamer.commands.terminal import Console
from streamer.commands.watch import Subscription, watch
from streamer.config import StreamConfig, mask_url
from streamer.demo.camera import LocalCamera
from streamer.demo.reel import reel
from streamer.service import Service


def show(options: Options, *, as_json: bool = False) -> None:
    """Run the demo until Ctrl-C or SIGTERM. `options.streams` names the user's own source; empty: the demo's clip.

    Raises:
        MediaError: the demo's clip can't be had (name a source then), or its camera can't start.
        StreamerError: the service can't start.
    """
    console = Console(as_json=as_json)
    with contextlib.ExitStack() as stack:
        if not options.streams:
            clip = reel(progress=console.fetching)
            console.fetched()
            camera = stack.enter_context(LocalCamera(clip.path))
            options = replace(options, streams={"demo": StreamConfig(source=camera.url)})
            console.err.print(Text(f"clip       {clip.path}"))
            for line in clip.credits:
                console.err.print(Text(f"           {line}", "dim"))
        for name, entry in options.streams.items():
            console.err.print(Text.assemble("camera     ", f"{mask_url(entry.source)} as ", (name, "cyan")))
        asyncio.run(_show(Service(options), console, as_json))


async def _show(service: Service, console: Console, as_json: bool) -> None:
    service.heed_signals()
    async with service.running(console.fetching) as addresses:
        console.service_started(addresses)
        labels = asyncio.create_task(watch(_subscription(service, addresses), as_json=as_json))
        try:
            await service.until_stopped()
        finally:
            labels.cancel()
            await asyncio.gather(labels, return_exceptions=True)


def _subscription(service: Service, addresses: Addresses) -> Subscription:
    token = f"?access_token={service.config.tokens[0]}" if service.config.tokens else ""
    return Subscription(addresses.websocket + token)
