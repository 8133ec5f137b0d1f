"""Streams and what is known of them: their state, past segments, traces, what labels rest on, pictures."""

from __future__ import annotations

import msgspec
from aiohttp import web

from streamer.configfile import parse_stream_entry
from streamer.http.answers import in_time, json_answer, known_stream, read_body, unknown_stream
from streamer.http.caller import (
    Refused,
    check_query,
    limit,
    moment,
    picture_index,
    refuse_forbidden,
    sequence,
    stream_name,
)
from streamer.http.control import Control
from streamer.http.openapi import (
    DEFAULT_SEGMENTS,
    DEFAULT_TRACES,
    JPEG_TYPE,
    MAX_LABEL,
    MAX_SEGMENTS,
    MAX_TRACES,
    LabelList,
    StreamList,
    TraceList,
)
from streamer.status import Trace


class StreamRoutes:
    """The handlers of these operations, by their names in `openapi.ROUTES`."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def list_streams(self, request: web.Request) -> web.StreamResponse:
        return json_answer(StreamList(self._control.streams()))

    async def get_stream(self, request: web.Request) -> web.StreamResponse:
        return json_answer(known_stream(self._control, request))

    async def put_stream(self, request: web.Request) -> web.StreamResponse:
        name = stream_name(request.match_info["name"])
        entry = parse_stream_entry(await read_body(request))
        await refuse_forbidden(entry.source)
        outcome = await self._control.put(name, entry)
        status = self._control.stream(name)
        if status is None:
            raise Refused(503, f"{name} was removed by somebody else meanwhile", {"Retry-After": "1"})
        response = json_answer(status, 201 if outcome == "created" else 200)
        if outcome == "created":
            response.headers["Location"] = f"/v1/streams/{name}"
        return response

    async def delete_stream(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if not await self._control.delete(name):
            raise unknown_stream(name)
        return web.Response(status=204)

    # -- what was and what can be ------------------------------------------------------------------------------------

    async def list_segments(self, request: web.Request) -> web.StreamResponse:
        name, query = request.match_info["name"], request.query
        check_query(query, ("since", "until", "limit"))
        since, until = moment("since", query.get("since")), moment("until", query.get("until"))
        most = limit(query.get("limit"), DEFAULT_SEGMENTS, MAX_SEGMENTS)
        segments, following = await self._control.segments(name, since, until, most)
        if not segments and self._control.stream(name) is None:
            raise unknown_stream(name)
        body = b'{"segments":[' + b",".join(segments) + b'],"next":' + msgspec.json.encode(following) + b"}"
        return web.Response(body=body, content_type="application/json")

    async def get_trace(self, request: web.Request) -> web.StreamResponse:
        name, seq = known_stream(self._control, request).name, sequence(request.match_info["seq"])
        check_query(request.query, ("epoch",))
        epoch = request.query.get("epoch")
        trace = self._control.trace(name, seq, epoch)
        if trace is None:
            reach = _reach(self._control.traces(name, MAX_TRACES))
            raise Refused(404, f"{name} has no trace of {_segment(seq, epoch)}: {reach}")
        return json_answer(trace)

    async def list_traces(self, request: web.Request) -> web.StreamResponse:
        name = known_stream(self._control, request).name
        check_query(request.query, ("limit",))
        most = limit(request.query.get("limit"), DEFAULT_TRACES, MAX_TRACES)
        return json_answer(TraceList(self._control.traces(name, most)))

    async def list_labels(self, request: web.Request) -> web.StreamResponse:
        return json_answer(LabelList(self._control.labels()))

    # -- what labels rest on -----------------------------------------------------------------------------------------

    async def get_why(self, request: web.Request) -> web.StreamResponse:
        name, seq = known_stream(self._control, request).name, sequence(request.match_info["seq"])
        check_query(request.query, ("label", "epoch"))
        label, epoch = request.query.get("label", ""), request.query.get("epoch")
        if not 1 <= len(label) <= MAX_LABEL:
            raise Refused(400, "label: name the label whose reasons are asked for, as GET /v1/labels has it")
        async with in_time():
            why = await self._control.why(name, seq, epoch, label)
        if why is None:
            raise Refused(404, f"what {_segment(seq, epoch)} of {name} rests on is not kept: ask for a newer one")
        return json_answer(why)

    async def get_picture(self, request: web.Request) -> web.StreamResponse:
        return await self._picture(request, picture_index(request.match_info["index"]))

    async def get_preview(self, request: web.Request) -> web.StreamResponse:
        return await self._picture(request, None)

    async def _picture(self, request: web.Request, index: int | None) -> web.StreamResponse:
        status = known_stream(self._control, request)
        if not status.preview:
            detail = f"pictures of {status.name} may not be shown: `preview: true` in the stream's entry allows it"
            raise Refused(403, detail)
        async with in_time():
            picture = await self._control.picture(status.name, index)
        if picture is None:
            what = "picture yet" if index is None else f"picture {index}, or not any more"
            raise Refused(404, f"{status.name} has no {what}")
        return web.Response(body=picture, content_type=JPEG_TYPE)


def _segment(seq: int, epoch: str | None) -> str:
    return f"segment {seq}" if epoch is None else f"segment {seq} of epoch {epoch[:64]}"


def _reach(traces: list[Trace]) -> str:
    """How far back there are traces, in words; `traces` are all there are, the newest first."""
    if not traces:
        return "it has none yet"
    newest, oldest = traces[0], traces[-1]
    return (
        f"they go from segment {oldest.seq} of epoch {oldest.epoch} ({oldest.end})"
        f" to segment {newest.seq} of epoch {newest.epoch} ({newest.end})"
    )
