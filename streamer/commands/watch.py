"""A subscriber in the terminal: follows a service, and after any interruption goes on where it was."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from rich.console import Console
from rich.text import Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from streamer.commands.lines import pretty
from streamer.config import mask_url
from streamer.errors import UserError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
_PATH = "/v1/subscribe"


class _Place(msgspec.Struct):
    type: str
    cursor: str | None = None


_place_decoder = msgspec.json.Decoder(_Place)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to follow: the service's websocket URL (host alone will do) and the filter, as in the query of the URL."""

    url: str = "ws://127.0.0.1:8081/v1/subscribe"
    streams: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    min_score: float | None = None
    since: str | None = None

    def target(self, since: str | None) -> str:
        """The URL to connect to, resuming after `since`.

        Raises:
            UserError: `url` is no websocket URL.
        """
        parts = urlsplit(self.url if "://" in self.url else f"ws://{self.url}")
        try:
            usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            raise UserError(f"{mask_url(self.url)} is no websocket URL: write ws://HOST:PORT{_PATH}")
        query = [("stream", glob) for glob in self.streams] + [("label", name) for name in self.labels]
        if self.min_score is not None:
            query.append(("min_score", repr(self.min_score)))
        if since is not None:
            query.append(("since", since))
        path = parts.path if parts.path.strip("/") else _PATH
        whole = "&".join(filter(None, [parts.query, urlencode(query)]))
        return urlunsplit((parts.scheme, parts.netloc, path, whole, ""))


async def watch(
    subscription: Subscription,
    *,
    as_json: bool = False,
    write: Callable[[str], None] | None = None,
    messages: int | None = None,
) -> None:
    """Write a line for each message to `write` (default: standard output) until cancelled, or for `messages` messages.

    Raises:
        UserError: the URL is none, or the service refuses the subscription for good (the text says why).
    """
    console = Console(highlight=False, soft_wrap=True)
    seen = 0
    async for raw in follow(subscription, _note):
        line = Text(raw) if as_json else pretty(msgspec.json.decode(raw))
        try:
            if write is not None:
                write(line.plain)
            elif as_json:
                print(raw, flush=True)
            else:
                console.print(line)
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        seen += 1
        if seen == messages:
            return


async def follow(subscription: Subscription, on_trouble: Callable[[str], None] = lambda _: None) -> AsyncIterator[str]:
    """Messages of `subscription` as JSON, `hello` included, reconnecting for ever.

    After an interruption they go on after the last cursor seen. `on_trouble` gets a line when the connection is lost or
    cannot be made.

    Raises:
        UserError: as `watch`.
    """
    since, pause_s = subscription.since, _FIRST_PAUSE_S
    while True:
        try:
            async with connect(subscription.target(since), max_size=2**22, compression=None, open_timeout=5) as peer:
                async for raw in _texts(peer):
                    pause_s = _FIRST_PAUSE_S
                    since = _place(raw, since)
                    yield raw
            trouble = f"the service closed the connection ({peer.close_reason or peer.close_code})"
        except InvalidStatus as error:
            trouble = _refusal(error)
        except InvalidURI as error:
            raise UserError(f"{mask_url(subscription.url)} is no websocket URL: write ws://HOST:PORT{_PATH}") from error
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
            trouble = f"{mask_url(subscription.url)} does not answer ({type(error).__name__})"
        on_trouble(f"{trouble}; trying again in {pause_s:.2g} s")
        # Jittered, so that many who lost the same service do not come back in the same moment.
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _place(raw: str, since: str | None) -> str | None:
    """Where to go on after this message. A `hello` says where the feed is: no place for one who still catches up."""
    message = _place_decoder.decode(raw)
    return since if message.cursor is None or (message.type == "hello" and since is not None) else message.cursor


async def _texts(peer: ClientConnection) -> AsyncIterator[str]:
    try:
        async for raw in peer:
            yield raw if isinstance(raw, str) else raw.decode(errors="replace")
    except ConnectionClosed:
        return


def _refusal(error: InvalidStatus) -> str:
    """Why the service refused for now.

    Raises:
        UserError: it will always refuse this.
    """
    status = error.response.status_code
    try:
        detail = str(msgspec.json.decode(error.response.body or b"")["detail"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        detail = "no reason given"
    if 400 <= status < 500 and status not in (408, 429):
        raise UserError(f"the service refuses this subscription ({status}): {detail}") from error
    return f"the service refuses for now ({status}): {detail}"


def _note(text: str) -> None:
    """Trouble goes to standard error, so that standard output stays a clean list of messages."""
    print(text, file=sys.stderr, flush=True)
