"""What the command line says, brought together with the configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from streamer import configfile
from streamer.alertcheck import check_alerts
from streamer.config import Config, StreamConfig, check
from streamer.errors import UserError
from streamer.labelnames import label_names

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None leaves the configuration's value or the default."""

    config: Path | None = None
    streams: dict[str, StreamConfig] = field(default_factory=dict)
    redis_url: str | None = None
    http: tuple[str, int] = ("127.0.0.1", 8080)
    websocket: tuple[str, int] = ("127.0.0.1", 8081)
    bound_ns: int | None = None
    device: str = "auto"
    weights: Path | None = None
    insecure: bool = False
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running service is reached, and what its user should know."""

    page: str
    websocket: str
    store: str
    warnings: list[str]


def configuration(options: Options) -> configfile.Loaded:
    """The file's configuration with the command line's words in their places.

    Raises:
        UserError: the file, or what the command line says, can't be used.
    """
    loaded = (
        configfile.Loaded(Config(), [])
        if options.config is None
        # Rules may speak of what the model tells that will be served.
        else configfile.load(options.config, further=lambda config: check_alerts(_modelled(config, options)))
    )
    config = _modelled(loaded.config, options)
    if options.config is None:
        label_names(model=config.model)
    streams = {**config.streams, **options.streams}
    if options.redis_url is not None:
        config = replace(config, redis=replace(config.redis, url=options.redis_url))
    if options.bound_ns is not None:
        config = replace(config, latency_bound_ns=options.bound_ns)
    config = replace(config, streams=streams)
    faults = [fault.text for fault in check(config)]
    if faults:
        raise UserError("; ".join(faults))
    return configfile.Loaded(config, loaded.warnings)


def _modelled(config: Config, options: Options) -> Config:
    return config if options.model is None else replace(config, model=options.model)


def problems(path: Path) -> list[str]:
    """Everything that is wrong with the file at `path`, rules and receivers included, a line each."""
    return configfile.problems(path, further=check_alerts)


def check_exposure(options: Options, config: Config) -> None:
    """Nothing listens beyond this machine before a token or `--insecure` is given.

    Raises:
        UserError: it would.
    """
    for option, (host, _) in (("--http", options.http), ("--ws", options.websocket)):
        if host not in _LOCAL_HOSTS and not config.tokens and not options.insecure:
            raise UserError(
                f"{option} {host}: anybody on the network could use it; "
                "set `tokens` in the configuration, or say --insecure if that is meant"
            )
