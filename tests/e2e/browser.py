"""A headless Chromium steered over its DevTools protocol: just enough for tests of the page, without a driver."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

NEEDS_CHROMIUM = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no chromium; `apt-get install chromium` removes this skip"
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-port=0",
)  # fmt: skip

_NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"


class Tab:
    """One page of a browser. `requested`: every address it asked for since `watch_network`, websockets included."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        self.requested: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its result; what the page logs as an error meanwhile is kept in `problems`."""
        number = next(self._numbers)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(30):
            while True:
                message = json.loads(await self._connection.recv())
                self._note(message)
                if message.get("id") == number:
                    assert "error" not in message, message["error"]
                    return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(message["params"]["exceptionDetails"]))
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        if message.get("method") == "Network.webSocketCreated":
            self.requested.append(message["params"]["url"])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            entry = message["params"]["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")

    async def open(self, url: str) -> None:
        """Load `url` and wait until it is there with all that it names.

        Once it is loaded again where Chromium broke it off because an address came to this machine or went: other tests
        make networks of their own.
        """
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        if await self._navigate(url):
            self.problems = [problem for problem in self.problems if _NETWORK_CHANGED not in problem]
            await self._navigate(url)

    async def _navigate(self, url: str) -> bool:
        """Load `url`; whether it, or something that it names, was broken off by a change of networks."""
        known = len(self.problems)
        answer = await self.call("Page.navigate", url=url)
        if answer.get("errorText") == _NETWORK_CHANGED:
            return True
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        return any(_NETWORK_CHANGED in problem for problem in self.problems[known:])

    async def first_run(self, script: str) -> None:
        """Run `script` in every document from now on, before its own scripts."""
        await self.call("Page.enable")
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    @contextlib.asynccontextmanager
    async def another(self) -> AsyncIterator[Tab]:
        """An empty tab of the same browser, in a window of its own, so that both are seen."""
        made = await self.call("Target.createTarget", url="about:blank", newWindow=True)
        host, port = self._connection.remote_address[:2]
        url = f"ws://{host}:{port}/devtools/page/{made['targetId']}"
        async with connect(url, max_size=None) as connection:
            yield Tab(connection)
            await self.call("Target.closeTarget", targetId=made["targetId"])

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 15.0) -> None:
        """Wait until `expression` is truthy in the page."""
        try:
            async with asyncio.timeout(timeout_s):
                # A page can't set an event of this process.
                while not await self.evaluate(f"Boolean({expression})"):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText.slice(0, 2000)")
            raise AssertionError(f"{expression} stayed untrue; the page shows:\n{shown}\n{self.problems}") from None

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the window's size in CSS pixels and the preferred colour scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def key(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def watch_network(self) -> None:
        """From now on `requested` is kept."""
        await self.call("Network.enable")

    async def collect_garbage(self) -> None:
        """Free what nothing holds any more."""
        for _ in range(2):  # What a first round only made unreachable goes in the second.
            await self.call("HeapProfiler.collectGarbage")

    async def alive(self, prototype: str) -> int:
        """How many objects with the prototype that a JavaScript expression names are held, after collecting garbage."""
        await self.collect_garbage()
        found = await self.call("Runtime.evaluate", expression=prototype, awaitPromise=True)
        objects = await self.call("Runtime.queryObjects", prototypeObjectId=found["result"]["objectId"])
        counted = await self.call(
            "Runtime.callFunctionOn",
            objectId=objects["objects"]["objectId"],
            functionDeclaration="function () { return this.length; }",
            returnByValue=True,
        )
        await self.call("Runtime.releaseObject", objectId=objects["objects"]["objectId"])
        return int(counted["result"]["value"])

    async def screenshot(self, path: Path) -> None:
        """Save what is seen as PNG."""
        picture = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(picture["data"]))


@contextlib.asynccontextmanager
async def browser(arguments: tuple[str, ...] = ()) -> AsyncIterator[Tab]:
    """A fresh browser with one empty tab, gone with all its processes afterwards; `arguments` on its command line."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            "chromium", *_FLAGS, *arguments, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            port = await _port(process)
            async with connect(await _tab_url(port), max_size=None) as connection:
                yield Tab(connection)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(60):
        while line := await process.stderr.readline():
            said += line
            if b"DevTools listening on" in line:
                return int(line.rsplit(b":", 1)[1].split(b"/")[0])
    raise AssertionError(f"chromium ended: {said.decode(errors='replace')[-2000:]}")


async def _tab_url(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        # Chromium keeps the connection open, so the length says where the body ends.
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
    writer.close()
    return str(next(tab["webSocketDebuggerUrl"] for tab in json.loads(body) if tab["type"] == "page"))
