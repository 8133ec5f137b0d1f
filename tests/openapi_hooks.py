"""What schemathesis has to be told about this API, as its hooks: how WHIP's bodies are written, and what a JSON schema
can't say. Its command line takes this module by the variable `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

import json
import re
from typing import Any

import schemathesis

from streamer.http.openapi import FRAGMENT_TYPE, SDP_TYPE


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """A stream's entry with an address that leads somewhere, and without 12.0 for 12: no schema can ask for either."""
    if not isinstance(body, dict):
        return body
    address, rate = body.get("source"), body.get("frames_per_second")
    if isinstance(address, str) and re.fullmatch(r"(?i:rtsps?)://[^\x00-\x20\x7f]{1,4000}", address):
        body = {**body, "source": "rtsp://127.0.0.1:9/main"}
    return {**body, "frames_per_second": int(rate)} if isinstance(rate, float) and rate.is_integer() else body


@schemathesis.serializer(SDP_TYPE, FRAGMENT_TYPE)
def as_text(_: Any, value: Any) -> bytes:
    """SDP and its fragments are text; what is none is sent as it would be in JSON."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()
