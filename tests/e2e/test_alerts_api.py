"""Alerts of a running service, asked for over HTTP and by the commands."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.e2e.running import Running, service

CONFIG = """
streams:
  lobby: {{source: whip, group: front}}
alerts:
  - {{name: waiting, when: "state == 'connecting'", for: 1s, send: [ops], severity: info}}
send:
  ops: {{url: "http://127.0.0.1:9/hook?token=hunter22hunter22", allow_private: true}}
outbox: {{path: {path}}}
"""


async def command(*arguments: str) -> str:
    """What `streamer alerts ...` prints."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "streamer", "alerts", *arguments],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, wrong.decode()
    return said.decode()


async def failed_delivery(running: Running, alert: str) -> dict[str, Any]:
    """The alert's one delivery, once it has been tried."""
    found: list[dict[str, Any]] = []

    async def tried() -> bool:
        found[:] = (await running.get(f"/v1/alerts/{alert}"))["deliveries"]
        return bool(found and found[0]["attempts"])

    async with asyncio.timeout(20):
        while not await tried():
            await asyncio.sleep(0.1)
    return found[0]


async def test_alerts_of_a_running_service(tmp_path: Path) -> None:
    """A rule on a stream that waits for its publisher fires; the alert, its delivery that fails, the rule and its
    snooze are told over HTTP, and by the commands beside it; the receiver's secret is nowhere in it."""
    path, config = tmp_path / "kept" / "alerts.db", tmp_path / "config.yaml"
    config.write_text(CONFIG.format(path=path))
    async with service(config=config) as running:
        firing: list[dict[str, Any]] = []
        async with asyncio.timeout(30):
            while not firing:
                firing = (await running.get("/v1/alerts?state=firing"))["alerts"]
                await asyncio.sleep(0.1)
        assert (firing[0]["fired"]["rule"], firing[0]["fired"]["stream"]) == ("waiting", "lobby")
        delivery = await failed_delivery(running, firing[0]["id"])
        assert (delivery["receiver"], delivery["state"]) == ("ops", "pending") and delivery["error"]
        (rule,) = (await running.get("/v1/rules"))["rules"]
        assert (rule["name"], rule["firing"], rule["for_s"]) == ("waiting", 1, 1.0)

        status, snooze = await running.call("PUT", "/v1/rules/waiting/snooze", {"for": "2h"})
        assert status == 200 and snooze["rule"] == "waiting"
        assert (await running.get("/v1/rules"))["rules"][0]["snoozes"] == [snooze]
        await command("unsnooze", "waiting", "--outbox", str(path))
        assert (await running.get("/v1/rules"))["rules"][0]["snoozes"] == []

        status, report = await running.call("POST", "/v1/rules/try", {"rule": {"when": "label('Glass') > 0.6"}})
        assert status == 200 and report["rules"][0]["times"] == 0 and report["segments"] == 0
        status, problem = await running.call("POST", "/v1/rules/try", {"rule": {"when": "label('Glas') > 0.6"}})
        assert status == 400 and "Glass" in problem["detail"]

        listed = json.loads(await command("list", "--config", str(config), "--json"))
        assert listed["alert"]["id"] == firing[0]["id"]
        assert "hunter22" not in json.dumps([firing, delivery, rule, listed]) + "".join(running.log)
        status, _ = await running.call("DELETE", "/v1/streams/lobby")
        assert status == 204
        async with asyncio.timeout(20):
            while (await running.get("/v1/alerts?state=firing"))["alerts"]:
                await asyncio.sleep(0.1)
        (over,) = (await running.get("/v1/alerts?state=cleared"))["alerts"]
        assert over["id"] == firing[0]["id"] and over["cleared"]["state"] == "cleared"
