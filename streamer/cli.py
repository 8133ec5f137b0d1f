"""The commands. Each gets its input checked here; heavy rooms are imported only by the command that needs them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer import __version__
from streamer.bench.commands import bench, duration
from streamer.commands.alerts import alerts
from streamer.commands.learning import register
from streamer.config import NAME_PATTERN, StreamConfig, mask_text
from streamer.errors import StreamerError, UserError

if TYPE_CHECKING:
    from streamer.commands.options import Options

_EPILOG = (
    "Errors are one line; add --debug before the command for the traceback. "
    "Exit codes: 0 done, 1 failed while working, 2 wrong input."
)


class _Group(click.Group):
    """Turns our errors into one line and the right exit code; everything unexpected too, unless `--debug`."""

    def invoke(self, ctx: click.Context) -> Any:
        debug = bool(ctx.params.get("debug"))
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            # The reader of our output has gone (`| head`), and has what it wanted; what is still buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except StreamerError as error:
            if debug:
                raise
            _fail(ctx, str(error), 2 if isinstance(error, UserError) else 1)
        except Exception as error:  # The user gets a line, not a traceback; --debug gives the whole.
            if debug:
                raise
            _fail(ctx, f"{type(error).__name__}: {error} (a fault of streamer's; --debug shows where)", 1)


def _fail(ctx: click.Context, text: str, code: int) -> None:
    click.secho("streamer: ", fg="red", nl=False, err=True)
    click.echo(mask_text(text), err=True)
    ctx.exit(code)


@click.group(
    cls=_Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="streamer")
@click.option("--debug", is_flag=True, help="Show tracebacks and the log of every part.")
@click.option("-v", "--verbose", is_flag=True, help="Show what happens on standard error.")
def main(debug: bool, verbose: bool) -> None:
    """Labels for live video and audio, each by its deadline.

    \b
    Try first:   streamer demo
    A camera:    streamer run --source door=rtsp://user:password@10.0.0.7/main
    A file:      streamer label clip.mp4
    streamer label --people clip.mp4
    Then look:   http://127.0.0.1:8080/  or  streamer watch
    """
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _address(_: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s\[\]]*)):(\d{1,5})", value)
    if match is None or int(match[3]) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT (like 127.0.0.1:8080)", param=param)
    return match[1] or match[2] or "0.0.0.0", int(match[3])


def _sources(_: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, StreamConfig]:
    streams: dict[str, StreamConfig] = {}
    for value in values:
        name, sign, url = value.partition("=")
        if not sign or re.fullmatch(NAME_PATTERN, name) is None:
            shown = mask_text(value)
            raise click.BadParameter(f"{shown!r} is not NAME=URL with a name of a-z, 0-9, _ and -", param=param)
        if name in streams:
            raise click.BadParameter(f"two sources are named {name!r}; give each its own name", param=param)
        streams[name] = StreamConfig(source=url)
    return streams


def _serving_options(command: Any) -> Any:
    options = [
        click.option(
            "--redis", "redis_url", metavar="URL", help="Store to publish to. Default: a Valkey server of its own."
        ),
        click.option(
            "--http",
            metavar="HOST:PORT",
            default="127.0.0.1:8080",
            show_default=True,
            callback=_address,
            help="Page, API and metrics.",
        ),
        click.option(
            "--ws",
            metavar="HOST:PORT",
            default="127.0.0.1:8081",
            show_default=True,
            callback=_address,
            help="Websocket subscribers.",
        ),
        click.option(
            "--latency-bound",
            metavar="TIME",
            callback=duration,
            help="Every segment is answered by then, e.g. 1s or 800ms.  [default: 1s]",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N."),
        click.option(
            "--weights",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Folder with the pretrained weights, for machines without a network.",
        ),
        click.option("--model", metavar="NAME|PATH", help="The checkpoint that labels.  [default: tags]"),
        click.option("--insecure", is_flag=True, help="Listen beyond this machine without tokens."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _options(given: dict[str, Any], config: Path | None, streams: dict[str, StreamConfig]) -> Options:
    from streamer.commands.options import Options

    return Options(
        config=config,
        streams=streams,
        redis_url=given["redis_url"],
        http=given["http"],
        websocket=given["ws"],
        bound_ns=given["latency_bound"],
        device=given["device"],
        weights=given["weights"],
        model=given["model"],
        insecure=given["insecure"],
    )


@main.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option(
    "--source",
    "sources",
    metavar="NAME=URL",
    multiple=True,
    callback=_sources,
    help="A stream; may repeat. rtsp://, rtsps://, file:PATH or device:PATH.",
)
@click.option("--json", "as_json", is_flag=True, help="Tell the addresses as one JSON object on standard output.")
@_serving_options
def run(config: Path | None, sources: dict[str, StreamConfig], as_json: bool, **given: Any) -> None:
    """Run the service: take in the streams, label them, publish.

    CONFIG is a YAML file; changing it changes the running service. Without one, name the streams with --source.
    Ends on Ctrl-C or SIGTERM, when what was accepted has been published.

    \b
    streamer run --source door=rtsp://user:password@10.0.0.7/main
    streamer run cameras.yaml --redis redis://10.0.0.2:6379/0
    """
    from streamer.commands.terminal import Console
    from streamer.service import serve

    console = Console(as_json=as_json)
    serve(_options(given, config, sources), console.service_started, console.fetching)


@main.command()
@click.option("--source", metavar="URL", help="Your own camera or clip instead of the demo's.")
@click.option("--json", "as_json", is_flag=True, help="Addresses and messages as JSON, one object a line.")
@_serving_options
def demo(source: str | None, as_json: bool, **given: Any) -> None:
    """Show it working: a camera that loops a real clip with sound, the service, its page, and the labels here."""
    from streamer.demo.show import show

    streams = {} if source is None else {"demo": StreamConfig(source=source)}
    show(_options(given, None, streams), as_json=as_json)


@main.command()
@click.argument("media", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a segment.")
@click.option("--speech", is_flag=True, help="Write down what is said too.")
@click.option("--people", is_flag=True, help="Find people in the picture too.")
@click.option(
    "--srt", type=click.Path(path_type=Path, dir_okay=False), help="Write what is said to this file (SubRip)."
)
@click.option(
    "--vtt", type=click.Path(path_type=Path, dir_okay=False), help="Write what is said to this file (WebVTT)."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with the pretrained weights.",
)
@click.option("--model", metavar="NAME|PATH", default="tags", show_default=True, help="The checkpoint that labels.")
def label(
    media: tuple[str, ...],
    as_json: bool,
    speech: bool,
    people: bool,
    srt: Path | None,
    vtt: Path | None,
    weights: Path | None,
    model: str,
) -> None:
    """Label files, as fast as the machine allows: one line a segment (2 s of media, every 0.5 s).

    \b
    streamer label clip.mp4
    streamer label --srt clip.srt clip.mp4
    streamer label --json *.mp4 | jq -r 'select(.labels[0].score > 0.5) | .start + " " + .labels[0].name'
    """
    if (srt or vtt) and len(media) > 1:
        raise UserError(f"--srt and --vtt are of one file, and here are {len(media)}: label each by itself")
    from streamer.commands.terminal import Written, label_files

    written = Written(srt, vtt) if speech or srt or vtt else None
    label_files(media, as_json, weights, people=people, model=model, written=written)


@main.command()
@click.argument("url", metavar="[WS-URL]", default="ws://127.0.0.1:8081/v1/subscribe")
@click.option(
    "--stream", "streams", metavar="GLOB", multiple=True, help="Only these streams, e.g. 'front-*'; may repeat."
)
@click.option(
    "--label", "labels", metavar="NAME", multiple=True, help="Only segments and events with this label; may repeat."
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="Only labels at least this likely.")
@click.option("--since", metavar="CURSOR", help="Begin here instead of now.")
@click.option("--json", "as_json", is_flag=True, help="The messages as they are.")
def watch(
    url: str,
    streams: tuple[str, ...],
    labels: tuple[str, ...],
    min_score: float | None,
    since: str | None,
    as_json: bool,
) -> None:
    """Follow a running service in the terminal; reconnects and goes on where it was."""
    import asyncio

    from streamer.commands.watch import Subscription
    from streamer.commands.watch import watch as follow

    asyncio.run(follow(Subscription(url, streams, labels, min_score, since), as_json=as_json))


def _sequence(_: click.Context, param: click.Parameter, value: str) -> str:
    if value != "last" and re.fullmatch(r"[0-9]{1,15}", value) is None:
        raise click.BadParameter(f"{value!r} is neither a segment's number (0, 1, 2, ...) nor `last`", param=param)
    return value


@main.command()
@click.argument("stream")
@click.argument("seq", callback=_sequence)
@click.option("--epoch", help="The epoch that SEQ counts in.  [default: the newest that has it]")
@click.option(
    "--http", "url", metavar="URL", default="http://127.0.0.1:8080", show_default=True, help="The service to ask."
)
@click.option("--token", envvar="STREAMER_TOKEN", help="Where the service wants one; better in STREAMER_TOKEN.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def trace(stream: str, seq: str, epoch: str | None, url: str, token: str | None, as_json: bool) -> None:
    """Show one segment's way through every stage of a running service, with the time each took.

    SEQ is the segment's number, or `last`. The last two minutes of every stream are kept.

    \b
    streamer trace door 42
    streamer trace door last --json
    """
    from streamer.commands.trace_view import Question, show

    show(Question(stream, seq, epoch, url, token), as_json=as_json)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, even where all is well.")
def check(config: Path, as_json: bool) -> None:
    """Say what is wrong in a configuration, each with its place; nothing and exit code 0 where all is well."""
    from streamer.commands.options import problems

    found = problems(config)
    if as_json:
        click.echo(json.dumps({"problems": found}))
    else:
        for problem in found:
            click.echo(problem, err=True)
    if found:
        raise SystemExit(2)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The same facts as one JSON object.")
def privacy(config: Path, as_json: bool) -> None:
    """Say what a service with this configuration takes in, keeps, for how long, and sends where.

    \b
    streamer privacy cameras.yaml
    streamer privacy cameras.yaml --json | jq '.streams[] | select(.shows_pictures) | .name'
    """
    from streamer.commands.privacy_view import show

    show(config, as_json=as_json)


@main.command()
@click.option(
    "--weights",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Take the packages from this folder instead of the network.",
)
@click.option("--model", metavar="NAME|PATH", default="tags", show_default=True, help="Make this checkpoint ready.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def weights(directory: Path | None, model: str, as_json: bool) -> None:
    """Fetch and check the pretrained weights (every command that needs them does so by itself)."""
    from streamer.commands.terminal import prepare_weights

    prepare_weights(directory, as_json, model)


main.add_command(bench)
main.add_command(alerts)
register(main)


if __name__ == "__main__":
    main()
