"""MQTT: against a real Mosquitto, watched by a client of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
import pytest_asyncio

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered, Summary
from streamer.alerts.senders import broker as broker_module
from streamer.alerts.senders.keeping import Keeper
from streamer.alerts.senders.mqtt import MqttSender, check, make
from streamer.clock import NS_PER_S
from streamer.errors import UserError
from tests.alerts.senders.real_servers import RealServer, alert, delivery, mosquitto
from tests.conftest import eventually
from tests.proxy import Proxy

Make = Callable[..., MqttSender]
STATE = "streamer/alerts/door/glass"
SENSOR = "homeassistant/binary_sensor/streamer_door/glass/config"
AVAILABILITY = "streamer/availability"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealServer]:
    """One that lets everybody in and forgets everything when it is killed."""
    server = mosquitto(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def sender_to() -> AsyncIterator[Make]:
    """Makes senders, which are closed with the test."""
    made: list[MqttSender] = []

    def sender(port: int, *, host: str = "127.0.0.1", path: str = "", scheme: str = "mqtt", **more: Any) -> MqttSender:
        made.append(make("ops", SendConfig(url=f"{scheme}://{host}:{port}{path}", allow_private=True, **more)))
        return made[-1]

    yield sender
    for one in made:
        await one.aclose()


class Watcher:
    """Hears everything that is published, and what is retained."""

    def __init__(self, port: int, **login: Any) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self.client = aiomqtt.Client("127.0.0.1", port, **login)

    async def __aenter__(self) -> Watcher:
        await self.client.__aenter__()
        await self.client.subscribe("#", qos=1)
        self._task = asyncio.create_task(self._hear())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(aiomqtt.MqttError):
            await self.client.__aexit__(None, None, None)

    async def _hear(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((str(message.topic), message.payload, message.retain))

    def of(self, topic: str) -> list[bytes]:
        """What was published under a topic so far."""
        return [payload for name, payload, _ in self.heard if name == topic]


async def retained(port: int, **login: Any) -> dict[str, bytes]:
    """What the broker retains."""
    async with Watcher(port, **login) as watcher:
        # The broker sends what it retains before anything that is published later.
        await watcher.client.publish("test/end", b"x", qos=1)
        await eventually(lambda: watcher.of("test/end"))
        return {topic: payload for topic, payload, kept in watcher.heard if kept}


async def test_an_alert_fires_and_is_over(broker: RealServer, sender_to: Make) -> None:
    """A firing alert is retained under its stream and rule and told as an event that is not; its end follows."""
    sender = sender_to(broker.port)
    async with Watcher(broker.port) as watcher:
        await sender.send(delivery(alert()))
        await eventually(lambda: watcher.of(f"{STATE}/event"))
        assert json.loads(watcher.of(STATE)[0])["state"] == "firing"
        event = json.loads(watcher.of(f"{STATE}/event")[0])
        assert (event["id"], event["type"], event["data"]["id"]) == ("msg_a1_firing", "alert.firing", "a1")
        await sender.send(delivery(alert("cleared", at="09.000")))
        await eventually(lambda: len(watcher.of(f"{STATE}/event")) == 2)
    kept = await retained(broker.port)
    assert set(kept) == {STATE, SENSOR, AVAILABILITY}
    assert json.loads(kept[STATE])["state"] == "cleared"
    assert kept[AVAILABILITY] == b"online"


async def test_home_assistant_finds_a_sensor(broker: RealServer, sender_to: Make) -> None:
    """The sensor's entry comes before its first state, names topics that exist, and comes once a connection; without a
    prefix there is none."""
    async with Watcher(broker.port) as watcher:
        sender = sender_to(broker.port)
        await sender.send(delivery(alert()))
        await sender.send(delivery(alert("cleared", at="09.000")))
        await eventually(lambda: len(watcher.of(f"{STATE}/event")) == 2)
        topics = [topic for topic, _, _ in watcher.heard]
        assert topics.count(SENSOR) == 1 and topics.index(SENSOR) < topics.index(STATE)
        sensor = json.loads(watcher.of(SENSOR)[0])
        assert sensor["state_topic"] == sensor["json_attributes_topic"] == STATE
        assert sensor["availability_topic"] == AVAILABILITY and watcher.of(AVAILABILITY)[0] == b"online"
        assert "value_json.state" in sensor["value_template"] and sensor["unique_id"]
        silent = sender_to(broker.port, path="/home/cams", discovery="")
        await silent.send(delivery(alert()))
        await eventually(lambda: watcher.of("home/cams/alerts/door/glass/event"))
        assert not any(topic.startswith("homeassistant") and "cams" in topic for topic, _, _ in watcher.heard)


async def test_it_waits_for_the_acknowledgement(broker: RealServer, sender_to: Make) -> None:
    """A delivery to a broker that hangs is not over before the broker has acknowledged it."""
    sender = sender_to(broker.port)
    await sender.send(delivery(alert()))
    broker.signal(signal.SIGSTOP)
    sending = asyncio.create_task(sender.send(delivery(alert("cleared", at="09.000"))))
    done, _ = await asyncio.wait({sending}, timeout=0.5)
    assert not done
    broker.signal(signal.SIGCONT)
    await sending


async def test_a_broker_that_dies_meanwhile(broker: RealServer, sender_to: Make) -> None:
    """A delivery whose broker dies before it answers has failed, at once and worth a retry; when the broker is back and
    has forgotten everything, the retry arrives and all that it retained is there again."""
    sender = sender_to(broker.port)
    await sender.send(delivery(alert(id="b1", rule="fall")))
    broker.signal(signal.SIGSTOP)
    sending = asyncio.create_task(sender.send(delivery(alert())))
    await asyncio.wait({sending}, timeout=0.1)
    broker.kill()
    with pytest.raises(NotDelivered, match="is lost") as failed:
        await sending
    assert failed.value.retry
    broker.start()

    async def again() -> bool:
        with contextlib.suppress(NotDelivered):
            await sender.send(delivery(alert(), attempt=2))
            return True
        return False

    async with asyncio.timeout(10):
        while not await again():
            await asyncio.sleep(0.05)
    wanted = {STATE, SENSOR, "streamer/alerts/door/fall", AVAILABILITY}
    async with asyncio.timeout(10):
        while not wanted <= set(kept := await retained(broker.port)):
            await asyncio.sleep(0.05)
    assert kept[AVAILABILITY] == b"online"


async def test_the_last_will_speaks_for_us(broker: RealServer, sender_to: Make) -> None:
    """Where our connection is cut the broker says that we are gone, and as soon as we are back we say so; nobody has to
    send anything for it."""
    async with Watcher(broker.port) as watcher, Proxy(broker.port) as proxy:
        sender = sender_to(proxy.port)
        await sender.send(delivery(alert()))
        await eventually(lambda: watcher.of(AVAILABILITY) == [b"online"])
        proxy.cut()
        await eventually(lambda: b"offline" in watcher.of(AVAILABILITY), timeout=10)
        await eventually(lambda: watcher.of(AVAILABILITY)[-1] == b"online", timeout=10)
        await sender.aclose()
        await eventually(lambda: watcher.of(AVAILABILITY)[-1] == b"offline")


async def test_it_contradicts_an_obituary(broker: RealServer, sender_to: Make) -> None:
    """The will of an earlier connection, told late, does not leave us for dead."""
    sender = sender_to(broker.port)
    await sender.send(delivery(alert()))
    async with Watcher(broker.port) as watcher:
        await watcher.client.publish(AVAILABILITY, b"offline", qos=1, retain=True)
        await eventually(lambda: watcher.of(AVAILABILITY)[-2:] == [b"offline", b"online"])


async def test_logins(tmp_path: Path, sender_to: Make) -> None:
    """User and password come from the URL, percent-encoded; wrong ones are an error that shows neither."""
    (tmp_path / "passwords").write_text("me:p@ss/w?rd\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "passwords")], check=True, timeout=20)
    server = mosquitto(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    server.start()
    try:
        await sender_to(server.port, host="me:p%40ss%2Fw%3Frd@127.0.0.1").send(delivery(alert()))
        assert STATE in await retained(server.port, username="me", password="p@ss/w?rd")
        with pytest.raises(NotDelivered) as failed:
            await sender_to(server.port, host="me:hunter2@127.0.0.1").send(delivery(alert()))
        assert "hunter2" not in str(failed.value) and failed.value.retry
        assert "Not authorized" in str(failed.value) or "user" in str(failed.value).lower()
    finally:
        server.kill()


async def test_a_topic_that_may_not_be_written(tmp_path: Path, sender_to: Make) -> None:
    """What the broker acknowledges as refused was not delivered, though other topics are; and a refused entry for Home
    Assistant holds up no alert."""
    rules = ["topic readwrite streamer/availability", "topic readwrite streamer/alerts/door/#", "topic read #"]
    (tmp_path / "acl").write_text("\n".join([*rules, ""]))
    server = mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}")
    server.start()
    try:
        sender = sender_to(server.port)
        await sender.send(delivery(alert()))
        with pytest.raises(NotDelivered, match="refuses the topic streamer/alerts/hall/glass"):
            await sender.send(delivery(alert(stream="hall", id="a2")))
        await sender.send(delivery(alert("cleared", at="09.000")))
    finally:
        server.kill()


async def test_tls(tmp_path: Path, sender_to: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker with a certificate that we trust and that has its name is talked to; one that is not trusted, or has
    another name, hears nothing."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"), "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    server = mosquitto(tmp_path, f"certfile {tmp_path / 'cert.pem'}", f"keyfile {tmp_path / 'key.pem'}")
    server.start()
    try:
        with pytest.raises(NotDelivered, match="certificate"):
            await sender_to(server.port, host="localhost", scheme="mqtts").send(delivery(alert()))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        with pytest.raises(NotDelivered, match="certificate"):
            await sender_to(server.port, host="127.0.0.1", scheme="mqtts").send(delivery(alert()))
        await sender_to(server.port, host="localhost", scheme="mqtts").send(delivery(alert()))
    finally:
        server.kill()


async def test_the_whole_truth_puts_it_right(broker: RealServer, sender_to: Make) -> None:
    """What fires and was never delivered is shown, what is over unheard of is so no more, and what is newer than that
    truth stays; and it alone makes us be there."""
    sender = sender_to(broker.port)
    assert isinstance(sender, Keeper)
    await sender.keep([], 0)
    assert (await retained(broker.port))[AVAILABILITY] == b"online"
    await sender.send(delivery(alert(id="old", rule="old"), recorded_ns=1 * NS_PER_S))
    await sender.send(delivery(alert(id="new", rule="new"), recorded_ns=3 * NS_PER_S))
    await sender.keep([alert(id="held", rule="held")], 2 * NS_PER_S)
    kept = await retained(broker.port)
    shown = {rule: json.loads(kept[f"streamer/alerts/door/{rule}"])["state"] for rule in ("old", "new", "held")}
    assert shown == {"old": "cleared", "new": "firing", "held": "firing"}


async def test_what_is_sent_again_does_not_undo_what_came_after(broker: RealServer, sender_to: Make) -> None:
    """An old firing or end that somebody sends again is an event, and the state stays what it is."""
    sender = sender_to(broker.port)
    await sender.send(delivery(alert()))
    await sender.send(delivery(alert("cleared", at="09.000")))
    await sender.send(delivery(alert(), attempt=2))
    assert json.loads((await retained(broker.port))[STATE])["state"] == "cleared"
    later = msgspec.structs.replace(alert(id="a2"), since="2026-11-23T04:08:01.000Z")
    async with Watcher(broker.port) as watcher:
        await sender.send(delivery(later))
        await sender.send(delivery(alert("cleared", at="09.000"), attempt=2))
        await eventually(lambda: len(watcher.of(f"{STATE}/event")) == 2)
    assert json.loads((await retained(broker.port))[STATE])["id"] == "a2"


async def test_a_summary_is_told(broker: RealServer, sender_to: Make) -> None:
    """What limits held back comes under a topic of its own, with its count, and is not retained."""
    summary = Summary(12, NS_PER_S, 61 * NS_PER_S, (("glass", 8), ("fall", 4)))
    async with Watcher(broker.port) as watcher:
        await sender_to(broker.port).send(delivery(alert(), summary=summary))
        await eventually(lambda: watcher.of("streamer/alerts/held"))
        told = json.loads(watcher.of("streamer/alerts/held")[0])
    assert told["type"] == "alerts.held" and told["data"]["count"] == 12
    assert "streamer/alerts/held" not in await retained(broker.port)


async def test_an_old_broker_is_spoken_to_in_its_own_way(sender_to: Make) -> None:
    """One that answers that it does not know MQTT 5 is asked again by 3.1.1."""
    levels: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(2)
        connect = await reader.readexactly(header[1])
        levels.append(connect[6])
        # CONNACK: refused for the level of the protocol, or accepted (MQTT 3.1.1, 3.2.2.3).
        writer.write(bytes([0x20, 2, 0, 1 if connect[6] == 5 else 0]))
        await writer.drain()
        if connect[6] == 4:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sender = sender_to(server.sockets[0].getsockname()[1])
    sending = asyncio.create_task(sender.send(delivery(alert())))
    await eventually(lambda: levels == [5, 4])
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await sender.aclose()
    server.close()


async def test_a_storm_arrives(broker: RealServer, sender_to: Make) -> None:
    """A hundred deliveries at once all arrive, each stream with its state, and after the broker was killed and has
    forgotten them they are all retained again though nothing new happened."""
    sender = sender_to(broker.port)
    streams = [f"cam-{place}" for place in range(150)]
    await asyncio.gather(*(sender.send(delivery(alert(stream=stream, id=stream))) for stream in streams))
    wanted = {f"streamer/alerts/{stream}/glass" for stream in streams}
    assert wanted <= set(await retained(broker.port))
    broker.kill()
    broker.start()
    async with asyncio.timeout(20):
        while not wanted <= set(await retained(broker.port)):
            await asyncio.sleep(0.1)


async def test_who_was_closed_stays_away(broker: RealServer, sender_to: Make) -> None:
    """A closed sender makes no connection again, whoever asks."""
    sender = sender_to(broker.port)
    await sender.send(delivery(alert()))
    await sender.aclose()
    await sender.keep([alert()], NS_PER_S)
    with pytest.raises(NotDelivered):
        await sender.send(delivery(alert("cleared")))
    assert (await retained(broker.port))[AVAILABILITY] == b"offline"


@pytest.mark.parametrize("how", ["in time", "before it is closed"])
async def test_a_broker_that_lets_nobody_in(sender_to: Make, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A server that takes connections and never answers is an error, and no connection to it is left open."""
    monkeypatch.setattr(broker_module, "_TIMEOUT_S", 0.2 if how == "in time" else 60.0)
    met, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        while await reader.read(1000):
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sender = sender_to(server.sockets[0].getsockname()[1])
    sending = asyncio.create_task(sender.send(delivery(alert())))
    await asyncio.wait_for(met.wait(), 5)
    if how == "in time":
        with pytest.raises(NotDelivered):
            await sending
    await sender.aclose()
    with pytest.raises(NotDelivered):
        await sender.send(delivery(alert()))
    assert isinstance((await asyncio.gather(sending, return_exceptions=True))[0], NotDelivered)
    await asyncio.wait_for(ended.wait(), 5)
    server.close()


