"""`streamer alerts ...`: what each command takes; what they do is imported only when they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from streamer.config import parse_duration_ns
from streamer.errors import UserError

_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


def _span(_: click.Context, param: click.Parameter, value: str) -> int:
    """The callback of an option that is a time: nanoseconds."""
    try:
        span_ns = parse_duration_ns(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None
    if span_ns == 0:
        raise click.BadParameter("name a time longer than nothing, like 2h", param=param)
    return span_ns


def _outbox(command: Any) -> Any:
    """Where the alerts are kept: what the configuration says, if one is named, else the user's own folder."""
    command = click.option(
        "--config", type=click.Path(path_type=Path), help="The service's configuration, where it sets outbox.path."
    )(command)
    return click.option("--outbox", type=click.Path(path_type=Path), help="The file that alerts are kept in.")(command)


@click.group()
def alerts() -> None:
    """Rules and their alerts: try rules on the past, see who was told, send again, snooze."""


@alerts.command()
@click.argument("config", metavar="RULES", type=click.Path(path_type=Path))
@click.option(
    "--since", "since_ns", metavar="TIME", default="24h", show_default=True, callback=_span, help="How far back."
)
@click.option("--stream", metavar="GLOB", default="*", help="Only these streams, e.g. 'front-*'.")
@click.option("--rule", "names", metavar="NAME", multiple=True, help="Only this rule; may repeat.")
@click.option("--redis", "redis_url", metavar="URL", help="The store to read.  [default: that of the configuration]")
@_json
def test(
    config: Path, since_ns: int, stream: str, names: tuple[str, ...], redis_url: str | None, as_json: bool
) -> None:
    """Say what rules would have done with what the store holds, and how often a day.

    RULES is a configuration; nothing is sent or recorded.

    \b
    streamer alerts test cameras.yaml --since 6h
    streamer alerts test cameras.yaml --rule glass --json | jq '.rules[0].a_day'
    """
    from streamer.commands.alert_view import Past, test_rules

    test_rules(Past(config, since_ns, stream, names, redis_url), as_json=as_json)


@alerts.command("list")
@click.option("--firing", is_flag=True, help="Those that fire now.")
@click.option("--dead", is_flag=True, help="The deliveries that were given up, with their ids.")
@click.option("--rule", metavar="NAME", help="Of this rule.")
@click.option("--stream", metavar="NAME", help="Of this stream.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@_outbox
@_json
def list_alerts(
    firing: bool,
    dead: bool,
    rule: str | None,
    stream: str | None,
    limit: int,
    outbox: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """List alerts, the newest first, each with who was told; --json gives one object a line."""
    if dead and (firing or rule or stream):
        raise UserError("--dead lists every delivery that was given up: leave --firing, --rule and --stream out")
    from streamer.alertstatus import AlertQuery
    from streamer.commands.alert_view import list_dead, list_kept, outbox_of

    path = outbox_of(outbox, config)
    if dead:
        list_dead(path, limit, as_json=as_json)
    else:
        query = AlertQuery(rule=rule, stream=stream, state="firing" if firing else None, limit=limit)
        list_kept(path, query, as_json=as_json)


@alerts.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all-dead", is_flag=True, help="Every delivery that was given up.")
@click.option("--receiver", metavar="NAME", help="With --all-dead: to this receiver only.")
@click.option("--rule", metavar="NAME", help="With --all-dead: of this rule only.")
@_outbox
@_json
def resend(
    ids: Sequence[str],
    all_dead: bool,
    receiver: str | None,
    rule: str | None,
    outbox: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Send deliveries again, by their ids (`streamer alerts list --dead`) or every one that was given up.

    The running service sends them; they keep their ids, by which receivers know repeats.
    """
    if bool(ids) == all_dead:
        raise UserError("name deliveries by their ids, or say --all-dead: `streamer alerts list --dead` shows them")
    if (receiver or rule) and not all_dead:
        raise UserError("--receiver and --rule go with --all-dead")
    from streamer.commands.alert_view import outbox_of, resend_dead, resend_some

    path = outbox_of(outbox, config)
    if all_dead:
        resend_dead(path, receiver, rule, as_json=as_json)
    else:
        resend_some(path, ids, as_json=as_json)


def _rule(command: Any) -> Any:
    """What is snoozed: a rule or all, on some streams or all."""
    command = click.option("--stream", metavar="GLOB", help="On these streams only.")(command)
    command = click.option("--all", "every", is_flag=True, help="All rules.")(command)
    return click.argument("rule", required=False)(command)


def _check_rule(rule: str | None, every: bool) -> None:
    if (rule is None) != every:
        raise UserError("name a rule, or say --all")


@alerts.command()
@_rule
@click.option("--for", "span_ns", metavar="TIME", required=True, callback=_span, help="How long, e.g. 30m or 2h.")
@_outbox
def snooze(
    rule: str | None, every: bool, stream: str | None, span_ns: int, outbox: Path | None, config: Path | None
) -> None:
    """Send nothing of a rule for a while; its alerts are recorded and shown all the same."""
    _check_rule(rule, every)
    from streamer.commands.alert_view import outbox_of
    from streamer.commands.alert_view import snooze as begin

    begin(outbox_of(outbox, config), rule, stream, span_ns, config)


@alerts.command()
@_rule
@_outbox
def unsnooze(rule: str | None, every: bool, stream: str | None, outbox: Path | None, config: Path | None) -> None:
    """End a snooze."""
    _check_rule(rule, every)
    from streamer.commands.alert_view import outbox_of
    from streamer.commands.alert_view import unsnooze as end

    end(outbox_of(outbox, config), rule, stream)
