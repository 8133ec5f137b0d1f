"""What other processes cost: CPU seconds and memory from /proc, and the figures a service exposes of itself."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Values of a Prometheus exposition by name and sorted labels.
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def cpu_seconds(pid: int) -> float:
    """User and system time of process `pid` so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def busy_seconds() -> float:
    """CPU time that all processes of the machine have had so far; what a hypervisor took away is not in it."""
    user, nice, system, _, _, irq, softirq, *_ = (
        Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:]
    )
    return sum(map(int, (user, nice, system, irq, softirq))) * _TICK_S


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """One thread: CPU seconds so far, and whether it was seen waiting for sockets (an event loop does)."""

    seconds: float
    waits_for_sockets: bool


def threads(pid: int) -> dict[int, ThreadTime]:
    """The threads of `pid` by their ids; none where it is gone, or another user's."""
    found = {}
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            seconds = int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
            waits_in = (task / "wchan").read_text(encoding="ascii")
            found[int(task.name)] = ThreadTime(seconds, "epoll" in waits_in or "ep_poll" in waits_in)
    except OSError:
        return found
    return found


def resident_mb(pid: int) -> float:
    """Resident memory of `pid` in MB; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1000 if found else 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds at a moment: resident memory in MB, open descriptors, threads."""

    rss_mb: float
    descriptors: int
    threads: int


def held(pid: int) -> Held | None:
    """What `pid` holds now; None when it is gone."""
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    rss_mb = resident_mb(pid)
    # A process that ended meanwhile, or is not collected yet, has no memory any more.
    return Held(rss_mb, descriptors, threads) if rss_mb else None


def children(pid: int) -> list[tuple[int, str]]:
    """Direct children of `pid` with their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if parent == pid:
            found.append((int(entry.name), command))
    return found


def request(method: str, url: str, body: Mapping[str, object] | None = None, timeout_s: float = 10.0) -> int:
    """The status of an HTTP request with a JSON body; blocks. Raises OSError where nobody answers in time."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def scrape(url: str) -> Samples:
    """The samples at a Prometheus exposition URL, by name and sorted labels."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    samples: Samples = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            labels = tuple(sorted(_LABEL.findall(match[2] or "")))
            samples[match[1], labels] = float(match[3])
    return samples
