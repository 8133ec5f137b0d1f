"""What goes between us and the process that tells a service: lines of JSON, over its standard input and output."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Opening(Struct, frozen=True):
    """The first line to it: which service, whether addresses of private networks are allowed, and how many seconds one
    telling may take. Answered by a `Told` on whether that can be used."""

    url: str
    allow_private: bool
    timeout_s: float


class Telling(Struct, frozen=True):
    """What to tell. Answered by a `Told` each."""

    title: str
    body: str
    kind: Literal["info", "success", "warning", "failure"]


class Told(Struct, frozen=True):
    """fault: what went wrong, for people and without secrets; None: nothing. retry: whether another try may help."""

    fault: str | None = None
    retry: bool = True
