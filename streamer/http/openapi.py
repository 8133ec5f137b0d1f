"""The API as one table of routes, and the OpenAPI 3.1 description that is made from it. Pure.

The server gives every operation here its handler and serves no other, so the description can't fall behind the service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from streamer import __version__
from streamer.alertstatus import (
    GLOB_PATTERN,
    AlertDetail,
    AlertFilter,
    AlertList,
    DeliveryStatus,
    RuleList,
    RuleTry,
    Snooze,
    SnoozeOrder,
    TrialReport,
)
from streamer.config import NAME_PATTERN, StreamConfig
from streamer.messages import Segment
from streamer.status import Info, LabelInfo, Readiness, StreamStatus, Trace, Why

MAX_SEGMENTS = 1000
DEFAULT_SEGMENTS = 100
MAX_TRACES = 240
DEFAULT_TRACES = 20
MAX_ALERTS = 200
DEFAULT_ALERTS = 50
ALERT_STATES: tuple[str, ...] = get_args(AlertFilter)
DELIVERY_PATTERN = r"[0-9A-Za-z._-]{1,128}"
MAX_BODY = 64 * 1024
MAX_LABEL = 100
PROBLEM_TYPE = "application/problem+json"
SDP_TYPE = "application/sdp"
FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"
JPEG_TYPE = "image/jpeg"
MP4_TYPE = "video/mp4"


class Problem(Struct, kw_only=True, omit_defaults=True):
    """An error (RFC 9457): `title` names the kind, `detail` says what is wrong with this request and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None


class NotReady(Problem, kw_only=True):
    """Why segments are not answered and published now; `checks` says of each part `ok` or what it lacks."""

    ready: bool
    checks: dict[str, str]


class StreamList(Struct, frozen=True):
    """The streams of this service, in the order in which they were added."""

    streams: list[StreamStatus]


class LabelList(Struct, frozen=True):
    """Every name that a label can have."""

    labels: list[LabelInfo]


class SegmentList(Struct, frozen=True):
    """Past segments, oldest first; `next` is the `since` that goes on from here, None at the end."""

    segments: list[Segment]
    next: str | None


class TraceList(Struct, frozen=True):
    """The last segments' ways through every stage, the newest first."""

    traces: list[Trace]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query or a header, with its JSON schema; those in the path are always needed."""

    name: str
    place: Literal["path", "query", "header"]
    text: str
    schema: dict[str, Any]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: `answers` are what it says when all is well by status, `problems` the statuses of its errors.

    An answer is a struct (JSON), a media type (anything else) or None (no body). `headers` come with the answers, each
    with what it says. `open` operations need no token.
    """

    method: str
    path: str
    operation: str
    summary: str
    answers: dict[int, type[Struct] | str | None]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: type[Struct] | str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    open: bool = False


def _limit(what: str, default: int, most: int) -> Parameter:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Parameter("limit", "query", f"The most {what} to return.", schema)


