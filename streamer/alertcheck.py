"""What is wrong with rules and receivers, told when the configuration is read: each by the room that knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamer.alertconfig import AlertConfig, QuietConfig
from streamer.config import Config, Fault, Path
from streamer.errors import UserError
from streamer.labelnames import label_names
from streamer.speechconfig import keyword_labels


def check_alerts(config: Config) -> Iterator[Fault]:
    """Faults of `model`, `alerts` and `send`: the checkpoint, expressions, names of labels, templates, hours,
    addresses."""
    try:
        labels = label_names(config.streams.values(), config.model) + keyword_labels(config.speech.keywords)
    except UserError as error:
        yield Fault(("model",), str(error).removeprefix("model: "))
    else:
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
