"""What the HTTP side may ask of the service. Whoever serves it can stand behind the routes: the service, or a test."""

from __future__ import annotations

from typing import Literal, Protocol

from streamer.config import IceServer, StreamConfig
from streamer.status import LabelInfo, Publication, Readiness, StreamStatus, Trace, Why


class Control(Protocol):
    """Every method that waits may be cancelled, and leaves nothing behind then. A `StreamerError` becomes a problem
    (503 unless its kind says otherwise), and its text is shown."""

    def streams(self) -> list[StreamStatus]:
        """All streams now."""
        ...

    def stream(self, name: str) -> StreamStatus | None:
        """One stream now, None where there is none of that name."""
        ...

    async def put(self, name: str, entry: StreamConfig) -> Literal["created", "changed"]:
        """Add or change a stream.

        Raises:
            UserError: the entry can't be used (400).
            AdmissionError: it can't be served within the latency bound (409).
            StreamerError: not now (503).
        """
        ...

    async def delete(self, name: str) -> bool:
        """Remove a stream and free what it held; False where there is none."""
        ...

    def readiness(self) -> Readiness:
        """Whether segments are answered and published now."""
        ...

    def labels(self) -> list[LabelInfo]:
        """The names that can appear.

        Raises:
            StreamerError: the models are not loaded yet (503).
        """
        ...

    async def segments(
        self, name: str, since: str | None, until: str | None, limit: int
    ) -> tuple[list[bytes], str | None]:
        """Past segments as JSON, oldest first, and the cursor to go on from.

        Raises:
            UserError: `since` or `until` can't be used (400).
            StoreError: the store is away (503).
        """
        ...

    def trace(self, name: str, seq: int, epoch: str | None) -> Trace | None:
        """One segment's way, of the newest epoch that has it unless one is named; None where it is not kept."""
        ...

    def traces(self, name: str, limit: int) -> list[Trace]:
        """The ways of the last segments, the newest first."""
        ...

    # -- publishers over WebRTC ------------------------------------------------------------------------------------

    async def publish(self, name: str, offer: str) -> Publication:
        """Begin a session of the stream `name`, which is there, with a publisher whose SDP offer this is.

        Raises:
            UserError: the SDP can't be used (400).
            ConflictError: another publishes already, or the stream's source is no publisher (409).
            StreamerError: not now (503).
        """
        ...

    async def unpublish(self, name: str, session: str) -> bool:
        """End a session; False where there is none of that name."""
        ...

    async def trickle(self, name: str, session: str, fragment: str) -> bool:
        """Add the ICE candidates of an SDP fragment (RFC 8840) to a session; False where there is none of that name.

        Raises:
            UserError: the fragment can't be used (400).
        """
        ...

    def ice_servers(self) -> list[IceServer]:
        """The STUN and TURN servers that publishers may use, as configured."""
        ...

    # -- what labels rest on ---------------------------------------------------------------------------------------

    async def why(self, name: str, seq: int, epoch: str | None, label: str) -> Why | None:
        """What `label` of one segment rests on, of the newest epoch that has it unless one is named; None where what
        it rests on is not kept (any more).

        Raises:
            UserError: the model has no such label (400).
            StreamerError: too busy with what has a deadline (503).
        """
        ...

    async def picture(self, name: str, index: int | None) -> bytes | None:
        """A sampled picture that is kept, as JPEG, the newest where `index` is None; None where it is not kept. Asked
        only for streams whose pictures may be shown."""
        ...