_TIME = "an RFC 3339 time, or the cursor of a message"
_NAME = Parameter("name", "path", "The stream's name.", {"type": "string", "pattern": f"^{NAME_PATTERN}$"})
_FILE = Parameter("file", "path", "The file's name.", {"type": "string"})
_SEQ = Parameter(
    "seq", "path", "The segment's number in its epoch.", {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
)
_EPOCH = Parameter("epoch", "query", "The epoch; the newest that has the segment if left out.", {"type": "string"})
_MOMENT = {
    "type": "string",
    "anyOf": [{"format": "date-time"}, {"pattern": "^[0-9]{1,19}-[0-9]{1,19}@[0-9a-z]{1,32}$"}],
}
_RANGE = (
    Parameter("since", "query", f"Where to begin, inclusive: {_TIME}.", _MOMENT),
    Parameter("until", "query", f"Where to end, exclusive: {_TIME}.", _MOMENT),
    _limit("segments", DEFAULT_SEGMENTS, MAX_SEGMENTS),
)
_LABEL = Parameter(
    "label", "query", "The label, as GET /v1/labels has it.",
    {"type": "string", "minLength": 1, "maxLength": MAX_LABEL}, needed=True,
)  # fmt: skip
_INDEX = Parameter("index", "path", "The picture's number, as `why` has it.", _SEQ.schema)
_SESSION = Parameter("session", "path", "The session's name, from the Location of the answer.", {"type": "string"})
_IF_MATCH = Parameter("If-Match", "header", "The ETag of the answer to the offer.", {"type": "string"}, needed=True)
_IF_NONE_MATCH = Parameter("If-None-Match", "header", "The ETag of what is here already.", {"type": "string"})
_PAGE_HEADERS = (("ETag", "Names these bytes."),)
_ICE_SERVERS = ("Link", 'A STUN or TURN server that may be used, with `rel="ice-server"`; one header for each.')
_RULE = Parameter(
    "name", "path", "The rule's name; `*` for all rules.", {"type": "string", "pattern": rf"^({NAME_PATTERN}|\*)$"}
)
_ALERT = Parameter("id", "path", "The alert's id.", {"type": "string", "pattern": "^[0-9a-f]{16}$"})
_DELIVERY = Parameter("id", "path", "The delivery's id.", {"type": "string", "pattern": f"^{DELIVERY_PATTERN}$"})
_OF_STREAM = Parameter("stream", "query", "Of this stream alone.", _NAME.schema)
_OF_STREAMS = Parameter(
    "stream", "query", "The snooze of streams like this alone.", {"type": "string", "pattern": GLOB_PATTERN}
)
_ALERTS = (
    Parameter("rule", "query", "Of this rule alone.", _NAME.schema),
    _OF_STREAM,
    Parameter(
        "state", "query", "Those that fire now, those that are over, or those with a delivery that was given up.",
        {"type": "string", "enum": list(ALERT_STATES)},
    ),
    Parameter("since", "query", "Recorded then or later.", {"type": "string", "format": "date-time"}),
    Parameter(
        "before", "query", "The `next` of a list: go on from there.", {"type": "string", "pattern": "^[0-9]{1,18}$"}
    ),
    _limit("alerts", DEFAULT_ALERTS, MAX_ALERTS),
)  # fmt: skip
_STREAM = "/v1/streams/{name}"
_WHIP = _STREAM + "/whip"
_WHIP_SESSION = _WHIP + "/{session}"

ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/", "page", "The page.", {200: "text/html", 304: None}, (), (_IF_NONE_MATCH,), headers=_PAGE_HEADERS,
        open=True,
    ),
    Route(
        "GET", "/page/{file}", "page_file", "A file of the page.", {200: "*/*", 304: None}, (404,),
        (_FILE, _IF_NONE_MATCH), headers=_PAGE_HEADERS, open=True,
    ),
    Route("GET", "/healthz", "healthz", "The process runs.", {200: "text/plain"}, open=True),
    Route("GET", "/readyz", "readyz", "Whether segments are answered and published.", {200: Readiness, 503: NotReady}),
    Route("GET", "/metrics", "metrics", "Numbers for Prometheus.", {200: "text/plain"}),
    Route("GET", "/openapi.json", "openapi", "This description.", {200: "application/json"}),
    Route("GET", "/v1/info", "info", "Where the websocket is, and the latency bound.", {200: Info}),
    Route("GET", "/v1/streams", "list_streams", "All streams.", {200: StreamList}),
    Route("GET", _STREAM, "get_stream", "One stream.", {200: StreamStatus}, (404,), (_NAME,)),
    Route(
        "PUT", _STREAM, "put_stream", "Add a stream (201) or change it (200).", {200: StreamStatus, 201: StreamStatus},
        (408, 409, 413, 503), (_NAME,), StreamConfig,
    ),
    Route(
        "DELETE", _STREAM, "delete_stream", "Remove a stream and free what it held.", {204: None}, (404, 503), (_NAME,)
    ),
    Route(
        "POST", _WHIP, "whip", "Publish by WebRTC (WHIP, RFC 9725): an SDP offer is answered.", {201: SDP_TYPE},
        (404, 408, 409, 413, 415, 503), (_NAME,), SDP_TYPE,
        (("Location", "The session, to trickle to and to end."), ("ETag", "Names its ICE session."), _ICE_SERVERS),
    ),
    Route(
        "OPTIONS", _WHIP, "whip_options", "What the WHIP endpoint takes; with a token also the ICE servers.",
        {200: None}, (), (_NAME,), headers=(("Accept-Post", "The media type of offers."), _ICE_SERVERS), open=True,
    ),
    Route(
        "PATCH", _WHIP_SESSION, "trickle_whip", "Add ICE candidates to a session; ICE restarts are not served (422).",
        {204: None}, (404, 408, 412, 413, 415, 422, 428, 503), (_NAME, _SESSION, _IF_MATCH), FRAGMENT_TYPE,
    ),
    Route("DELETE", _WHIP_SESSION, "end_whip", "End a session.", {200: None}, (404, 503), (_NAME, _SESSION)),
    Route(
        "OPTIONS", _WHIP_SESSION, "whip_session_options", "What a WHIP session takes.", {200: None}, (),
        (_NAME, _SESSION), headers=(("Accept-Patch", "The media type of candidates."),), open=True,
    ),
    Route(
        "GET", _STREAM + "/why/{seq}", "get_why", "What one label of one segment rests on.", {200: Why}, (404, 503),
        (_NAME, _SEQ, _LABEL, _EPOCH),
    ),
    Route(
        "GET", _STREAM + "/pictures/{index}", "get_picture", "A picture that a label rests on.", {200: JPEG_TYPE},
        (403, 404, 503), (_NAME, _INDEX),
    ),
    Route(
        "GET", _STREAM + "/preview", "get_preview", "The newest picture.", {200: JPEG_TYPE}, (403, 404, 503), (_NAME,)
    ),
    Route(
        "GET", _STREAM + "/trace/{seq}", "get_trace", "One segment's way through every stage.", {200: Trace}, (404,),
        (_NAME, _SEQ, _EPOCH),
    ),
    Route(
        "GET", _STREAM + "/traces", "list_traces", "The last segments' ways, the newest first.", {200: TraceList},
        (404,), (_NAME, _limit("traces", DEFAULT_TRACES, MAX_TRACES)),
    ),
    Route(
        "GET", "/v1/segments/{name}", "list_segments", "Past segments.", {200: SegmentList}, (404, 503),
        (_NAME, *_RANGE),
    ),
    Route("GET", "/v1/alerts", "list_alerts", "Alerts, the newest first.", {200: AlertList}, (503,), _ALERTS),
    Route(
        "GET", "/v1/alerts/{id}", "get_alert", "One alert, with its deliveries.", {200: AlertDetail}, (404, 503),
        (_ALERT,),
    ),
    Route(
        "GET", "/v1/alerts/{id}/pictures/snapshot.jpg", "get_alert_snapshot",
        "The picture of an alert, faces blurred.", {200: JPEG_TYPE}, (404, 503), (_ALERT,),
    ),
    Route(
        "GET", "/v1/alerts/{id}/pictures/clip.mp4", "get_alert_clip", "The clip of an alert, faces blurred.",
        {200: MP4_TYPE}, (404, 503), (_ALERT,),
    ),
    Route(
        "POST", "/v1/alerts/deliveries/{id}/resend", "resend_delivery", "Send a delivery again, whatever became of it.",
        {200: DeliveryStatus}, (404, 503), (_DELIVERY,),
    ),
    Route("GET", "/v1/rules", "list_rules", "The rules, with what they do.", {200: RuleList}, (503,)),
    Route(
        "POST", "/v1/rules/try", "try_rule", "What a rule would have done with what the store holds.",
        {200: TrialReport}, (404, 408, 413, 503), (), RuleTry,
    ),
    Route(
        "PUT", "/v1/rules/{name}/snooze", "snooze_rule", "Record a rule's alerts without sending them for a while.",
        {200: Snooze}, (404, 408, 413, 503), (_RULE,), SnoozeOrder,
    ),
    Route(
        "DELETE", "/v1/rules/{name}/snooze", "unsnooze_rule", "End a snooze.", {204: None}, (404, 503),
        (_RULE, _OF_STREAMS),
    ),
    Route("GET", "/v1/labels", "list_labels", "The names that can appear.", {200: LabelList}, (503,)),
)  # fmt: skip


