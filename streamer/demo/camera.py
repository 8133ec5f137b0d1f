"""A local RTSP camera that loops one clip for ever: the demo's source, in a process of its own.

It speaks RTSP with RTP over TCP (a UDP SETUP is answered 461). Run as a module it serves one file and prints its port
on standard output: `python -m streamer.demo.camera CLIP HOST PORT`. It ends when its standard input closes, so it never
outlives its parent, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from streamer.demo.clip import load
from streamer.demo.rtsp import PATH, serve
from streamer.errors import MediaError

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 3.0

log = logging.getLogger(__name__)


class LocalCamera:
    """Serves `clip` at `url` from `start()` to `stop()`; a context manager does both.

    With `port` 0 the system chooses one, which is kept over `stop()` and `start()`. Starting blocks for about half a
    second: do it off the event loop.
    """

    def __init__(self, clip: Path, port: int = 0, host: str = "127.0.0.1") -> None:
        self.clip = clip
        self.host = host
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where to read it; meaningful once started."""
        return f"rtsp://{self.host}:{self.port}{PATH}"

    @property
    def pid(self) -> int | None:
        """The server's process, None while stopped."""
        return None if self._process is None else self._process.pid

    def start(self) -> str:
        """Start serving and give the URL. Raises MediaError where the clip isn't there or the port is taken."""
        if self._process is not None:
            return self.url
        if not self.clip.is_file():
            raise MediaError(f"{self.clip}: no such clip for the local camera; name a file that exists")
        command = [sys.executable, "-m", "streamer.demo.camera", str(self.clip), self.host, str(self.port)]
        # Its own session: Ctrl-C in a terminal is for the service, which ends its camera last.
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        # A child that hangs before it listens is ended here, so that the read below can't wait for ever.
        watchdog = threading.Timer(_START_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            answer = process.stdout.readline().strip() if process.stdout is not None else ""
        finally:
            watchdog.cancel()
        if not answer.isdigit():
            process.kill()
            _, errors = process.communicate()
            reason = errors.strip().splitlines()[-1] if errors.strip() else "the server gave no reason"
            raise MediaError(f"cannot start the local camera on {self.host}:{self.port}: {reason}; try another port")
        self.port = int(answer)
        self._process = process
        threading.Thread(target=self._relay_errors, args=(process,), name="camera-log", daemon=True).start()
        return self.url

    def stop(self) -> None:
        """End the server and wait for it; nothing where it isn't running."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it ended by itself
            process.stdin.close() if process.stdin is not None else None
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def kill(self) -> None:
        """End the server at once, as a power cut would: its connections break in mid-stream."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.stop()

    @staticmethod
    def _relay_errors(process: subprocess.Popen[str]) -> None:
        """What the server complains of goes to this process's log; reading it keeps the pipe from filling up."""
        if process.stderr is not None:
            with process.stderr as lines:
                for line in lines:
                    log.info("local camera: %s", line.rstrip())

    def __enter__(self) -> LocalCamera:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


async def _serve(clip: Path, host: str, port: int, answer: int) -> None:
    server = await serve(load(clip), host, port)
    os.write(answer, f"{server.sockets[0].getsockname()[1]}\n".encode())
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    await server.serve_forever()


def _end_with_parent() -> None:
    """Standard input ends when the parent closes it or dies. Sessions are not waited for: the system closes them."""
    sys.stdin.buffer.read()
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Serve `[CLIP, HOST, PORT]` until standard input ends."""
    clip, host, port = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal: it is the parent that ends this
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        asyncio.run(_serve(Path(clip), host, int(port), sys.stdout.fileno()))
    except (OSError, MediaError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
