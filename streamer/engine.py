"""The one owner of the device: encodes every picture and patch once, keeps their tokens, fuses windows into scores.

Numpy in, numpy out. Tokens, not windows, are what is encoded: overlapping windows gather the tokens they share from a
ring a stream, so a shorter hop costs only fusion. On a CPU the encoders and the fusion run under ONNX Runtime,
exported once from the torch modules in `models`. Which network it is, and what it wants to be fed, its checkpoint says.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

# Its wheels report to their maker over the network unless told not to before they are loaded; nothing leaves this
# process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from models import checkpoint as checkpoints
from models import export, weights, whisper
from models.config import LabelInfo
from models.faces import any_size
from models.packages import FACES, PEOPLE
from streamer.blank import blank_window, blank_words
from streamer.detector import PeopleDetector
from streamer.errors import UserError, WeightsError
from streamer.media import Basis, Geometry, Patch, Picture, Scores, Sighting, Window, Work, WorkCosts
from streamer.peoplegraph import people_graph
from streamer.tokens import Fed, FedWords, Ring, StreamTokens, as_read

log = logging.getLogger(__name__)

# The most pictures in one call of the encoder: past this a CPU gains nothing and the activations leave its caches.
_CHUNK = 4
_WARM_UPS = 5

Progress = Callable[[str, int, int], None]


class WhyGraphs(NamedTuple):
    """The ONNX graphs that say what a label rests on (see models.export), empty where there is none: `moments` of a
    window, the `features` of a picture and the `heat` map over it; where there are no such graphs, the `frame` encoder
    and the `fusion` that are served. `looked`: the part of a picture that the encoder looks at: left, top, right,
    bottom in fractions."""

    moments: str
    features: str
    heat: str
    frame: str
    fusion: str
    looked: tuple[float, float, float, float]


class Engine(Protocol):
    """What the pipeline needs of a device."""

    geometry: Geometry
    labels: list[LabelInfo]
    why_graphs: WhyGraphs

    def look_for_people(self, detector: PeopleDetector) -> None:
        """From now on people are looked for in pictures that have a look. Any thread."""
        ...

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        """Score `windows` (blocking, one caller at a time); the answers are in their order."""
        ...

    def forget(self, stream: str) -> None:
        """Free the tokens of `stream`. Any thread."""
        ...

    def warm_up(self, windows: int) -> WorkCosts:
        """Score batches of up to `windows` windows without meaning, so that the first real one does not pay for what is
        done only once; gives what the parts of a batch cost."""
        ...


class OnnxEngine:
    """Inference on a CPU by ONNX Runtime.

    Args:
        checkpoint: what to serve.
        files: its parts as ONNX graphs.
        threads: cores one call may use; decoding needs the others.
    """

    def __init__(self, checkpoint: checkpoints.Checkpoint, files: export.Exported, threads: int) -> None:
        cut = checkpoint.geometry
        self.geometry = Geometry(
            window_ns=cut.window_ns,
            hop_ns=cut.hop_ns,
            frame_rates=cut.frame_rates,
            frame_size=cut.frame_size,
            sample_rate=cut.sample_rate,
            patch_samples=cut.patch_samples,
            patch_hop_ns=cut.patch_hop_ns,
            reads_text="text" in checkpoint.modalities,
            reads_people=checkpoint.reads_people,
        )
        self.labels = list(checkpoint.labels)
        self.why_graphs = _why_graphs(checkpoint, files)
        self._video_width = cut.video_width
        self._audio_width = cut.audio_width
        self._pictures_most = self.geometry.frame_rates[-1] * cut.window_ns // 1_000_000_000 + 1
        self._patches_most = max(1, (cut.window_ns - self.geometry.patch_ns) // cut.patch_hop_ns + 1)
        self._numbers = {word: number for number, word in enumerate(checkpoint.vocabulary, 1)}
        # None where the network does not look, or listen: nothing is encoded then, whatever comes.
        frame = files.quickest_frame()
        self._frame = None if frame is None else _session(frame, threads)
        self._audio = None if files.audio is None else _session(files.audio, threads)
        self._fusion = _session(files.fusion, threads)
        self._takes = frozenset(entry.name for entry in self._fusion.get_inputs())
        self._streams: dict[str, StreamTokens] = {}
        self._lock = threading.Lock()
        self._detector: PeopleDetector | None = None

    def look_for_people(self, detector: PeopleDetector) -> None:
        """From now on people are looked for in pictures that have a look. Any thread."""
        self._detector = detector

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        """Score `windows`: encode what is new in them, gather, fuse. The answers are in their order."""
        held = [self._tokens_of(window.stream) for window in windows]
        self._look_for_people(windows, held)
        self._encode_pictures(windows, held)
        self._encode_patches(windows, held)
        return self._fuse(windows, held)

    def forget(self, stream: str) -> None:
        """Free the tokens of `stream`. Any thread."""
        with self._lock:
            self._streams.pop(stream, None)

    def warm_up(self, windows: int) -> WorkCosts:
        """Score batches of up to `windows` windows without meaning; gives what the parts of a batch cost."""
        several = max(2, windows)
        one_ns, several_ns = self._timed_full(1), self._timed_full(several)
        window_ns = max(0, several_ns - one_ns) // (several - 1)
        empty_ns = self._timed(Work(1))
        picture_ns = (self._timed(Work(1, pictures=_CHUNK)) - empty_ns) // _CHUNK
        patch_ns = (self._timed(Work(1, patches=_CHUNK)) - empty_ns) // _CHUNK
        measured = WorkCosts(max(1, one_ns - window_ns), window_ns, max(1, picture_ns), max(1, patch_ns))
        if self._detector is None:
            return measured
        look_ns = (self._timed(Work(1, looks=_CHUNK)) - empty_ns) // _CHUNK - measured.picture_ns
        return replace(measured, look_ns=max(1, look_ns))

    def _timed(self, work: Work) -> int:
        """Nanoseconds that `work` takes in one call."""
        first = blank_window(self.geometry, work)
        return self._median([first, *(replace(first, pictures=(), patches=()) for _ in range(work.windows - 1))])

    def _timed_full(self, windows: int) -> int:
        """Nanoseconds that one call takes for windows that are full of what is encoded already: a fusion may take most
        of its time for long ones."""
        pictures = max(1, self._pictures_most * self.geometry.frame_rates[0] // self.geometry.frame_rates[-1])
        work = Work(1, pictures, self._patches_most)
        full = replace(blank_window(self.geometry, work), words=blank_words(self.geometry))
        self.run([full])
        took_ns = self._median([full] * windows, keep=True)
        self.forget("")
        return took_ns

    def _median(self, batch: Sequence[Window], *, keep: bool = False) -> int:
        """The middle one of a few runs, because the first is never like the others; `keep`: with the tokens that are
        there."""
        took = []
        for _ in range(_WARM_UPS):
            began_ns = time.monotonic_ns()
            self.run(batch)
            took.append(time.monotonic_ns() - began_ns)
            if not keep:
                self.forget("")
        return sorted(took)[_WARM_UPS // 2]

    def _tokens_of(self, stream: str) -> StreamTokens:
        with self._lock:
            tokens = self._streams.get(stream)
            if tokens is None:
                # Twice a window's worth: consecutive windows of one batch never overwrite each other's tokens.
                tokens = StreamTokens(
                    Ring.of(4 * self._pictures_most, self._video_width),
                    Ring.of(4 * self._patches_most, self._audio_width),
                )
                self._streams[stream] = tokens
            return tokens

    def _encode_pictures(self, windows: Sequence[Window], held: list[StreamTokens]) -> None:
        if self._frame is None:
            return
        new: dict[tuple[str, int], tuple[StreamTokens, Picture, bool]] = {}
        for window, tokens in zip(windows, held, strict=True):
            for picture in window.pictures:
                if not tokens.video.has(picture.index):
                    new[window.stream, picture.index] = (tokens, picture, "people" in window.degraded)
        entries = list(new.values())
        for start in range(0, len(entries), _CHUNK):
            chunk = entries[start : start + _CHUNK]
            encoded = self._frame.run(["token"], {"pixels": np.stack([picture.rgb for _, picture, _ in chunk])})[0]
            for (tokens, picture, eased), token in zip(chunk, encoded, strict=True):
                whole = [token, tokens.people_at(picture, eased=eased)] if self.geometry.reads_people else [token]
                tokens.video.put(picture, np.concatenate(whole))

    def _encode_patches(self, windows: Sequence[Window], held: list[StreamTokens]) -> None:
        if self._audio is None:
            return
        new: dict[tuple[str, int], tuple[Ring, Patch]] = {}
        for window, tokens in zip(windows, held, strict=True):
            for patch in window.patches:
                if not tokens.audio.has(patch.index):
                    new[window.stream, patch.index] = (tokens.audio, patch)
        entries = list(new.values())
        for start in range(0, len(entries), _CHUNK):
            chunk = entries[start : start + _CHUNK]
            encoded = self._audio.run(["token"], {"waveform": np.stack([patch.samples for _, patch in chunk])})[0]
            for (ring, patch), token in zip(chunk, encoded, strict=True):
                ring.put(patch, token)

    def _look_for_people(self, windows: Sequence[Window], held: list[StreamTokens]) -> None:
        detector = self._detector
        if detector is None:
            return
        asked = {
            (window.stream, picture.index): (tokens, (picture.index, picture.media_ns, picture.look))
            for window, tokens in zip(windows, held, strict=True)
            for picture in window.pictures
            if picture.look is not None and picture.index not in tokens.sightings
        }
        found = detector.find([look for _, look in asked.values()])
        for (tokens, _), sighting in zip(asked.values(), found, strict=True):
            tokens.see(sighting)

    def _fuse(self, windows: Sequence[Window], held: list[StreamTokens]) -> list[Scores]:
        pictures = [window.pictures[-self._pictures_most :] if self._frame is not None else () for window in windows]
        patches = [window.patches[-self._patches_most :] if self._audio is not None else () for window in windows]
        video, audio = Fed.of(pictures, self._video_width), Fed.of(patches, self._audio_width)
        read = [as_read(window.words, self._numbers) if self.geometry.reads_text else () for window in windows]
        text = FedWords.of(read, [window.start_ns for window in windows])
        middle_ns = self.geometry.patch_ns // 2
        bases = []
        for row, (window, tokens) in enumerate(zip(windows, held, strict=True)):
            video.fill(row, tokens.video, pictures[row], window.start_ns)
            audio.fill(row, tokens.audio, patches[row], window.start_ns - middle_ns)
            bases.append(Basis(tokens.video.basis(pictures[row]), tokens.audio.basis(patches[row]), read[row]))
        feeds = video.feeds("video") | audio.feeds("audio") | text.feeds()
        taken = {name: array for name, array in feeds.items() if name in self._takes}
        scores, shares = self._fusion.run(["scores", "shares"], taken)
        seen_in = [_sightings(window, tokens) for window, tokens in zip(windows, held, strict=True)]
        return [Scores(scores[row], shares[row], bases[row], seen_in[row]) for row in range(len(windows))]


def _sightings(window: Window, tokens: StreamTokens) -> tuple[Sighting, ...]:
    looked = (tokens.sightings.get(picture.index) for picture in window.pictures if picture.look is not None)
    return tuple(sighting for sighting in looked if sighting is not None)


def _session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load(
    device: str,
    weights_dir: Path | None,
    threads: int = 1,
    progress: Progress | None = None,
    model: str = checkpoints.TAGS,
) -> Engine:
    """The engine for `device` (`auto`, `cpu`, `cuda:N`), with its weights fetched and exported where that was not
    done yet. `model`: a checkpoint's name or path.

    Raises:
        UserError: the device does not exist or is not served yet, or the checkpoint can't be served.
        WeightsError: the weights could not be had.
    """
    if device not in ("auto", "cpu"):
        raise UserError(f"--device {device}: this version computes on the CPU only; use --device cpu")
    checkpoint, files = _ready(weights_dir, progress, model)
    return OnnxEngine(checkpoint, files, threads)


def load_detector(weights_dir: Path | None, threads: int = 1, progress: Progress | None = None) -> PeopleDetector:
    """What finds people in pictures, with its weights fetched and exported where that was not done yet.

    Raises:
        WeightsError: the weights could not be had.
    """
    graph = _people_graph(weights_dir, progress)
    fetched = weights.fetch(weights_dir, progress, (FACES,))
    for reason in fetched.missing.values():
        log.warning("people of whom only the face is seen may be missed: %s", reason)
    face_file = fetched.files.get("faces")
    return PeopleDetector(graph, None if face_file is None else any_size(face_file), threads)


def _people_graph(weights_dir: Path | None, progress: Progress | None) -> Path:
    try:
        fetched = weights.fetch(weights_dir, progress, (PEOPLE,))
    except weights.WeightsFetchError as error:
        raise WeightsError(str(error)) from error
    for reason in fetched.missing.values():
        raise WeightsError(reason)
    return people_graph(fetched.files["people"])


def prepare(
    weights_dir: Path | None, progress: Progress | None = None, model: str = checkpoints.TAGS
) -> list[tuple[str, Path]]:
    """Fetch, check and export everything that serving needs; gives (name, file) of each. `model` as for `load`.

    Raises:
        UserError: the checkpoint can't be served.
        WeightsError: the weights could not be had.
    """
    checkpoint, files = _ready(weights_dir, progress, model)
    made = {
        "checkpoint": checkpoint.path,
        "frame encoder": files.quickest_frame(),
        "audio encoder": files.audio,
        "fusion": files.fusion,
        "moments": files.moments,
        "features": files.features,
        "heat": files.heat,
    }
    parts = [(name, path) for name, path in made.items() if path is not None]
    # Only who wants pictures of alerts needs it: where it can't be had, all else works.
    faces = weights.fetch(weights_dir, progress, (FACES,))
    for reason in faces.missing.values():
        log.warning("alerts will have no pictures: %s", reason)
    try:
        parts.append(("people detector", _people_graph(weights_dir, progress)))
    except WeightsError as error:
        log.warning("people can't be looked for: %s", error)
    return [*parts, *faces.files.items()]


def _ready(
    weights_dir: Path | None, progress: Progress | None, model: str
) -> tuple[checkpoints.Checkpoint, export.Exported]:
    try:
        needed = checkpoints.needs(model)
        fetched = whisper.fetch_roles(needed, weights_dir, progress)
        if fetched.missing and not needed <= set(fetched.files):
            raise WeightsError(" ".join(fetched.missing.values()))
        checkpoint = checkpoints.load(model, fetched)
        return checkpoint, export.export(checkpoint, fetched)
    except weights.WeightsFetchError as error:
        raise WeightsError(str(error)) from error
    except checkpoints.CheckpointError as error:
        if model != checkpoints.TAGS:
            raise UserError(f"--model {error}") from error
        raise WeightsError(str(error)) from error
    except OSError as error:
        remedy = "make room there, or name another folder by STREAMER_CACHE"
        raise WeightsError(f"the models can't be made ready in {weights.cache_dir()}: {error}; {remedy}") from error


def _why_graphs(checkpoint: checkpoints.Checkpoint, files: export.Exported) -> WhyGraphs:
    if checkpoint.kind == checkpoints.TAGS:
        served: tuple[Path | None, Path | None] = None, None
    else:
        served = files.quickest_frame(), files.fusion
    given = files.moments, files.features, files.heat, *served
    moments, features, heat, frame, fusion = ("" if path is None else str(path) for path in given)
    return WhyGraphs(moments, features, heat, frame, fusion, checkpoint.looked_at)
