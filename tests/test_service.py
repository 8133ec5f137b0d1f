"""What the service does with its streams and with changes of its file, before a registry that writes orders down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamer import settings
from streamer.commands.options import Options
from streamer.config import Config, IceServer, StreamConfig
from streamer.errors import ConflictError, StreamerError, UserError
from streamer.publishing.publish import Outage
from streamer.service import Service
from tests.conftest import eventually


class Orders:
    """A registry's front: what runs, and every order in turn."""

    def __init__(self) -> None:
        self.running: dict[str, StreamConfig] = {}
        self.orders: list[tuple[str, str]] = []
        self.unusable: set[str] = set()

    async def put(self, name: str, entry: StreamConfig) -> str:
        self.orders.append(("put", name))
        if name in self.unusable:
            raise UserError(f"stream {name}: this can't be used")
        self.running[name] = entry
        return "created"

    async def put_or_keep(self, name: str, entry: StreamConfig) -> None:
        await self.put(name, entry)

    async def delete(self, name: str) -> bool:
        self.orders.append(("delete", name))
        return self.running.pop(name, None) is not None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cameras.yaml"
    write(path, "a", "b")
    return path


def write(path: Path, *names: str, rest: str = "") -> None:
    entries = "".join(f"  {name}: {{source: 'rtsp://10.0.0.7/{name}'}}\n" for name in names)
    path.write_text(f"streams:\n{entries or '  {}'}\n{rest}\n")


def serving(options: Options) -> tuple[Service, Orders]:
    """A service whose streams go to a list."""
    service, orders = Service(options), Orders()
    service._registry = orders  # type: ignore[assignment]
    return service, orders


