"""The services that apprise knows (Slack, Telegram, Teams, e-mail, ntfy and a hundred others), told in a process apart.

Its libraries block, read as much as they are sent and wait as long as they like; a process can be ended when it has
had its time, holds no more memory than it is given, and takes no turn away from the deliveries to others. It ends with
its sender, and where nothing was to be told for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from functools import lru_cache
from typing import Literal

import msgspec

from streamer.alertconfig import SendConfig
from streamer.alerts.records import Delivery, NotDelivered
from streamer.alerts.senders.service_talk import Opening, Telling, Told
from streamer.alerts.text import body, title
from streamer.child import environment

_CHILD = [sys.executable, "-m", "streamer.alerts.senders.service_child"]
_TIMEOUT_S = 30.0
_IDLE_S = 120.0
_CHECK_S = 30.0
_KINDS: dict[str, Literal["info", "warning", "failure"]] = {
    "info": "info",
    "warning": "warning",
    "critical": "failure",
}


class ServiceSender:
    """Tells one service, one delivery at a time.

    These services know no ids of deliveries: one whose answer was lost is told twice.
    """

    def __init__(self, config: SendConfig, timeout_s: float = _TIMEOUT_S, idle_s: float = _IDLE_S) -> None:
        """timeout_s: how long telling may take, the start of the process included. idle_s: how long the process stays
        when there is nothing to tell."""
        self._opening = Opening(config.url, config.allow_private, timeout_s)
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Future[int]] = set()

    async def send(self, delivery: Delivery) -> None:
        """As `Sender.send`."""
        alert = delivery.alert
        kind = "success" if alert.state == "cleared" else _KINDS[alert.severity]
        telling = Telling(title(delivery), body(delivery), kind)
        async with self._turn:
            self._stay()
            told = await self._told(telling)
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._kill)
        if told.fault is not None:
            raise NotDelivered(told.fault, retry=told.retry)

    async def aclose(self) -> None:
        """As `Sender.aclose`."""
        self._stay()
        self._kill()
        await asyncio.gather(*self._ending)

    async def _told(self, telling: Telling) -> Told:
        answered = False
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._asked(telling)
            answered = True
        except TimeoutError:
            text = f"the service did not answer within {self._timeout_s:g} s; it may have been told"
            return Told(text)
        except OSError as error:
            return Told(f"the process that tells this service can't be started ({error.strerror})")
        finally:
            if not answered:
                # What it would still say belongs to this delivery, and must not be taken for the next one's answer.
                self._kill()
        return msgspec.json.decode(line, type=Told) if line else Told("the process that tells this service ended")

    async def _asked(self, telling: Telling) -> bytes:
        """One answer of the process, started where it is not running; empty where it ended."""
        process = self._process
        if process is not None and _has_ended(process.pid):
            self._kill()
            process = None
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                *_CHILD,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
            opened = await _exchange(process, self._opening)
            if not opened or msgspec.json.decode(opened, type=Told).fault is not None:
                self._kill()
                return opened
        return await _exchange(process, telling)

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            ended = asyncio.ensure_future(process.wait())
            self._ending.add(ended)
            ended.add_done_callback(self._ending.discard)


def _has_ended(pid: int) -> bool:
    """Whether a process of ours has ended, asked of the system: asyncio learns of it a moment later."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


async def _exchange(process: asyncio.subprocess.Process, message: Opening | Telling) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    # A few kilobytes at most, which the pipe's buffer takes; where the process has ended, the answer is missing.
    process.stdin.write(msgspec.json.encode(message) + b"\n")
    return await process.stdout.readline()


def make(name: str, config: SendConfig) -> ServiceSender:
    """The sender for every URL whose scheme is none of ours."""
    return ServiceSender(config)


def check(config: SendConfig) -> str | None:
    """As `check_receiver`, for every scheme that is none of ours: asks a process that loads apprise, and ends."""
    try:
        return _checked(config.url, config.allow_private)
    except subprocess.TimeoutExpired:
        return f"apprise did not say within {_CHECK_S:g} s whether it knows this service: try again"


@lru_cache(maxsize=64)
def _checked(url: str, allow_private: bool) -> str | None:
    """Remembered, because a file is read again whenever somebody edits it; raises what is not to be remembered."""
    opening = msgspec.json.encode(Opening(url, allow_private, _CHECK_S)) + b"\n"
    done = subprocess.run(_CHILD, input=opening, capture_output=True, timeout=_CHECK_S, env=environment())
    return (
        msgspec.json.decode(done.stdout, type=Told).fault if done.stdout else "apprise can't be asked: is it installed?"
    )
