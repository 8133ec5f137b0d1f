"""Alert rules and dashboard against a running service: every metric, label and value that they name is exposed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import typing
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streamer.media import SourceStats
from streamer.messages import Reason, Status
from streamer.observe.histogram import Histogram
from streamer.observe.metrics import Metrics
from streamer.observe.series import StreamCounts, answer_series, source_series
from tests.deploy.promql import named, plain
from tests.e2e.running import service
from tests.stores import Valkey

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
BOARD = DEPLOY / "grafana" / "dashboards" / "streamer.json"
_TOKEN, _METRICS_TOKEN = "for-people", "for-prometheus"
# What Prometheus adds by itself.
_ADDED = {"instance", "job"}
_OWN = {"up": _ADDED, "ALERTS": {"alertname", "alertstate", "severity", "stream", *_ADDED}}
# Values that a healthy service does not show: from the shapes of its messages, and the drops' reasons in its sources.
_FURTHER = {
    ("streamer_segments_total", "status"): set(typing.get_args(Status)),
    ("streamer_segments_total", "reason"): set(typing.get_args(Reason)),
}


@dataclass
class Seen:
    """How a service with the sample configuration answered, and what it exposed."""

    health: tuple[int, str]
    ready: tuple[int, object]
    without_token: int
    exposition: str


@pytest.fixture(scope="module")
def seen(looping_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The service as compose starts it: the sample configuration, listening everywhere, a store reached by TCP."""
    return asyncio.run(_seen(looping_clip, tmp_path_factory.mktemp("state")))


async def _seen(clip: Path, state: Path) -> Seen:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        "STREAMER_TOKEN": _TOKEN,
        "METRICS_TOKEN": _METRICS_TOKEN,
        "DOOR_SOURCE": f"file:{clip}?loop=1",
        "XDG_STATE_HOME": str(state),
    }
    store = ("--redis", f"redis://127.0.0.1:{port}/0")
    everywhere = {"http": "0.0.0.0:0", "ws": "0.0.0.0:0"}
    async with (
        Valkey("--port", str(port)),
        service(*store, config=DEPLOY / "streamer.yaml", env=env, **everywhere) as running,
    ):

        async def ask(path: str, token: str | None) -> tuple[int, str]:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with running.session.get(running.page + path, headers=headers) as answer:
                return answer.status, await answer.text()

        health, ready = await ask("/healthz", None), await ask("/readyz", _TOKEN)
        without = await ask("/metrics", None)
        async with asyncio.timeout(30):
            while True:
                _, text = await ask("/metrics", _METRICS_TOKEN)
                answered = re.search(r'^streamer_segments_total\{.*stream="door"} ([\d.]+)', text, re.MULTILINE)
                read = re.search(r"^streamer_alerts_read_total ([\d.]+)", text, re.MULTILINE)
                if answered and read and float(answered[1]) >= 2 and float(read[1]) >= 2:
                    break
                await asyncio.sleep(0.2)
        assert await running.stop() == 0
    return Seen(health, (ready[0], json.loads(ready[1])), without[0], text)


@pytest.fixture(scope="module")
def exposed(seen: Seen) -> dict[str, dict[str, set[str]]]:
    """Values of each label of each metric that the service exposes."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def take(families: object) -> None:
        for family in families:  # type: ignore[attr-defined]
            for sample in family.samples:
                labels = found[sample.name]
                for label, value in sample.labels.items():
                    labels[label].add(value)

    families = list(text_string_to_metric_families(seen.exposition))
    take(families)
    bare = {family.name for family in families if not family.samples}
    # Families without a sample while all is well have their labels from the code that would fill them.
    take(family for family in _ill() if family.name in bare)
    return found


def _ill() -> Iterator[object]:
    """The series of a stream that lacks everything, and of loops that stood still."""
    stats = SourceStats(drops={"corrupt": 1, "overflow": 1})
    stream = StreamCounts(stats, lambda: "live", None, lambda: 1, degraded={"frames": 1})
    yield from source_series({"ill": stream})
    yield from answer_series({"ill": stream})
    metrics = Metrics()
    watch = SimpleNamespace(durations=lambda: {"main": Histogram((1.0,))}, counts=lambda: {("main", "x.py:1"): 1})
    metrics.watch_stalls(watch)  # type: ignore[arg-type]
    yield from (family for family in metrics.collect() if family.name.startswith("streamer_loop"))


def _rules() -> list[dict[str, typing.Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[dict[str, typing.Any]]:
    return json.loads(BOARD.read_text())["panels"]


def _expressions() -> dict[str, str]:
    """Every expression of rules and dashboard, by where it stands."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in _rules()}
    board = json.loads(BOARD.read_text())
    for panel in _panels():
        for target in panel.get("targets", []):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for variable in board["templating"]["list"]:
        found[f"variable {variable['name']}"] = re.sub(
            r"label_values\((.*), (\w+)\)", r"max by (\2) (\1)", variable["query"]["query"]
        )
    for annotation in board["annotations"]["list"]:
        found[f"annotation {annotation['name']}"] = annotation["expr"]
    return found


