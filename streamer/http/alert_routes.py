"""Alerts: what fired and who was told, resending, rules with their snoozes, and rules tried on the past."""

from __future__ import annotations

import re
from typing import TypeVar, cast

import msgspec
from aiohttp import web

from streamer.alertstatus import GLOB_PATTERN, AlertFilter, AlertQuery, RuleList, RuleTry, SnoozeOrder
from streamer.clock import parse_rfc3339
from streamer.config import NAME_PATTERN, NAME_RULE
from streamer.configvalue import parse_duration_ns
from streamer.errors import UserError
from streamer.http.answers import in_time, json_answer, read_body
from streamer.http.caller import Refused, check_query, limit, moment
from streamer.http.control import AlertControl, Control
from streamer.http.openapi import ALERT_STATES, DEFAULT_ALERTS, DELIVERY_PATTERN, MAX_ALERTS

_ALERT = re.compile(r"[0-9a-f]{16}", re.ASCII)
_LAST_NS = 2**63 - 1
_BEFORE = re.compile(r"[0-9]{1,18}", re.ASCII)

Body = TypeVar("Body", bound=msgspec.Struct)


class AlertRoutes:
    """The handlers of these operations, by their names in `openapi.ROUTES`."""

    def __init__(self, control: Control) -> None:
        self._control = control

    @property
    def _alerts(self) -> AlertControl:
        return self._control.alerting

    async def list_alerts(self, request: web.Request) -> web.StreamResponse:
        given = request.query
        check_query(given, ("rule", "stream", "state", "since", "before", "limit"))
        query = AlertQuery(
            rule=_name("rule", given.get("rule")),
            stream=_name("stream", given.get("stream")),
            state=_state(given.get("state")),
            since_ns=_time("since", given.get("since")),
            before=_before(given.get("before")),
            limit=limit(given.get("limit"), DEFAULT_ALERTS, MAX_ALERTS),
        )
        async with in_time():
            return json_answer(await self._alerts.alerts(query))

    async def get_alert(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        async with in_time():
            detail = await self._alerts.alert(name) if _ALERT.fullmatch(name) else None
        if detail is None:
            raise Refused(404, f"there is no alert {name[:64]!r}, or not any more: GET /v1/alerts lists them")
        return json_answer(detail)

    async def resend_delivery(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        async with in_time():
            delivery = await self._alerts.resend(name) if re.fullmatch(DELIVERY_PATTERN, name) else None
        if delivery is None:
            raise Refused(404, f"there is no delivery {name[:64]!r}: GET /v1/alerts/ID lists those of an alert")
        return json_answer(delivery)

    # -- rules -------------------------------------------------------------------------------------------------------

    async def list_rules(self, request: web.Request) -> web.StreamResponse:
        async with in_time():
            return json_answer(RuleList(rules=await self._alerts.rules()))

    async def snooze_rule(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        order = await _read(request, SnoozeOrder, '{"for": "2h"}')
        span_ns = _span("for", order.span)
        async with in_time():
            snooze = await self._alerts.snooze(_rule(name), _glob(order.stream), span_ns)
        if snooze is None:
            raise _unknown_rule(name)
        return json_answer(snooze)

    async def unsnooze_rule(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        check_query(request.query, ("stream",))
        stream = _glob(request.query.get("stream"))
        async with in_time():
            found = await self._alerts.unsnooze(_rule(name), stream)
        if not found:
            raise Refused(404, f"no snooze of {name[:64]!r} is in force: GET /v1/rules lists them")
        return web.Response(status=204)

    async def try_rule(self, request: web.Request) -> web.StreamResponse:
        trial = await _read(request, RuleTry, """{"rule": {"when": "label('Glass') > 0.6"}, "since": "24h"}""")
        _span("since", trial.since)
        async with in_time():
            report = await self._alerts.try_rule(trial)
        if report is None:
            raise _unknown_rule(str(trial.rule))
        return json_answer(report)


def _unknown_rule(name: str) -> Refused:
    return Refused(404, f"there is no rule {name[:64]!r}: GET /v1/rules lists them")


def _name(parameter: str, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(NAME_PATTERN, text):
        raise Refused(400, f"{parameter}: {text[:64]!r} is no name: use {NAME_RULE}")
    return text


def _rule(text: str) -> str | None:
    """The rule that a path names, None for all."""
    return None if text == "*" else _name("rule", text)


def _glob(text: str | None) -> str | None:
    if text is not None and not re.search(GLOB_PATTERN, text):
        raise Refused(400, f"stream: {text[:64]!r} is no name of streams: use one, with * for any letters")
    return text


def _state(text: str | None) -> AlertFilter | None:
    if text is not None and text not in ALERT_STATES:
        raise Refused(400, f"state: {text[:32]!r} is none of {', '.join(ALERT_STATES)}")
    return cast("AlertFilter | None", text)


def _time(parameter: str, text: str | None) -> int | None:
    if text is not None and "@" in text:
        raise Refused(400, f"{parameter}: alerts are asked for by time, like 2026-11-23T04:07:08Z")
    time = moment(parameter, text)
    # What 64 bits of nanoseconds don't reach is as good as their end.
    return None if time is None else min(max(parse_rfc3339(time), 0), _LAST_NS)


def _before(text: str | None) -> int | None:
    if text is None:
        return None
    if not _BEFORE.fullmatch(text):
        raise Refused(400, f"before: {text[:32]!r} is no place in a list: use the `next` of one")
    return int(text)


def _span(parameter: str, text: str) -> int:
    try:
        return parse_duration_ns(text.strip())
    except ValueError as error:
        raise Refused(400, f"{parameter}: {error}") from None


async def _read(request: web.Request, kind: type[Body], example: str) -> Body:
    """The JSON body as `kind`."""
    body = await read_body(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"the body is wrong: {error}; send something like {example}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UserError(f"the body is not JSON: send something like {example}") from None
