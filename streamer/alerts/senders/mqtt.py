"""MQTT brokers, with Home Assistant's discovery (https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery).

Topics, under the URL's path or else `streamer`:

    alerts/STREAM/RULE          retained: the alert that fires, or the last one that was over
    alerts/STREAM/RULE/event    each delivery once more as an event, not retained: {"id", "type", "data"}
    alerts/held                 summaries of what limits held back, not retained
    availability                retained: `online`, or `offline` by our last will

A rule and stream is a binary sensor of Home Assistant from its first alert on. Brokers forget, where they are not told
to keep what they retain: so everything is said again whenever we are connected anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from streamer.alertconfig import SendConfig
from streamer.alerts.records import Delivery, NotDelivered
from streamer.alerts.senders.addresses import check_host
from streamer.alerts.senders.broker import Broker, connect, place_of
from streamer.alerts.senders.keeping import Firing
from streamer.clock import rfc3339
from streamer.errors import UserError
from streamer.messages import Alert

log = logging.getLogger(__name__)

_READY_S = 20.0
_FAREWELL_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STATES = 10_000
_AT_ONCE = 16
# Wildcards would be refused by the broker, and a topic that needs escapes in a URL is none that anybody meant.
_TOPIC = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_TOPIC_LENGTH = 100
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True)
class _Message:
    """Something to publish. spare: nothing is lost where the broker refuses it."""

    topic: str
    payload: bytes
    retain: bool = True
    spare: bool = False


class MqttSender:
    """Tells one broker over one connection, which is made at the first delivery (or `keep`), and then again whenever it
    is lost."""

    def __init__(self, name: str, config: SendConfig) -> None:
        self._name = name
        self._place = place_of(config)
        self._discovery = config.discovery.strip("/")
        self._firing = Firing()
        # What each topic of a rule and stream retains, the latest at the end.
        self._states: OrderedDict[str, Alert] = OrderedDict()
        self._announced: set[str] = set()
        self._broker: Broker | None = None
        self._staying: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Broker] | None = None
        self._wanted = asyncio.Event()
        self._closed = False

    async def send(self, delivery: Delivery) -> None:
        """As `Sender.send`."""
        alert = delivery.alert
        if delivery.summary is not None:
            held = {"id": delivery.id, "type": "alerts.held", "data": delivery.summary, "latest": alert}
            messages = [_Message(f"{self._place.topic}/alerts/held", msgspec.json.encode(held), retain=False)]
            await self._say(await self._connected(), messages)
            return
        shown = self._firing.take(alert, delivery.recorded_ns)
        if shown is not None:
            # An end is shown where its beginning was, also where the group's last stream was another.
            alert = msgspec.structs.replace(alert, stream=shown.stream)
            self._note(alert)
        broker = await self._connected()
        topic = self._topic(alert)
        event = {"id": delivery.id, "type": f"alert.{alert.state}", "data": delivery.alert}
        messages = [] if shown is None else self._state_of(topic)
        await self._say(broker, [*messages, _Message(f"{topic}/event", msgspec.json.encode(event), retain=False)])

    async def keep(self, firing: Sequence[Alert], as_of_ns: int) -> None:
        """As `Keeper.keep`; connects, so that whoever watches us sees that we are there."""
        missing, ended = self._firing.agree(firing, as_of_ns)
        over = [msgspec.structs.replace(alert, state="cleared", at=rfc3339(as_of_ns)) for alert in ended]
        for alert in (*missing, *over):
            self._note(alert)
        try:
            broker = await self._connected()
            await self._say_states(broker, [self._topic(alert) for alert in (*missing, *over)])
        except NotDelivered as error:
            log.warning("%s was not told what fires: %s", self._name, error)

    async def aclose(self) -> None:
        """As `Sender.aclose`; what is retained stays, and the broker is told that we are gone."""
        self._closed = True
        if self._broker is not None:
            with contextlib.suppress(NotDelivered, TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._broker.part()
        if self._staying is not None:
            self._staying.cancel()
            await asyncio.gather(self._staying, return_exceptions=True)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(NotDelivered(f"{self._place.shown} is no longer a receiver"))

    # -- the connection --------------------------------------------------------------------------------------------

    async def _connected(self) -> Broker:
        """The connection, when it is there; a try to make it that fails meanwhile is raised."""
        if self._closed:
            raise NotDelivered(f"{self._place.shown} is no longer a receiver")
        if self._staying is None or self._staying.done():
            self._ready = _promise()
            self._staying = asyncio.create_task(self._stay(), name=f"the broker of {self._name}")
        self._wanted.set()
        assert self._ready is not None
        try:
            async with asyncio.timeout(_READY_S):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            raise NotDelivered(f"{self._place.shown} did not let us in within {_READY_S:g} s") from None

    async def _stay(self) -> None:
        """Be connected for ever. Between tries it pauses, ever longer, unless a delivery waits."""
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wanted.clear()
            try:
                await self._hold()
                pause_s = _FIRST_PAUSE_S
            except NotDelivered as error:
                ready, self._ready = self._ready, _promise()
                if ready is not None and not ready.done():
                    ready.set_exception(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _hold(self) -> None:
        """Connect, and return when that connection is lost."""
        broker = await connect(self._place)
        repeating: asyncio.Task[None] | None = None
        try:
            await broker.greet()
            self._announced.clear()
            self._broker = broker
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(broker)
            repeating = asyncio.create_task(self._repeat(broker))
            await broker.until_lost()
        finally:
            self._broker = None
            if self._ready is not None and self._ready.done():
                self._ready = _promise()
            if repeating is not None:
                repeating.cancel()
                await asyncio.gather(repeating, return_exceptions=True)
            await broker.leave()

    # -- what is said ----------------------------------------------------------------------------------------------

    async def _repeat(self, broker: Broker) -> None:
        """A broker that was restarted may have forgotten what it retained."""
        try:
            await self._say_states(broker, list(self._states))
        except NotDelivered as error:
            log.warning("%s was not told again of what it retains: %s", self._name, error)

    async def _say_states(self, broker: Broker, topics: Sequence[str]) -> None:
        for first in range(0, len(topics), _AT_ONCE):
            await self._say(
                broker, [said for topic in topics[first : first + _AT_ONCE] for said in self._state_of(topic)]
            )

    async def _say(self, broker: Broker, messages: Iterable[_Message]) -> None:
        """Publish in this order, then wait for all acknowledgements."""
        messages = list(messages)
        saying = (broker.say(message.topic, message.payload, retain=message.retain) for message in messages)
        for message, outcome in zip(messages, await asyncio.gather(*saying, return_exceptions=True), strict=True):
            if not isinstance(outcome, BaseException):
                continue
            if not message.spare or not isinstance(outcome, NotDelivered):
                raise outcome
            log.warning("%s is not announced to Home Assistant: %s", message.topic, outcome)

    def _topic(self, alert: Alert) -> str:
        return f"{self._place.topic}/alerts/{alert.stream}/{alert.rule}"

    def _note(self, alert: Alert) -> None:
        """What the topic of an alert retains from now on: the latest to begin, not what somebody sent again."""
        topic = self._topic(alert)
        known = self._states.get(topic)
        if known is not None and known.id != alert.id and known.since > alert.since:
            return
        self._states[topic] = alert
        self._states.move_to_end(topic)
        if len(self._states) > _STATES:
            self._announced.discard(self._states.popitem(last=False)[0])

    def _state_of(self, topic: str) -> list[_Message]:
        alert = self._states.get(topic)
        if alert is None:
            return []
        messages = [_Message(topic, msgspec.json.encode(alert))]
        if self._discovery and topic not in self._announced:
            self._announced.add(topic)
            messages.insert(0, self._announcement(topic, alert))
        return messages

    def _announcement(self, topic: str, alert: Alert) -> _Message:
        """A binary sensor as Home Assistant finds it."""
        node = f"{re.sub('[^A-Za-z0-9_-]', '_', self._place.topic)}_{alert.stream}"
        sensor: dict[str, Any] = {
            "name": alert.rule,
            "unique_id": topic,
            "state_topic": topic,
            "value_template": "{{ 'ON' if value_json.state == 'firing' else 'OFF' }}",
            "json_attributes_topic": topic,
            "availability_topic": self._place.availability,
            "device": {"identifiers": [f"{self._place.topic}/{alert.stream}"], "name": alert.stream},
            "origin": {"name": "streamer"},
        }
        if alert.severity != "info":
            sensor["device_class"] = "problem"
        topic = f"{self._discovery}/binary_sensor/{node}/{alert.rule}/config"
        return _Message(topic, msgspec.json.encode(sensor), spare=True)


def _promise() -> asyncio.Future[Broker]:
    """A future whose error may go unheard."""
    promise: asyncio.Future[Broker] = asyncio.get_running_loop().create_future()
    promise.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return promise


def make(name: str, config: SendConfig) -> MqttSender:
    """As `senders.make_sender`, for `mqtt://` and `mqtts://`."""
    if (fault := check(config)) is not None:
        raise UserError(fault)
    return MqttSender(name, config)


def check(config: SendConfig) -> str | None:
    """As `senders.check_receiver`, for `mqtt://` and `mqtts://`."""
    form = (
        "write it like mqtt://USER:PASSWORD@HOST:1883/TOPIC, with what is special in USER and PASSWORD percent-encoded"
    )
    try:
        url = urlsplit(config.url)
        host, port = url.hostname or "", url.port
    except ValueError:
        return f"the broker's address has no valid host and port: {form}"
    if port == 0 or not _HOST.fullmatch(host) or re.search(r"[\x00-\x20\x7f\\]", config.url):
        return f"the broker's address has no valid host and port: {form}"
    if url.query or url.fragment:
        return f"a broker's address ends with its topic: {form}"
    if not _is_topic(url.path.strip("/")):
        return f"the path of a broker's address is what topics begin with, of letters, digits, . _ - and /: {form}"
    if not _is_topic(config.discovery.strip("/")):
        return "`discovery` is the prefix of Home Assistant's topics, like homeassistant; leave it empty for none"
    if config.secret is not None:
        return "brokers take no signed messages: leave `secret` out, or give USER:PASSWORD in the URL"
    return check_host(host, allow_private=config.allow_private)


def _is_topic(text: str) -> bool:
    return not text or (len(text) <= _TOPIC_LENGTH and _TOPIC.fullmatch(text) is not None)
