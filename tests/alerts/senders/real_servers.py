"""A real Mosquitto and a real Alertmanager for tests, each with a folder and a port of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from streamer.alerts.records import Delivery, Summary
from streamer.clock import NS_PER_S
from streamer.messages import Alert, AlertSegment, AlertState, Label, Share

_START_S = 15.0


def alert(
    state: AlertState = "firing", *, rule: str = "glass", stream: str = "door", id: str = "a1", at: str = "03.000"
) -> Alert:
    """An alert; `at`: seconds of its minute."""
    return Alert(
        stream=stream,
        id=id,
        rule=rule,
        state=state,
        severity="warning",
        key=stream,
        group="ground-floor",
        since="2026-11-23T04:07:01.000Z",
        at=f"2026-11-23T04:07:{at}Z",
        late_ms=120.0,
        labels=[Label("Glass", 0.91, Share(0.2, 0.8, 0.0))],
        words=["help"],
        segment=AlertSegment("e", 7),
        text="glass: Glass 91% (audio 80%, video 20%)",
        link="http://localhost:8080/#/streams/door?at=2026-11-23T04%3A07%3A01.000Z",
    )


def delivery(what: Alert, *, attempt: int = 1, summary: Summary | None = None, recorded_ns: int = NS_PER_S) -> Delivery:
    """A delivery of it, whose id follows from the alert as it does in earnest."""
    return Delivery(f"msg_{what.id}_{what.state}", "ops", what, attempt, recorded_ns, summary)


class RealServer:
    """A server of somebody else's making, that can be killed and started again at the same port."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again, and wait until it accepts connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise AssertionError(f"{self._command[0]} did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    """A TCP port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def mosquitto(folder: Path, *lines: str, port: int | None = None) -> RealServer:
    """A broker with these lines in its configuration; not started yet. Skips where there is none."""
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("no mosquitto: apt-get install -y mosquitto")
    port = port or free_port()
    written = [f"listener {port} 127.0.0.1", *lines]
    if not any(line.startswith("allow_anonymous") for line in lines):
        written.append("allow_anonymous true")
    if not any(line.startswith("persistence") for line in lines):
        written.append("persistence false")
    # Started by root it would become a user that can't read the test's folder.
    (folder / "mosquitto.conf").write_text("\n".join(["user root", *written, ""]))
    return RealServer([program, "-c", str(folder / "mosquitto.conf"), "-v"], folder, port)


def alertmanager(folder: Path, *, resolve_timeout: str = "5m") -> RealServer:
    """An Alertmanager that notifies nobody; not started yet. Skips where there is none."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("no Alertmanager: apt-get install -y prometheus-alertmanager")
    port = free_port()
    config = (
        f"global: {{resolve_timeout: {resolve_timeout}}}\nroute: {{receiver: nobody}}\nreceivers: [{{name: nobody}}]\n"
    )
    (folder / "alertmanager.yml").write_text(config)
    return RealServer(
        [
            program,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        folder,
        port,
    )
