"""The command line's words over the configuration's, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.commands.options import Options, check_exposure, configuration
from streamer.config import Config, StreamConfig
from streamer.errors import UserError

DOOR = StreamConfig(source="rtsp://10.0.0.7/main")
FILE = """
latency_bound: 2s
redis: {url: "redis://10.0.0.2:6379/0", retention: 2h}
streams:
  door: {source: "rtsp://10.0.0.7/main"}
  yard: {source: "rtsp://10.0.0.8/main"}
speech: {redact: false}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cameras.yaml"
    path.write_text(FILE)
    return path


def test_the_file_alone(file: Path) -> None:
    """Without words the file's values stand, and its warnings come with them."""
    loaded = configuration(Options(config=file))
    assert loaded.config.latency_bound_ns == 2_000_000_000 and set(loaded.config.streams) == {"door", "yard"}
    assert loaded.config.redis.url == "redis://10.0.0.2:6379/0"
    assert len(loaded.warnings) == 1 and "speech" in loaded.warnings[0]


def test_words_stand_above_the_file(file: Path) -> None:
    """A bound, a store or a source named on the command line takes the place of the file's; the rest stays."""
    other = StreamConfig(source="rtsp://10.0.0.9/main")
    options = Options(config=file, streams={"door": other, "roof": DOOR}, redis_url="redis://h/1", bound_ns=500_000_000)
    config = configuration(options).config
    assert config.latency_bound_ns == 500_000_000 and config.redis.url == "redis://h/1"
    assert config.redis.retention_ns == 7_200_000_000_000
    assert config.streams["door"] == other and config.streams["roof"] == DOOR and "yard" in config.streams


def test_words_alone() -> None:
    """Without a file there are the streams named and the defaults; none at all is a service that waits for some."""
    assert configuration(Options(streams={"door": DOOR})).config == Config(streams={"door": DOOR})
    assert configuration(Options()).config == Config()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(bound_ns=5_000_000), "between 200ms and 60s"),
        (Options(redis_url="http://10.0.0.2/"), "redis://"),
        (Options(streams={"door": StreamConfig(source="ftp://u:hunter2@10.0.0.7/")}), "is no source"),
        (Options(streams={"Door": DOOR}), "can't name a stream"),
        (Options(config=Path("nowhere.yaml")), "nowhere.yaml: can't be read"),
    ],
)
def test_what_cannot_be_used(options: Options, words: str) -> None:
    """Wrong words are a clear error without the password in them."""
    with pytest.raises(UserError, match=words) as refusal:
        configuration(options)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_token(host: str) -> None:
    """On an address of this machine alone no token is asked for."""
    check_exposure(Options(http=(host, 8080), websocket=(host, 8081)), Config())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "camera-box", "127.0.0.1.example.org", "localhosts"])
@pytest.mark.parametrize("side", ["http", "websocket"])
def test_the_network_needs_a_token_or_a_word(host: str, side: str) -> None:
    """Anything else is refused, on either side, until there is a token or somebody says that it is meant."""
    where = {side: (host, 8080)}
    with pytest.raises(UserError, match="--insecure") as refusal:
        check_exposure(Options(**where), Config())  # type: ignore[arg-type]
    assert ("--http" if side == "http" else "--ws") in str(refusal.value)
    check_exposure(Options(**where, insecure=True), Config())  # type: ignore[arg-type]
    check_exposure(Options(**where), Config(tokens=["a-token"]))  # type: ignore[arg-type]