def _promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: apt-get install -y --no-install-recommends prometheus")
    return program


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sample_configuration_serves_everywhere_who_has_a_token_and_nobody_else(seen: Seen) -> None:
    """As compose starts it, the service is healthy for everybody, ready for who shows a token, and 401 for the rest."""
    assert seen.health == (200, "ok\n")
    assert seen.ready == (200, {"ready": True, "checks": {"models": "ok", "store": "ok"}})
    assert seen.without_token == 401


@pytest.mark.parametrize("where", sorted(_expressions()))
def test_every_metric_label_and_value_is_exposed(where: str, exposed: dict[str, dict[str, set[str]]]) -> None:
    """An expression names nothing that the service does not expose: not a metric, a label, nor a value of one."""
    found = named(_expressions()[where])
    assert found.metrics, f"{where} names no metric"
    labels: dict[str, set[str]] = {}
    for metric in found.metrics:
        assert metric in exposed or metric in _OWN, f"{where}: {metric} is not exposed"
        labels[metric] = _OWN.get(metric, set()) or set(exposed[metric]) | _ADDED
    for metric, label, operator, value in found.matchers:
        assert label in labels[metric], f"{where}: {metric} has no label {label}"
        known = exposed[metric][label] | _FURTHER.get((metric, label), set()) if metric in exposed else set()
        if label in ("state", "stage", "status", "reason", "queue") and operator in ("=", "=~"):
            assert set(value.split("|")) <= known, f"{where}: {metric} has no {label} {value}"
    assert found.groupings <= set().union(*labels.values()), f"{where} groups by what is not there"


def test_a_metric_that_is_not_exposed_would_be_found() -> None:
    """What an expression names is read whole: metrics in and out of braces, matchers, groupings; not functions."""
    found = named('sum by (a, b) (rate(x_total{c=~"d|e", f="}"}[5m])) / on (g) max(y) and z > 1e3 unless time() > 2')
    assert found.metrics == {"x_total", "y", "z"}
    assert found.matchers == [("x_total", "c", "=~", "d|e"), ("x_total", "f", "=", "}")]
    assert found.groupings == {"a", "b", "g"}


def test_every_alert_says_how_bad_it_is_for_how_long_whom_it_concerns_and_what_to_do() -> None:
    """Rules have a severity, a `for`, a summary that names the stream or the service, an action, and a line in the
    guide; no two have one name."""
    guide = (DEPLOY / "README.md").read_text()
    names = [rule["alert"] for rule in _rules()]
    assert len(names) == len(set(names))
    for rule in _rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert re.fullmatch(r"\d+[smh]", rule["for"]), rule["alert"]
        assert re.search(r"\$labels\.(stream|instance)", rule["annotations"]["summary"]), rule["alert"]
        assert rule["annotations"]["action"], rule["alert"]
        assert f"`{rule['alert']}`" in guide, f"the guide says nothing of {rule['alert']}"


def test_the_guide_says_what_every_metric_means() -> None:
    """Each metric of rules and dashboard is in the guide's table."""
    guide = (DEPLOY / "README.md").read_text()
    for where, expression in _expressions().items():
        for metric in named(expression).metrics - _OWN.keys():
            assert re.search(rf"`{metric}[`{{]", guide), f"{where}: the guide says nothing of {metric}"


def test_dashboard_has_one_source_and_room_for_every_panel() -> None:
    """Panels have their own numbers, don't overlap, and ask the data source that is provisioned."""
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    taken: set[tuple[int, int]] = set()
    numbers = [panel["id"] for panel in _panels()]
    assert len(numbers) == len(set(numbers))
    for panel in _panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        references = [target["refId"] for target in panel.get("targets", [])]
        assert len(references) == len(set(references)), panel["title"]
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == source["uid"], panel["title"]


def test_promtool_takes_configuration_and_rules(tmp_path: Path) -> None:
    """Prometheus' own tool finds no fault in the scrape configuration and the rules, and their unit tests hold."""
    promtool = _promtool()
    shutil.copytree(RULES.parent, tmp_path / "prometheus")
    (tmp_path / "prometheus" / "metrics_token").write_text(_METRICS_TOKEN)
    _run(promtool, "check", "config", str(tmp_path / "prometheus" / "prometheus.yml"))
    _run(promtool, "test", "rules", str(tmp_path / "prometheus" / "alerts.test.yml"))


def test_promtool_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """Every expression is PromQL."""
    rules = [{"record": f"x:{i}", "expr": plain(text)} for i, text in enumerate(_expressions().values())]
    file = tmp_path / "all.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    _run(_promtool(), "check", "rules", str(file))
