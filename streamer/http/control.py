"""What the HTTP side may ask of the service. Whoever serves it can stand behind the routes: the service, or a test."""

from __future__ import annotations

from typing import Literal, Protocol

from streamer.alertstatus import (
    AlertDetail,
    AlertList,
    AlertQuery,
    DeliveryStatus,
    RuleStatus,
    RuleTry,
    Snooze,
    TrialReport,
)
from streamer.config import IceServer, StreamConfig
from streamer.status import LabelInfo, Publication, Readiness, StreamStatus, Trace, Why


class AlertControl(Protocol):
    """What may be asked of alerts; as `Control`, a `StreamerError` becomes a problem (503)."""

    async def alerts(self, query: AlertQuery) -> AlertList:
        """Alerts, the newest first."""
        ...

    async def alert(self, name: str) -> AlertDetail | None:
        """One alert with its deliveries, None where there is none of that id."""
        ...

    async def resend(self, delivery: str) -> DeliveryStatus | None:
        """Have a delivery sent (again) whatever became of it; None where there is none of that id."""
        ...

    async def rules(self) -> list[RuleStatus]:
        """The rules in force."""
        ...

    async def snooze(self, rule: str | None, stream: str | None, span_ns: int) -> Snooze | None:
        """Record alerts of a rule (None: of all), of streams like the glob `stream` (None: of all), without sending
        them for so long; None where there is no such rule."""
        ...

    async def unsnooze(self, rule: str | None, stream: str | None) -> bool:
        """End that snooze; False where none is in force."""
        ...

    async def try_rule(self, trial: RuleTry) -> TrialReport | None:
        """What a rule would have done with what the store holds; None where there is no rule of the name given.

        Raises:
            UserError: the rule can't be used (400).
            StreamerError: another is being tried, or the store is away (503).
        """
        ...


class Control(Protocol):
    """Every method that waits may be cancelled, and leaves nothing behind then. A `StreamerError` becomes a problem
    (503 unless its kind says otherwise), and its text is shown."""

    @property
    def alerting(self) -> AlertControl:
        """What fires, who is told, and the rules."""
        ...

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

    async def alert_picture(self, alert: str, name: str) -> bytes | None:
        """A picture of an alert, finished and with its faces blurred; None where it is not made yet, was not asked for,
        or is gone."""
        ...

    async def picture(self, name: str, index: int | None) -> bytes | None:
        """A sampled picture that is kept, as JPEG, the newest where `index` is None; None where it is not kept. Asked
        only for streams whose pictures may be shown."""
        ...
