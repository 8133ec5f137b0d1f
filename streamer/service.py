"""The service as a whole: starts every room in order, keeps the streams, stops in order.

Start: store, publisher, hub, HTTP side (so that `/readyz` can say what is still missing), alerts, engine, streams.
Stop, within 5 s: streams (what was accepted is answered and published), publisher, alerts, hub (subscribers get a close
frame), HTTP side, store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Literal

from streamer.alertdesk.desk import AlertDesk
from streamer.alerting import Alerting
from streamer.alerts.settings import AlertsSettings
from streamer.answering import MAX_WINDOWS, AnsweringParts, PublishHooks, answering
from streamer.clock import NS_PER_MS, HostClock
from streamer.commands.options import Addresses, Options, check_exposure
from streamer.config import Config, IceServer, StreamConfig, ice_servers_of
from streamer.engine import Engine, load
from streamer.errors import ConflictError, StreamerError, UserError
from streamer.http.server import Server, ServerConfig
from streamer.hub.process import HubProcess
from streamer.hub.settings import HubSettings
from streamer.labelnames import label_names, people_labels
from streamer.listening import Listening, ListeningParts, desk_of
from streamer.lookout import Lookout
from streamer.memory import settle_memory
from streamer.observe.freeze import FreezeWatch
from streamer.observe.metrics import Metrics
from streamer.observe.stalls import StallWatch
from streamer.observe.trace import Traces
from streamer.picturing import Picturing
from streamer.pipeline import Source
from streamer.publishing.captions import Captions
from streamer.publishing.publish import PublishConfig, Publisher
from streamer.registry import Registry
from streamer.settings import Settings
from streamer.sources.pool import ReaderPool
from streamer.sources.source import SourceSettings, open_source
from streamer.speechconfig import keyword_labels
from streamer.status import LabelInfo, Publication, Readiness, StreamStatus, Trace, Why
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store
from streamer.tasks import background
from streamer.why.desk import WhyDesk
from streamer.why.explain import Graphs

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
# Between the starts of two streams, and for all of them together.
_START_APART_S, _START_WITHIN_S = 0.15, 5.0


class Service:
    """`async with Service(options).running() as addresses:` serves until the block is left. It is the HTTP side's
    `Control`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = Settings(options)
        self._clock = HostClock()
        self._metrics = Metrics()
        self._freezes = FreezeWatch(self._clock)
        self._stalls = StallWatch(self._freezes)
        self._metrics.watch_freezes(self._freezes)
        self._metrics.watch_stalls(self._stalls)
        self._traces = Traces()
        self._why = WhyDesk(self._clock, self._shows, self._metrics)
        self._alerts_process = Alerting(self._alert_settings, self._metrics, self._fail)
        self.alerting = AlertDesk(self._alert_settings)
        self._outbox, self._model = self.config.outbox, self.config.model
        self._labels = label_names(model=self.config.model)
        self._keywords = keyword_labels(self.config.speech.keywords)
        self._redis_url = self._page_url = ""
        self._picturing = Picturing(
            lambda: self.config,
            lambda: {} if self._registry is None else self._registry.live,
            self._clock,
            self._metrics,
            options.weights,
        )
        self._pool = ReaderPool()
        self._engine: Engine | None = None
        self._registry: Registry | None = None
        self._publisher: Publisher | None = None
        self._store: Store | None = None
        self._fault: str | None = None
        self._over = asyncio.Event()

    @property
    def config(self) -> Config:
        """The configuration in force, the command line's words included."""
        return self._settings.config

    @contextlib.asynccontextmanager
    async def running(self, progress: Progress | None = None) -> AsyncIterator[Addresses]:
        """Start everything in order, give the addresses, and stop everything in the opposite order.

        Args:
            progress: told (name, bytes done, bytes in all) while weights are fetched.

        Raises:
            UserError: an address, URL or setting can't be used.
            StreamerError: a part could not be started.
        """
        check_exposure(self._options, self.config)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._freezes)
            stack.enter_context(self._stalls)
            self._stalls.watch("main", asyncio.get_running_loop())
            stack.enter_context(self._pool)
            self._redis_url = await self._storing(stack)
            addresses = await self._listening(stack, self._redis_url)
            await stack.enter_async_context(self._alerts_process.running())
            await self._computing(stack, progress)
            await asyncio.to_thread(settle_memory)
            await self._begin_streams()
            await stack.enter_async_context(self._picturing.running())
            assert self._registry is not None
            await background(stack, self._settings.follow(self._registry), "reload", self._fail)
            yield addresses

    def heed_signals(self) -> None:
        """From here on SIGINT and SIGTERM end `until_stopped`, whenever they come."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._over.set)

    async def until_stopped(self) -> None:
        """Wait for the signal to stop.

        Raises:
            StreamerError: a part of the service has failed; it can't go on, and who started it should start it again.
        """
        await self._over.wait()
        if self._fault is not None:
            raise StreamerError(f"the {self._fault} failed, see the log; start the service again")

    def _fail(self, name: str) -> None:
        self._fault = name
        self._over.set()

    # -- starting ------------------------------------------------------------------------------------------------

    async def _storing(self, stack: contextlib.AsyncExitStack) -> str:
        redis = self.config.redis
        url = redis.url
        if url is None:
            url = (await stack.enter_async_context(EmbeddedStore(redis.max_memory_bytes))).url
        self._store = Store.connect(url)
        stack.push_async_callback(self._store.close)
        settings = PublishConfig(retention_ns=redis.retention_ns, max_memory_bytes=redis.max_memory_bytes)
        hooks = PublishHooks(self._metrics, self._traces, self._freezes, self.config.latency_bound_ns)
        # A store of its own, because connections belong to one loop.
        self._publisher = Publisher(Store.connect(url), settings, hooks=hooks, clock=self._clock)
        return url

    async def _listening(self, stack: contextlib.AsyncExitStack, redis_url: str) -> Addresses:
        options, config = self._options, self.config
        host, port = options.http[0], options.http[1] or _free_port(options.http[0])
        hub = await stack.enter_async_context(
            HubProcess(
                HubSettings(
                    redis_url=redis_url,
                    host=options.websocket[0],
                    port=options.websocket[1],
                    origins=list(config.allowed_origins),
                    page_port=port,
                    tokens=list(config.tokens),
                )
            )
        )
        served = ServerConfig(
            host=host,
            port=port,
            websocket_port=hub.port,
            bound_ms=config.latency_bound_ns // NS_PER_MS,
            tokens=tuple(config.tokens),
            allowed_origins=tuple(config.allowed_origins),
        )
        server = Server(self, self._metrics, served)
        await server.start()
        stack.push_async_callback(server.stop)
        hub.watch(self._metrics)
        assert self._store is not None
        self._page_url = f"http://{_shown(host)}:{port}"
        return Addresses(
            page=f"{self._page_url}/",
            websocket=f"ws://{_shown(options.websocket[0])}:{hub.port}{served.websocket_path}",
            store=self._store.shown,
            warnings=self._settings.warnings,
        )

    async def _computing(self, stack: contextlib.AsyncExitStack, progress: Progress | None) -> None:
        """The engine, then what stands between it and the store; the streams end before any of it does."""
        options, publisher, store = self._options, self._publisher, self._store
        assert publisher is not None and store is not None
        engine = await asyncio.to_thread(load, options.device, options.weights, 1, progress, self._model)
        lookout = Lookout(engine, options.weights, progress)
        if any(entry.people != "off" for entry in self.config.streams.values()):
            await lookout.ready()  # before the engine is measured
        parts = AnsweringParts(
            engine=engine,
            costs=await asyncio.to_thread(engine.warm_up, MAX_WINDOWS),
            clock=self._clock,
            store=store,
            publisher=publisher,
            metrics=self._metrics,
            stalls=self._stalls,
            traces=self._traces,
            kept=self._why.kept,
            pool=self._pool,
            bound_ns=self.config.latency_bound_ns,
            admits_all=lambda: self.config.admission == "degrade",
            open_source=self._open_source,
            look=lookout.watch,
            listening=self._listens(store, engine),
        )
        graphs = Graphs(*engine.why_graphs)
        labels = [(label.name, label.modalities) for label in engine.labels]
        await stack.enter_async_context(self._why.open(graphs, labels, engine.geometry))
        self._registry = await stack.enter_async_context(answering(parts, self._fail))
        self._engine = engine

    def _listens(self, store: Store, engine: Engine) -> Listening:
        speech = self.config.speech
        desk = desk_of(speech, self._options.weights)
        made = ListeningParts(speech, self._clock, Captions(store), desk, engine.geometry.reads_text)
        listening = Listening(made)
        listening.watch(self._metrics)
        return listening

    def _shows(self, name: str) -> bool:
        """Whether pictures of a stream may be shown; any thread."""
        try:
            return self._registry is not None and self._registry.config_of(name).preview
        except KeyError:  # it is going, or was left out
            return False

    def _open_source(self, name: str, entry: StreamConfig) -> Source:
        assert self._engine is not None
        geometry = self._engine.geometry
        rate = entry.frames_per_second or geometry.frame_rates[0]
        if rate not in geometry.frame_rates:
            rates = " or ".join(map(str, geometry.frame_rates))
            raise UserError(f"stream {name}: frames_per_second {rate} is not what the model takes; use {rates}")
        settings = SourceSettings(
            frame_size=geometry.frame_size,
            frames_per_second=rate,
            sample_rate=geometry.sample_rate,
            ice_servers=tuple(self.ice_servers()),
        )
        return open_source(name, entry, settings, self._clock, self._pool.reader)

    async def _begin_streams(self) -> None:
        """Take in what the configuration names; one that can't be used is told and leaves the others alone."""
        streams = self.config.streams
        apart_s = min(_START_APART_S, _START_WITHIN_S / max(1, len(streams)))
        # Each by itself: where the store is away, each of them waits for it a while.
        begins = (self._begin_stream(name, entry, i * apart_s) for i, (name, entry) in enumerate(streams.items()))
        await asyncio.gather(*begins)

    async def _begin_stream(self, name: str, entry: StreamConfig, after_s: float) -> None:
        assert self._registry is not None
        await asyncio.sleep(after_s)
        try:
            await self._registry.put_or_keep(name, entry)
        except UserError as error:
            log.error("stream %s is left out: %s", name, error)

    def _alert_settings(self) -> AlertsSettings:
        """What the alerts process goes by now; where the outbox is, and the model, stay as they were at the start."""
        config, entries = self.config, self._entries()
        return AlertsSettings(
            redis_url=self._redis_url,
            rules=list(config.alerts),
            send=dict(config.send),
            outbox=self._outbox,
            groups={name: entry.group for name, entry in entries.items() if entry.group is not None},
            labels=list(dict.fromkeys([*self._labels, *people_labels(entries.values()), *self._keywords])),
            retention_ns=config.redis.retention_ns,
            page_url=config.page_url or self._page_url,
        )

    def _entries(self) -> dict[str, StreamConfig]:
        """The streams of the configuration, and those that there are beside or instead of them."""
        registry = self._registry
        live = {} if registry is None else {name: registry.config_of(name) for name in registry.names}
        return {**self.config.streams, **live}

    # -- what the HTTP side asks -----------------------------------------------------------------------------------

    def streams(self) -> list[StreamStatus]:
        """All streams now."""
        return [] if self._registry is None else self._registry.statuses()

    def stream(self, name: str) -> StreamStatus | None:
        """One stream now, None where there is none of that name."""
        return None if self._registry is None else self._registry.status(name)

    async def put(self, name: str, entry: StreamConfig) -> Literal["created", "changed"]:
        """Add or change a stream; see `Registry.put`."""
        if self._registry is None:
            raise StreamerError("the models are still being loaded; try again in a moment")
        return await self._registry.put(name, entry)

    async def delete(self, name: str) -> bool:
        """Remove a stream and free what it held; False where there is none."""
        return self._registry is not None and await self._registry.delete(name)

    async def publish(self, name: str, offer: str) -> Publication:
        """Begin a session with a publisher over WebRTC.

        Raises:
            UserError: the offer can't be used.
            ConflictError: somebody publishes already, or the stream has another source.
            StreamerError: not now.
        """
        if self._registry is None:
            raise StreamerError("the models are still being loaded; try again in a moment")
        source = self._registry.published(name)
        if source is None:
            raise ConflictError(f"nobody can publish {name}: its source is not whip; change the stream's source")
        return await source.publish(offer)

    async def unpublish(self, name: str, session: str) -> bool:
        """End a publisher's session; False where there is none of that name."""
        source = None if self._registry is None else self._registry.published(name)
        return source is not None and source.unpublish(session)

    async def trickle(self, name: str, session: str, fragment: str) -> bool:
        """Add ICE candidates to a session; False where there is none of that name.

        Raises:
            UserError: the fragment can't be used, or asks for an ICE restart.
        """
        source = None if self._registry is None else self._registry.published(name)
        return source is not None and source.trickle(session, fragment)

    def ice_servers(self) -> list[IceServer]:
        """The STUN and TURN servers for publishers."""
        return ice_servers_of(self.config)

    def trace(self, name: str, seq: int, epoch: str | None) -> Trace | None:
        """What became of one segment, stage by stage; None where that is not kept any more."""
        return self._traces.find(name, seq, epoch)

    def traces(self, name: str, limit: int) -> list[Trace]:
        """The same of the last segments, the newest first."""
        return self._traces.recent(name, limit)

    async def why(self, name: str, seq: int, epoch: str | None, label: str) -> Why | None:
        """What a label of one segment rests on; None where that is not kept any more. See `Reasons.why`."""
        return await self._why.why(name, seq, epoch, label)

    async def picture(self, name: str, index: int | None) -> bytes | None:
        """A sampled picture that is kept, as JPEG, the newest where `index` is None; None where it is not kept."""
        return self._why.kept.picture(name, index)

    async def alert_picture(self, alert: str, name: str) -> bytes | None:
        """A picture of an alert, finished and with its faces blurred; None where there is none (any more)."""
        return await self._picturing.picture(alert, name)

    def readiness(self) -> Readiness:
        """Whether segments are answered and published now."""
        checks = {"models": "ok" if self._engine is not None else "loading", "store": "ok"}
        outage = self._publisher.outage() if self._publisher is not None else None
        if outage is not None:
            away_s = (self._clock.now_ns() - outage.since_ns) / 1e9
            checks["store"] = f"{outage.reason}; away for {away_s:.0f} s, {outage.waiting} units wait"
        return Readiness(ready=all(text == "ok" for text in checks.values()), checks=checks)

    def labels(self) -> list[LabelInfo]:
        """The names that can appear."""
        if self._engine is None:
            raise StreamerError("the models are still being loaded; try again in a moment")
        infos = [LabelInfo(name=label.name, modalities=list(label.modalities)) for label in self._engine.labels]
        known = {info.name for info in infos}
        watched = [entry for entry in self._entries().values() if entry.people != "off"]
        people = [name for name in people_labels(watched) if name not in known] if watched else []
        said = self._keywords if any(entry.speech for entry in self._entries().values()) else []
        infos += [LabelInfo(name=name, modalities=["video"]) for name in people]
        return infos + [LabelInfo(name=name, modalities=["text"]) for name in said]

    async def segments(
        self, name: str, since: str | None, until: str | None, limit: int
    ) -> tuple[list[bytes], str | None]:
        """Past segments as JSON, oldest first, and the cursor to go on from."""
        assert self._store is not None
        page = await self._store.segments(name, since, until, limit)
        return page.segments, page.next


def serve(options: Options, started: Callable[[Addresses], None], progress: Progress | None = None) -> None:
    """Run the service until SIGINT or SIGTERM; `started` gets the addresses once the streams are being taken in.

    Raises:
        UserError: an address, URL or setting can't be used.
        StreamerError: a part could not be started.
    """
    asyncio.run(_serve(Service(options), started, progress))


async def _serve(service: Service, started: Callable[[Addresses], None], progress: Progress | None) -> None:
    service.heed_signals()
    async with service.running(progress) as addresses:
        started(addresses)
        await service.until_stopped()


def _free_port(host: str) -> int:
    """A port that is free now: the hub must know the page's before either listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise UserError(
                f"--http {host}: can't listen there ({error.strerror}); name an address of this machine"
            ) from None
        return int(probe.getsockname()[1])


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
