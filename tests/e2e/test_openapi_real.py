"""Schemathesis against a running service, by the description that it serves itself."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.running import service

ROOT = Path(__file__).resolve().parents[2]
STREAMS = """
streams:
  lobby: {source: whip, preview: true}
  hall: {source: whip, takeover: true}
tokens: [secret]
ice_servers: [{urls: ["turn:127.0.0.1:3478"], username: u, credential: hunter22}]
admission: degrade
"""
# Few names, so that few streams come to be. Whether an address or an offer leads anywhere is in no schema.
ASKED = """
[generation]
max-examples = 25
database = "none"
[dictionaries.names]
values = ["lobby", "hall", "guest"]
[parameters]
"path.name" = {dictionary = "names", probability = 1.0}
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]
[checks.positive_data_acceptance]
enabled = false
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "428", "503"]
# RFC 6585, as WHIP wants it.
[checks.missing_required_header]
expected-statuses = ["400", "428"]
"""


@pytest.mark.prove
async def test_a_running_service_does_what_it_says(tmp_path: Path) -> None:
    """Every operation of the service itself is asked allowed and forbidden things, and none answers otherwise than
    described; afterwards the service is as well as before, and no credential is in its log."""
    streams, asked = tmp_path / "streams.yaml", tmp_path / "asked.toml"
    streams.write_text(f"{STREAMS}outbox: {{path: {tmp_path / 'alerts.db'}}}\n")
    asked.write_text(ASKED)
    async with service(config=streams) as running:
        run = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(asked), "run"]
        process = await asyncio.create_subprocess_exec(
            *run,
            *(f"{running.page}/openapi.json", "--header", "Authorization: Bearer secret"),
            *("--phases", "examples,coverage,fuzzing", "--warnings", "off"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.openapi_hooks"},
        )
        said, _ = await asyncio.wait_for(process.communicate(), 300)
        assert process.returncode == 0, said.decode()[-6000:]
        async with running.session.get(f"{running.page}/healthz") as answer:
            assert answer.status == 200
        log = "".join(running.log)
        assert "Traceback" not in log and "hunter22" not in log
