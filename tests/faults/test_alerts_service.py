"""A real service with rules: what it recorded outlives it, rules follow the file, and an outbox that can't be had is
told at the start."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.rows import AlertRow, Filter
from tests.alerts.hook import Hook
from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import service
from tests.processes import still_running, with_word
from tests.stores import Valkey, valkey_fixture

__all__ = ["valkey_fixture"]

StartCamera = Callable[[Path], ToolkitCamera]


def configuration(folder: Path, camera: ToolkitCamera, hook: Hook, rules: dict[str, str]) -> Path:
    """A file with one stream, these rules (names and conditions), and one receiver."""
    path = folder / "cameras.yaml"
    said = {
        "streams": {"door": {"source": camera.url, "group": "front"}},
        "alerts": [{"name": name, "when": when, "send": ["ops"]} for name, when in rules.items()],
        "send": {"ops": {"url": hook.url, "allow_private": True, "secret": "a secret of this test"}},
        "outbox": {"path": str(folder / "alerts.sqlite3")},
    }
    path.write_text(json.dumps(said), encoding="utf-8")
    return path


def recorded(folder: Path) -> list[AlertRow]:
    path = folder / "alerts.sqlite3"
    if not path.is_file():
        return []
    book = Book.open(path, read_only=True)
    try:
        return list(book.listing(Filter()).rows)[::-1]
    finally:
        book.close()


async def test_an_alert_outlives_the_service_that_recorded_it(
    valkey: Valkey, tmp_path: Path, looping_clip: Path, toolkit_camera: StartCamera
) -> None:
    """Its receiver is away, and the service is killed. When both are there again the alert arrives, under the id that
    it was recorded with, and a subscriber finds it in the feed, once."""
    async with Hook() as hook:
        path = configuration(tmp_path, toolkit_camera(looping_clip), hook, {"seen": "coverage.video > 0.5"})
        hook.kill()
        async with service("--redis", valkey.url, config=path) as first:
            await eventually(lambda: [row for row in recorded(tmp_path) if row.mirrored], 30, "an alert is recorded")
            children = first.children
            await first.stop(signal.SIGKILL)
        await eventually(lambda: not still_running(children), 15)
        (row, *_) = recorded(tmp_path)
        assert row.deliveries[0].state == "pending" and not hook.taken
        await hook.start()
        async with service("--redis", valkey.url, config=path) as second:
            (taken, *_) = await hook.has(1, 30)
            assert (taken.alert["id"], taken.id) == (row.alert.id, row.deliveries[0].id)
            (told, *_) = await second.first(1, "alert", "?since=0-0@0")
            assert told["id"] == row.alert.id and told["cursor"]
            assert await second.stop() == 0


async def test_rules_follow_the_file(tmp_path: Path, looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """The first rule that a file gets begins to watch in the running service; one with a mistake changes nothing; both
    without the stream's noticing. The alert is with the receiver, a subscriber and the API, and the figures are among
    the metrics."""
    async with Hook() as hook:
        camera = toolkit_camera(looping_clip)
        path = configuration(tmp_path, camera, hook, {})
        async with service(config=path) as running:
            epoch = (await running.first(1, "segment"))[0]["epoch"]
            assert not with_word(running.children, "streamer.alerts")
            configuration(tmp_path, camera, hook, {"seen": "stream == 'door' && group == 'front' && status != 'shed'"})
            (taken, *_) = await hook.has(1, 20)
            assert taken.alert["rule"] == "seen" and taken.alert["group"] == "front"
            (listed,) = (await running.get("/v1/alerts?rule=seen"))["alerts"]
            assert (listed["id"], listed["state"]) == (taken.alert["id"], "firing")
            (rule,) = (await running.get("/v1/rules"))["rules"]
            assert (rule["name"], rule["firing"]) == ("seen", 1)
            assert (await running.first(1, "alert", "?since=0-0@0"))[0]["id"] == taken.alert["id"]
            configuration(tmp_path, camera, hook, {"seen": "label('Dgo') > 0.5"})
            await eventually(lambda: any("did you mean" in line or "Dog" in line for line in running.log), 10)
            async with running.session.get(running.page + "/metrics") as answer:
                assert "streamer_alerts_recorded_total 1.0" in await answer.text()
            assert (await running.first(1, "segment"))[0]["epoch"] == epoch
            assert await running.stop() == 0
    assert not any("secret of this test" in line for line in running.log)


async def test_a_service_does_not_start_without_its_outbox(
    tmp_path: Path, looping_clip: Path, toolkit_camera: StartCamera
) -> None:
    """Exit code 2 and one line that names the file."""
    (tmp_path / "alerts.sqlite3").mkdir()
    async with Hook() as hook:
        path = configuration(tmp_path, toolkit_camera(looping_clip), hook, {"seen": "true"})
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "streamer", "run", str(path), "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"],
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2, said
    assert b"alerts.sqlite3" in said.splitlines()[-1] and b"Traceback" not in said
