"""What is wrong with rules and receivers, told when the configuration is read: each by the room that knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamer.alertconfig import AlertConfig, QuietConfig
from streamer.config import Config, Fault, Path
from streamer.labelnames import label_names


def check_alerts(config: Config) -> Iterator[Fault]:
    """Faults of `alerts` and `send`: expressions, names of labels, templates, hours, addresses."""
    if config.alerts:
        labels = label_names(config.streams.values())
        for index, rule in enumerate(config.alerts):
            yield from check_rule(("alerts", index), rule, labels)
    if config.send:
        # Imported here: what knows a hundred services takes a second, which no other configuration should pay for.
        from streamer.alerts.senders import check_receiver

        for name, receiver in config.send.items():
            text = check_receiver(receiver)
            if text is not None:
                yield Fault(("send", name, "url"), text)
            yield from _check_hours(("send", name), receiver.quiet)


def check_rule(path: Path, rule: AlertConfig, labels: Sequence[str]) -> Iterator[Fault]:
    """Faults of one rule, whose entry is at `path`; `labels`: the names it may speak of."""
    from streamer.alerts.rules.ruleset import faults
    from streamer.alerts.text import check_template

    yield from (Fault((*path, *fault.path), fault.text) for fault in faults(rule, labels))
    if rule.text is not None and (text := check_template(rule.text)) is not None:
        yield Fault((*path, "text"), text)


def _check_hours(path: Path, quiet: Sequence[QuietConfig]) -> Iterator[Fault]:
    from streamer.alerts.rules.quiet import faults

    for index, hours in enumerate(quiet):
        yield from (Fault((*path, "quiet", index, *fault.path), fault.text) for fault in faults(hours))