async def test_nobody_there(broker: RealServer, sender_to: Make) -> None:
    """A broker that is away is an error worth a retry, and it names where the broker should be."""
    broker.kill()
    with pytest.raises(NotDelivered) as failed:
        await sender_to(broker.port).send(delivery(alert()))
    assert failed.value.retry and f"127.0.0.1:{broker.port}" in str(failed.value)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (SendConfig(url="mqtt://10.0.0.7"), "allow_private"),
        (SendConfig(url="mqtt://localhost"), "allow_private"),
        (SendConfig(url="mqtt://169.254.169.254", allow_private=True), "169.254.169.254"),
        (SendConfig(url="mqtt://me:hunter2@example.org:99999"), "port"),
        (SendConfig(url="mqtt://me:hunter2@exa mple.org"), "host"),
        (SendConfig(url="mqtt://example.org/a?x=hunter2"), "topic"),
        (SendConfig(url="mqtt://example.org/a/+/b"), "topics begin"),
        (SendConfig(url="mqtt://example.org", discovery="home assistant/#"), "discovery"),
        (SendConfig(url="mqtt://example.org", secret="hunter2"), "secret"),
    ],
)
async def test_what_is_wrong_is_said(config: SendConfig, named: str) -> None:
    """Each fault names what to change and shows no secret, and no sender is made of it."""
    said = check(config)
    assert said is not None and named in said and "hunter2" not in said
    with pytest.raises(UserError):
        make("ops", config)


def test_good_addresses_are_taken() -> None:
    """A host of the Internet with or without user info, port and topic."""
    for url in ("mqtt://example.org", "mqtts://me:p%40ss@example.org:8884/home/cams", "mqtt://[2a01:4f8::1]:1883"):
        assert check(SendConfig(url=url)) is None