@contextlib.asynccontextmanager
async def reloading(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[None]]:
    """The service looks after its file a hundred times a second."""
    monkeypatch.setattr(settings, "_REREAD_EVERY_S", 0.01)
    task = asyncio.create_task(service._settings.follow(service._registry))
    yield task
    assert not task.done(), "looking after the file ended"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_streams_begin_and_a_bad_one_is_left_out(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every stream of the configuration begins; one that can't be used is told and does not keep the others out."""
    service, orders = serving(Options(config=file))
    orders.unusable = {"a"}
    await service._begin_streams()
    assert set(orders.running) == {"b"} and "stream a is left out" in caplog.text


async def test_a_change_touches_only_what_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream added to the file begins, one that changed is changed, one taken out ends; the others get no order."""
    service, orders = serving(Options(config=file))
    async with reloading(service, monkeypatch):
        write(file, "b", "c")
        await eventually(lambda: sorted(orders.orders) == [("delete", "a"), ("put", "c")])
        orders.orders.clear()
        file.write_text(file.read_text().replace("10.0.0.7/c", "10.0.0.9/c"))
        await eventually(lambda: orders.orders == [("put", "c")])
        assert orders.running["c"].source == "rtsp://10.0.0.9/c"
        await eventually(lambda: set(service.config.streams) == {"b", "c"})


async def test_what_the_api_added_survives_a_reload(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that the file never named is not touched when the file changes."""
    service, orders = serving(Options(config=file))
    await service.put("guest", StreamConfig(source="rtsp://10.0.0.8/guest"))
    async with reloading(service, monkeypatch):
        write(file, "b")
        await eventually(lambda: ("delete", "a") in orders.orders)
        assert "guest" in orders.running and ("delete", "guest") not in orders.orders


async def test_words_of_the_command_line_outlast_a_reload(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream and a bound named on the command line stay what they are however the file changes."""
    lobby = StreamConfig(source="rtsp://10.0.0.8/lobby")
    service, orders = serving(Options(config=file, streams={"lobby": lobby}, bound_ns=700_000_000))
    async with reloading(service, monkeypatch):
        write(file, "b", "lobby", rest="latency_bound: 3s")
        await eventually(lambda: ("delete", "a") in orders.orders)
        assert service.config.streams["lobby"] == lobby and service.config.latency_bound_ns == 700_000_000
        assert ("put", "lobby") not in orders.orders


@pytest.mark.parametrize("content", ["streams: {a: {sauce: 1}}", "streams: [", "", "\x00", "streams: {A: {}}"])
async def test_a_mistake_changes_nothing(
    file: Path, content: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that can't be used is told with the place, what was in force stays; mending it takes effect."""
    service, orders = serving(Options(config=file))
    async with reloading(service, monkeypatch):
        file.write_text(content)
        await eventually(lambda: "stays in force" in caplog.text)
        assert f"{file}:" in caplog.text and not orders.orders
        assert set(service.config.streams) == {"a", "b"}
        write(file, "a", "b", "c")
        await eventually(lambda: orders.orders == [("put", "c")])


async def test_a_file_that_is_replaced_or_gone_for_a_while(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is moved away changes nothing; one that is moved into its place is read."""
    service, orders = serving(Options(config=file))
    async with reloading(service, monkeypatch):
        file.rename(file.with_suffix(".old"))
        looks = 0
        stamp = settings._stamp

        def looked(path: Path) -> object:
            nonlocal looks
            looks += 1
            return stamp(path)

        monkeypatch.setattr(settings, "_stamp", looked)
        await eventually(lambda: looks > 5)
        assert not orders.orders
        write(file.with_suffix(".new"), "a", "b", "d")
        file.with_suffix(".new").rename(file)
        await eventually(lambda: orders.orders == [("put", "d")])


async def test_a_file_that_is_being_written_is_not_read_yet(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file changes from one look to the next nothing is taken in; when it stands still, the last state is."""
    service, orders = serving(Options(config=file))
    state = [0]

    def changing(path: Path) -> tuple[int, int, int]:
        state[0] += 1
        return (min(state[0], 20), 0, 0)

    write(file, "a")
    monkeypatch.setattr(settings, "_stamp", changing)
    async with reloading(service, monkeypatch):
        await eventually(lambda: state[0] > 10)
        assert not orders.orders or state[0] > 20
        await eventually(lambda: orders.orders == [("delete", "b")])


async def test_a_change_while_the_service_starts_is_not_missed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written after the file was read, but before it is looked after, takes effect as well."""
    service, orders = serving(Options(config=file))
    write(file, "a", "b", "late")
    async with reloading(service, monkeypatch):
        await eventually(lambda: orders.orders == [("put", "late")])


async def test_a_stream_that_cannot_be_changed_keeps_the_others_going(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A change that a stream refuses is told, and the other changes of the same file are made."""
    service, orders = serving(Options(config=file))
    orders.unusable = {"c"}
    async with reloading(service, monkeypatch):
        write(file, "b", "c", "d")
        await eventually(lambda: "d" in orders.running)
        assert "stream c is left as it was" in caplog.text and ("delete", "a") in orders.orders


async def test_settings_that_wait_for_the_next_start_say_so(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed bound is not taken up by what runs, and the log says so; so it does of what has no effect yet."""
    caplog.set_level(logging.INFO)
    service, _ = serving(Options(config=file))
    async with reloading(service, monkeypatch):
        write(file, "a", "b", rest="latency_bound: 3s\nspeech: {redact: false}")
        await eventually(lambda: "take effect at the next start" in caplog.text)
        assert "this has no effect" in caplog.text


async def test_before_the_models_are_there_callers_are_asked_to_wait() -> None:
    """While the service loads, streams can't be added and labels can't be listed, and readiness says why."""
    service = Service(Options())
    with pytest.raises(StreamerError, match="being loaded"):
        await service.put("door", StreamConfig(source="rtsp://10.0.0.7/main"))
    with pytest.raises(StreamerError, match="being loaded"):
        service.labels()
    assert not await service.delete("door") and service.streams() == [] and service.stream("door") is None
    readiness = service.readiness()
    assert not readiness.ready and readiness.checks == {"models": "loading", "store": "ok"}


async def test_an_outage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away readiness says why, since when, and how much waits."""

    class Away:
        def outage(self) -> Outage:
            return Outage(since_ns=0, reason="connection refused", waiting=12)

    service = Service(Options())
    service._publisher = Away()  # type: ignore[assignment]
    told = service.readiness().checks["store"]
    assert told.startswith("connection refused; away for ") and told.endswith("12 units wait")


async def test_nothing_is_opened_before_the_network_is_allowed() -> None:
    """A service that may not listen where it was told to ends before it starts a store or a hub."""
    service = Service(Options(http=("0.0.0.0", 0)))
    with pytest.raises(UserError, match="--insecure"):
        async with service.running():
            raise AssertionError("it listens")
    assert service._store is None


def test_the_configuration_is_the_command_lines() -> None:
    """What is in force is known before anything starts."""
    assert Service(Options()).config == Config()


async def test_nobody_publishes_before_the_models_are_there_or_to_a_camera(file: Path) -> None:
    """Offers are put off while models load, and a stream with another source is a conflict; neither has sessions."""
    service = Service(Options(config=file))
    with pytest.raises(StreamerError, match="loaded"):
        await service.publish("a", "v=0")
    assert not await service.unpublish("a", "x") and not await service.trickle("a", "x", "")

    class Cameras(Orders):
        def published(self, name: str) -> None:
            return None

    service._registry = Cameras()  # type: ignore[assignment]
    with pytest.raises(ConflictError, match="not whip"):
        await service.publish("a", "v=0")
    assert not await service.unpublish("a", "x") and not await service.trickle("a", "x", "")


def test_ice_servers_come_from_the_configuration(file: Path) -> None:
    """They are given in one shape; none is there by default."""
    assert Service(Options()).ice_servers() == []
    write(file, "a", rest="ice_servers: ['stun:192.0.2.1:3478']")
    assert Service(Options(config=file)).ice_servers() == [IceServer(urls=["stun:192.0.2.1:3478"])]
