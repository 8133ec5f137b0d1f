"""To whom an alert goes, and which of its deliveries begin at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamer.alertconfig import USUAL_LIMIT, AlertConfig, LimitConfig, SendConfig
from streamer.alerts.outbox.rows import Snooze, is_snoozed
from streamer.alerts.records import DeliveryState, Fired
from streamer.alerts.rules.quiet import is_quiet

# What shows that an alert lasts: without its end it would show that for ever.
_KEEPING = ("mqtt", "mqtts", "alertmanager+http", "alertmanager+https")


def keeps_state(receiver: SendConfig) -> bool:
    """Whether a receiver shows an alert until it is told that it is over: a broker and Alertmanager do."""
    return receiver.url.partition("://")[0].lower() in _KEEPING


def limit_of(receiver: SendConfig) -> LimitConfig | None:
    """What `receiver` gets at most. One that keeps a state has no usual limit: it would show a wrong state."""
    return None if keeps_state(receiver) and receiver.limit == USUAL_LIMIT else receiver.limit


def deliveries(
    fired: Fired, rule: AlertConfig, send: Mapping[str, SendConfig], snoozes: Sequence[Snooze], now_ns: int
) -> tuple[tuple[str, DeliveryState], ...]:
    """Receivers of what `rule` said, each with the state that its delivery begins in.

    now_ns: Unix nanoseconds of the recording, which is what quiet hours and snoozes go by. The end of an alert is told
    to those that keep a state whatever the rule says and whatever the hour: it disturbs nobody.
    """
    over = fired.state == "cleared"
    snoozed = is_snoozed(snoozes, fired.rule, fired.stream, now_ns)
    found: list[tuple[str, DeliveryState]] = []
    for name in dict.fromkeys(rule.send):
        receiver = send.get(name)
        if receiver is None:
            continue
        if over and keeps_state(receiver):
            found.append((name, "pending"))
        elif over and not rule.send_cleared:
            continue
        elif snoozed:
            found.append((name, "snoozed"))
        elif is_quiet(rule.quiet, now_ns) or is_quiet(receiver.quiet, now_ns):
            found.append((name, "quiet"))
        else:
            found.append((name, "pending"))
    return tuple(found)
