"""The unit and the containers: what they start exists, and they give away no more than they must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from streamer.cli import main
from streamer.configfile import problems

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_ENVIRONMENT = {"STREAMER_TOKEN": "a", "METRICS_TOKEN": "b", "DOOR_SOURCE": "rtsp://user:password@10.0.0.7/main"}


def _compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yml").read_text())


def _services() -> dict[str, dict[str, Any]]:
    return _compose()["services"]


def _dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def _instruction(name: str) -> list[str]:
    """The words of a Dockerfile's last instruction of that name, in its JSON form."""
    return json.loads(re.findall(rf"^{name} (\[.*\])$", _dockerfile(), re.MULTILINE)[-1])


def _parses(words: list[str], config: Path) -> None:
    """The program takes these words: its configuration is read, then it is told to stop before anything starts."""
    words = [str(config) if word.endswith("streamer.yaml") else word for word in words]
    assert words[words.index("run") + 1] == str(config)
    run = main.commands["run"]  # type: ignore[attr-defined]
    context = run.make_context("run", words[words.index("run") + 1 :])
    assert context.params["config"] == config


def test_the_sample_configuration_is_without_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """`streamer check` finds nothing in it, with the names of the sample environment and no others."""
    sample = (DEPLOY / "streamer.env.example").read_text()
    assert dict(re.findall(r"^(\w+)=(.*)$", sample, re.MULTILINE)).keys() == _ENVIRONMENT.keys()
    for name in list(os.environ):
        if name in _ENVIRONMENT:
            monkeypatch.delenv(name)
    assert len(problems(DEPLOY / "streamer.yaml")) == len(_ENVIRONMENT)
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert problems(DEPLOY / "streamer.yaml") == []


def test_without_tokens_the_container_s_command_ends_with_what_to_do(tmp_path: Path) -> None:
    """The command of the image with a configuration without tokens is refused: exit code 2, which systemd heeds."""
    config = tmp_path / "open.yaml"
    config.write_text("streams: {door: {source: 'rtsp://10.0.0.7/main'}}\n")
    words = [str(config) if word.endswith("streamer.yaml") else word for word in _instruction("CMD")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "set `tokens` in the configuration" in done.output


def test_image_and_compose_start_the_program_with_words_that_it_knows() -> None:
    """Entry point and arguments of the image, of compose and of the unit are the program's own."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert _instruction("ENTRYPOINT") == ["streamer"] and "streamer" in scripts
    unit = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "streamer.service").read_text(), re.MULTILINE)
    for words in (_instruction("CMD"), _services()["streamer"]["command"], unit[0].split()[1:]):
        _parses(words, DEPLOY / "streamer.yaml")


def test_the_image_takes_in_what_exists_pins_what_the_project_pins_and_is_not_root() -> None:
    """Copied folders exist and reach the build, torch is the project's, no other registry is named."""
    text = _dockerfile()
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = re.findall(r'"(torch[a-z]*==[^"]+)"', text)
    assert sorted(pinned) == sorted(word for word in dependencies if re.match(r"torch(audio)?==", word))
    allowed = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r"^USER (\d+):\d+$", text, re.MULTILINE)[1] != "0"  # type: ignore[index]
    assert re.search(r'^ARG TORCH_INDEX=""$', text, re.MULTILINE)
    assert re.findall(r"https?://[^'\"\s/]+", text) == ["http://127.0.0.1:8080"]
    assert all(re.search(r":[\w.-]*\d", image) for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE))


def test_the_image_s_and_compose_s_health_checks_are_one_and_ask_what_is_there(tmp_path: Path) -> None:
    """Both run one Python program, which fails where nobody listens."""
    image = json.loads(re.search(r"HEALTHCHECK[^\n]*\\\n\s+CMD (\[.*\])", _dockerfile())[1])  # type: ignore[index]
    assert _services()["streamer"]["healthcheck"]["test"] == ["CMD", *image]
    program = image[2].replace(":8080", ":9")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30).returncode != 0


@pytest.mark.parametrize("name", sorted(_services()))
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    """Read-only, no capability, nothing privileged, checked for health, pinned, reached from this machine alone."""
    entry = _services()[name]
    assert entry["read_only"] is True and entry["cap_drop"] == ["ALL"] and "cap_add" not in entry
    assert entry["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & entry.keys()
    assert entry["healthcheck"]["test"][0] == "CMD" and entry["healthcheck"]["timeout"]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", entry["image"])
    assert name == "streamer" or re.fullmatch(r"\d+:\d+", entry["user"])
    assert all(port.startswith("127.0.0.1:") for port in entry.get("ports", []))


def test_what_compose_mounts_and_names_is_there() -> None:
    """Files exist, volumes, networks and secrets are declared, and what is secret is kept out of the repository."""
    compose, ignored = _compose(), (DEPLOY / ".gitignore").read_text().split()
    for name, entry in _services().items():
        for volume in entry.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"], volume
            assert volume.endswith(":ro") or not source.startswith("."), f"{name} may write {source}"
        assert set(entry["networks"]) <= compose["networks"].keys()
        assert set(entry.get("depends_on", {})) <= compose["services"].keys()
        for secret in entry.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"]
        assert all(file in ignored for file in entry.get("env_file", []))
    assert compose["networks"]["store"] == {"internal": True}
    assert all(secret["file"].startswith("./secrets/") for secret in compose["secrets"].values())
    assert "secrets/" in ignored


def test_the_store_of_compose_refuses_rather_than_forgets_and_lies_above_what_is_kept() -> None:
    """Its limit is over the service's own, at which it would otherwise drop or refuse what subscribers still want."""
    words = _services()["valkey"]["command"]
    kept = yaml.safe_load((DEPLOY / "streamer.yaml").read_text())["redis"]["max_memory"]
    assert int(words[words.index("--maxmemory") + 1].removesuffix("mb")) > int(kept.removesuffix("mb"))
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no fault, and rates the exposure at 2 of 10 or less."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install -y --no-install-recommends systemd")
    unit = tmp_path / "streamer.service"
    text = (DEPLOY / "streamer.service").read_text()
    unit.write_text(text.replace("/opt/streamer/bin/streamer", str(Path(sys.executable).resolve())))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    # It may have something to say about the machine's own units as well.
    assert done.returncode == 0 and "streamer.service" not in done.stderr, done.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit]
    rated = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert rated.returncode == 0, rated.stdout[-200:] + rated.stderr
