"""What a soak does to a running service: streams that come and go, and one fault after the other.

Each fault is healed before the next, and how long it took until labels came again is measured: of a camera from its
first keyframe on, of everything else from the moment at which it was back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streamer.bench.followers import Follower
from streamer.bench.outcomes import Account, Outage
from streamer.bench.processes import request
from streamer.bench.relay import Relay
from streamer.bench.running import Started
from streamer.demo.camera import LocalCamera
from streamer.errors import StoreError
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_GUESTS = 2
_PATIENCE_S = 30.0
# A process fills up what it keeps after each of its starts: killed in every round it would never be seen at rest.
_PROCESS_ROUNDS = 6
# In which every stream of a reader process that died is known to have lost its camera.
_TOLD_S = 1.0


@dataclass(frozen=True, slots=True)
class Steady:
    """A stream that is there for the whole run: its camera, and the way to it."""

    name: str
    camera: LocalCamera
    relay: Relay


@dataclass(frozen=True, slots=True)
class Recovery:
    """After `fault`, labels of `stream` came again after so many seconds; None: not within the patience.

    `overloaded`: meanwhile a segment came without labels because the machine had no time for it. That is an answer too,
    and no fault of the recovery.
    """

    fault: str
    stream: str
    seconds: float | None
    overloaded: bool = False


@dataclass(slots=True)
class Churn:
    """Streams that come and go through the API, `_GUESTS` at a time, one change every second or two."""

    service: Started
    cameras: Sequence[LocalCamera]
    chance: random.Random
    added: int = 0
    removed: int = 0
    refused: int = 0
    _here: list[str] = field(default_factory=list)

    async def run(self, over: asyncio.Event) -> None:
        """Go on until `over`, then remove whoever is left."""
        while not over.is_set():
            await pause(over, self.chance.uniform(1.0, 2.0))
            full, empty = len(self._here) == _GUESTS, not self._here
            if full or (not empty and self.chance.random() < 0.5):
                await self._remove(self.chance.choice(self._here))
            else:
                await self._add()
        for name in list(self._here):
            await self._remove(name)

    async def _add(self) -> None:
        name = f"guest-{self.added + self.refused}"
        entry = {"source": self.chance.choice(self.cameras).url}
        if await self._ask("PUT", name, entry) == 201:
            self._here.append(name)
            self.added += 1
        else:
            self.refused += 1

    async def _remove(self, name: str) -> None:
        if await self._ask("DELETE", name) == 204:
            self._here.remove(name)
            self.removed += 1
        else:
            self.refused += 1

    async def _ask(self, method: str, name: str, body: Mapping[str, object] | None = None) -> int:
        try:
            return await asyncio.to_thread(request, method, f"{self.service.page}/v1/streams/{name}", body)
        except OSError:
            return 0


@dataclass(slots=True)
class Faults:
    """One fault after the other, each healed, with the recovery of every stream that it touched."""

    service: Started
    store: EmbeddedStore
    steady: Sequence[Steady]
    follower: Follower
    accounts: Sequence[Account]
    chance: random.Random
    injected: dict[str, int] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)

    async def run(self, over: asyncio.Event) -> None:
        """Go on until `over`; whatever is broken then is healed first."""
        kinds = (
            *(self._camera_restarts, self._network_cut, self._store_frozen, self._store_killed),
            *(self._reader_killed, self._hub_killed),
        )
        for turn, kind in ((turn, kind) for turn in itertools.count() for kind in kinds):
            if kind in (self._reader_killed, self._hub_killed) and turn % _PROCESS_ROUNDS:
                continue
            await pause(over, self.chance.uniform(3.0, 5.0))
            if over.is_set():
                return
            await kind()

    def _count(self, fault: str) -> None:
        self.injected[fault] = self.injected.get(fault, 0) + 1

    async def _camera_restarts(self) -> None:
        """A camera is killed and comes back a second later on the same port."""
        camera = self.chance.choice(self.steady).camera
        hit = [stream for stream in self.steady if stream.camera is camera]
        epochs = self._epochs(hit)
        self._count("camera")
        await asyncio.to_thread(camera.kill)
        await asyncio.sleep(1.0)
        began_s = time.monotonic()
        await asyncio.to_thread(camera.start)
        await self._new_epochs("camera", hit, began_s, epochs)

    async def _network_cut(self) -> None:
        """All connections to a camera break; new ones can be made at once."""
        camera = self.chance.choice(self.steady).camera
        hit = [stream for stream in self.steady if stream.camera is camera]
        epochs = self._epochs(hit)
        self._count("network")
        began_s = time.monotonic()
        for stream in hit:
            stream.relay.cut()
        await self._new_epochs("network", hit, began_s, epochs)

    async def _store_frozen(self) -> None:
        """The store hangs for three seconds."""
        self._count("store_frozen")
        pid = self.store.pid
        assert pid is not None
        with self._outage():
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(3.0)
            finally:
                os.kill(pid, signal.SIGCONT)
        await self._labels("store_frozen", self.steady, time.monotonic())

    async def _store_killed(self) -> None:
        """The store dies and is started again, empty, by whoever keeps it."""
        self._count("store_killed")
        pid = self.store.pid
        assert pid is not None
        with self._outage():
            os.kill(pid, signal.SIGKILL)
            await self._store_back(pid)
        await self._labels("store_killed", self.steady, time.monotonic())

    async def _store_back(self, pid: int) -> None:
        probe = Store.connect(self.store.url)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while self.store.pid in (None, pid):  # noqa: ASYNC110 - a process id has no event
                    await asyncio.sleep(0.005)
                while True:
                    with contextlib.suppress(StoreError):
                        return await probe.ping()
                    await asyncio.sleep(0.005)
        finally:
            await probe.close()

    async def _reader_killed(self) -> None:
        """A reader process dies; the service replaces it, and the streams that it read connect again."""
        readers = self.service.readers
        if not readers:
            return
        epochs = self._epochs(self.steady)
        self._count("reader")
        began_s = time.monotonic()
        os.kill(self.chance.choice(readers), signal.SIGKILL)
        # Whose streams they were is not known from outside: wait for all, and then only for those that were lost.
        waits = {
            stream.name: asyncio.create_task(self._back("reader", stream, began_s, epochs)) for stream in self.steady
        }
        await asyncio.sleep(_TOLD_S)
        for name, wait in waits.items():
            if self.follower.lost_s.get(name, 0.0) < began_s:
                wait.cancel()
        await asyncio.gather(*waits.values(), return_exceptions=True)

    async def _hub_killed(self) -> None:
        """The hub dies; the service replaces it, and subscribers come back."""
        hub = self.service.hub
        if hub is None:
            return
        self._count("hub")
        os.kill(hub, signal.SIGKILL)
        await self._labels("hub", self.steady, time.monotonic())

    @contextlib.contextmanager
    def _outage(self) -> Iterator[None]:
        outage = Outage(time.time_ns() // 1_000_000)
        for account in self.accounts:
            account.outages.append(outage)
        try:
            yield
        finally:
            outage.ended_ms = time.time_ns() // 1_000_000

    # -- until labels come again -----------------------------------------------------------------------------------

    def _epochs(self, streams: Sequence[Steady]) -> dict[str, str | None]:
        found = {stream.name: self.follower.labelled.get(stream.name) for stream in streams}
        return {name: None if arrival is None else arrival.epoch for name, arrival in found.items()}

    async def _new_epochs(
        self, fault: str, streams: Sequence[Steady], began_s: float, epochs: dict[str, str | None]
    ) -> None:
        await asyncio.gather(*(self._back(fault, stream, began_s, epochs) for stream in streams))

    async def _back(self, fault: str, stream: Steady, began_s: float, epochs: dict[str, str | None]) -> None:
        """Until a stream has labels of a new epoch, counted from its camera's first keyframe after `began_s`."""
        relay = stream.relay

        def keyframe_s() -> float | None:
            return relay.played_s if relay.played_s is not None and relay.played_s >= began_s else None

        await self._wait(fault, stream, keyframe_s, epochs[stream.name])

    async def _labels(self, fault: str, streams: Sequence[Steady], since_s: float) -> None:
        """Until each stream has any labels that arrived after `since_s`."""
        await asyncio.gather(*(self._wait(fault, stream, lambda: since_s, None) for stream in streams))

    async def _wait(self, fault: str, stream: Steady, since: Callable[[], float | None], epoch: str | None) -> None:
        began_s = time.monotonic()
        seconds = await self.follower.labels_after(stream.name, since, epoch, _PATIENCE_S)
        overloaded = self.follower.overloaded_s.get(stream.name, 0.0) >= began_s
        self.recoveries.append(Recovery(fault, stream.name, seconds, overloaded))


async def pause(over: asyncio.Event, seconds: float) -> None:
    """Wait for so long, or until it is over."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
