"""One connection to an MQTT broker: made to an address that was checked, with acknowledgements that are read.

Of MQTT 5 (OASIS) first, because only there a broker says that it did not take a message; else of 3.1.1.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered
from streamer.alerts.senders.addresses import resolve

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_S = 30
_TIMEOUT_S = 10.0
_ADDRESSES = 4
_UNSUPPORTED = 0x84


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """Where a broker is and what it is told there; holds a password, so it has no repr.

    topic: what all topics begin with.
    """

    host: str
    port: int
    secure: bool
    user: str | None
    password: str | None
    topic: str
    allow_private: bool

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return f"the broker {self.host}:{self.port}"

    @property
    def availability(self) -> str:
        """The topic that says whether we are there."""
        return f"{self.topic}/availability"


def place_of(config: SendConfig) -> Place:
    """The place that a receiver's URL names; it must have passed `mqtt.check`."""
    url = urlsplit(config.url)
    return Place(
        host=url.hostname or "",
        port=url.port or _PORTS[url.scheme],
        secure=url.scheme == "mqtts",
        user=None if url.username is None else unquote(url.username),
        password=None if url.password is None else unquote(url.password),
        topic=url.path.strip("/") or "streamer",
        allow_private=config.allow_private,
    )


async def connect(place: Place) -> Broker:
    """A broker that took our login. It is to be left with `leave`.

    Raises:
        NotDelivered: no address of it may be or could be connected to, or it turned us away.
    """
    context = await asyncio.to_thread(_trusting, place.host) if place.secure else None
    said = "leads to no address"
    for address in (await resolve(place.host, place.port, allow_private=place.allow_private))[:_ADDRESSES]:
        for protocol in (aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311):
            broker = Broker(place, address.host, protocol, context)
            try:
                await _enter(broker)
            except aiomqtt.MqttError as error:
                said = str(error)
                if _knows_no_mqtt_5(error):
                    continue
                break
            return broker
    raise NotDelivered(f"{place.shown} can't be connected to: {said}")


async def _enter(broker: Broker) -> None:
    """aiomqtt leaves a connection open that was made but let nobody in, in time or before we were cancelled."""
    entering = asyncio.create_task(broker.__aenter__())
    try:
        await asyncio.shield(entering)
    except aiomqtt.MqttError:
        broker.abandon()
        raise
    except asyncio.CancelledError:
        broker.abandon()
        # What becomes of it is of no interest any more; asyncio wants to be asked.
        entering.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise


def _knows_no_mqtt_5(error: aiomqtt.MqttError) -> bool:
    code = getattr(error, "rc", None)
    return isinstance(code, ReasonCode) and code.value == _UNSUPPORTED


class _Trusting(ssl.SSLContext):
    """Holds a certificate against the broker's name, while the connection goes to an address of it."""

    name = ""

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*given, **(named | {"server_hostname": self.name}))


def _trusting(host: str) -> ssl.SSLContext:
    context = _Trusting(ssl.PROTOCOL_TLS_CLIENT)  # asks for a certificate and holds it against the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    context.name = host
    return context


class Broker(aiomqtt.Client):
    """A connection, used once. Its last will says that we are gone."""

    def __init__(
        self, place: Place, address: str, protocol: aiomqtt.ProtocolVersion, context: ssl.SSLContext | None
    ) -> None:
        self._place = place
        self._leaving = False
        self._abandoned = False
        self._acknowledged: dict[int, asyncio.Future[str]] = {}
        super().__init__(
            address,
            place.port,
            username=place.user,
            password=place.password,
            identifier=f"streamer-{secrets.token_hex(6)}",
            protocol=protocol,
            will=aiomqtt.Will(place.availability, OFFLINE, qos=1, retain=True),
            timeout=_TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            tls_context=context,
        )

    async def say(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish with QoS 1. What is said first is published first; returns when the broker has acknowledged it.

        Raises:
            NotDelivered: it did not, refused it, or the connection was lost first.
        """
        # aiomqtt's own `publish` does not look at what an acknowledgement says, and waits in vain where the connection
        # is lost.
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotDelivered(f"the connection to {self._place.shown} is lost")
        acknowledged: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._acknowledged[sent.mid] = acknowledged
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                refusal = await acknowledged
        except TimeoutError:
            raise NotDelivered(f"{self._place.shown} did not acknowledge within {_TIMEOUT_S:g} s") from None
        finally:
            self._acknowledged.pop(sent.mid, None)
        if refusal:
            raise NotDelivered(f"{self._place.shown} refuses the topic {topic}: {refusal}")

    async def greet(self) -> None:
        """Say that we are there.

        Raises:
            NotDelivered: as `say`; or what others say of us can't be subscribed to.
        """
        try:
            await self.subscribe(self._place.availability, qos=1)
        except aiomqtt.MqttError as error:
            raise NotDelivered(f"{self._place.shown} takes no subscription: {error}") from None
        await self.say(self._place.availability, ONLINE, retain=True)

    async def until_lost(self) -> None:
        """Return when the connection is lost; until then contradict whoever says that we are gone: the will of a
        connection of ours that broke earlier, or another that goes by the same topics."""
        try:
            async for message in self.messages:
                if message.payload == OFFLINE and not self._leaving:
                    await self.say(self._place.availability, ONLINE, retain=True)
        except (aiomqtt.MqttError, NotDelivered) as error:
            log.warning("%s is lost: %s", self._place.shown, error)
        finally:
            for acknowledged in self._acknowledged.values():
                if not acknowledged.done():
                    acknowledged.set_exception(NotDelivered(f"the connection to {self._place.shown} is lost"))

    async def part(self) -> None:
        """Say that we go.

        Raises:
            NotDelivered: as `say`.
        """
        self._leaving = True
        await self.say(self._place.availability, OFFLINE, retain=True)

    def abandon(self) -> None:
        """Close what there is of a connection that nobody will use, also what a thread is still making."""
        self._abandoned = True
        self._client.disconnect()

    def _client_connect(self) -> None:
        # In a thread that nobody can stop: who was cancelled meanwhile had no socket yet to close.
        super()._client_connect()
        if self._abandoned:
            self._loop.call_soon_threadsafe(self.abandon)

    async def leave(self) -> None:
        """Let go of the connection, also of a broken one."""
        try:
            await self.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            log.debug("%s was left without a word: %s", self._place.shown, error)

    def _on_publish(
        self, client: PahoClient, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        acknowledged = self._acknowledged.get(mid)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(str(reason_code) if reason_code.is_failure else "")