def document(*, tokens: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description of `ROUTES`; `tokens` says whether callers must present one."""
    types: list[Any] = [Problem]
    for route in ROUTES:
        types += [kind for kind in (*route.answers.values(), route.body) if isinstance(kind, type)]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type, tokens=tokens)
    _narrow(components["StreamConfig"])
    described: dict[str, Any] = {"schemas": components}
    if tokens:
        described["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamer",
            "version": __version__,
            "description": "Labels for live video and audio, each by its deadline. Errors are problems (RFC 9457).",
        },
        "paths": paths,
        "components": described,
    }


def _narrow(entry: dict[str, Any]) -> None:
    """What is refused in a stream's entry beyond what its types say; where an address leads can't be said here."""
    entry["properties"]["source"] |= {
        "pattern": "^(whip|[Rr][Tt][Ss][Pp][Ss]?://[^\\x00-\\x20\\x7f]+)$",
        "maxLength": 4096,
    }
    off = {"const": False}
    entry["not"] = {"properties": {"video": off, "audio": off}, "required": ["video", "audio"]}


def _operation(route: Route, schemas: dict[Any, dict[str, Any]], *, tokens: bool) -> dict[str, Any]:
    guarded = tokens and not route.open
    # Whatever the route, a request may be malformed, misdirected, or meet a fault of ours.
    always = {400, 421, 500} | ({401} if guarded else set()) | ({403} if route.method != "GET" else set())
    problems = sorted(always | set(route.problems))
    responses: dict[str, Any] = {}
    for status, kind in route.answers.items():
        responses[str(status)] = {"description": _WORDS[status], **_content(kind, schemas)}
        if route.headers:
            responses[str(status)]["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in route.headers
            }
    for status in problems:
        if str(status) not in responses:
            content = {PROBLEM_TYPE: {"schema": schemas[Problem]}}
            responses[str(status)] = {"description": _WORDS[status], "content": content}
    operation: dict[str, Any] = {"operationId": route.operation, "summary": route.summary, "responses": responses}
    if route.parameters:
        operation["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.needed or parameter.place == "path",
                "description": parameter.text,
                "schema": parameter.schema,
            }
            for parameter in route.parameters
        ]
    if route.body is not None:
        operation["requestBody"] = {"required": True, **_content(route.body, schemas)}
    if guarded:
        operation["security"] = [{"token": []}]
    return operation


def _content(kind: type[Struct] | str | None, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if kind is None:
        return {}
    if isinstance(kind, str):
        return {"content": {kind: _BODIES.get(kind, {"schema": {"type": "string"}})}}
    media_type = PROBLEM_TYPE if issubclass(kind, Problem) else "application/json"
    return {"content": {media_type: {"schema": schemas[kind]}}}


_BODIES: dict[str, dict[str, Any]] = {
    "application/json": {"schema": {"type": "object"}},
    # Bytes need no schema (OpenAPI 3.1).
    JPEG_TYPE: {},
    SDP_TYPE: {"schema": {"type": "string", "pattern": r"^v=0\r?\n(.*\n)*m=(audio|video) "}},
    FRAGMENT_TYPE: {"schema": {"type": "string", "pattern": r"(^|\n)a="}},
}
_WORDS = {
    200: "Done.",
    201: "Added.",
    204: "Done; there is nothing to say.",
    304: "It is as it was.",
    400: "The request is wrong; the detail says what.",
    401: "A token is needed, or this one is not known.",
    403: "A web page of another origin may not do this, or pictures of this stream may not be shown.",
    404: "No such thing.",
    408: "The body did not arrive in time.",
    409: "It can't be done beside what is there; the detail says why, with the figure where computing power lacks.",
    412: "If-Match names another ICE session.",
    413: f"The body is larger than {MAX_BODY} bytes.",
    415: "The body is of a media type that is not taken here.",
    421: "The service is not reached under this host name.",
    422: "ICE restarts are not served.",
    428: "If-Match is missing.",
    500: "A fault of the service; its log says more.",
    503: "Not now: a part of the service is away or busy.",
}
