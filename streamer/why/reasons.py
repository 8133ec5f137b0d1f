"""What one label of one segment rests on, put together for who asks."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

from streamer.clock import NS_PER_S, rfc3339
from streamer.errors import UserError
from streamer.media import Basis, Geometry, Token
from streamer.messages import Share
from streamer.status import HeatMap, Moment, Why
from streamer.why.explain import Asked, Explained
from streamer.why.kept import Kept, Past

_Span = tuple[int, int]
_NOT_SHOWN = "pictures of this stream may not be shown: `preview: true` in its entry would allow it"
_NOT_KEPT = "the picture that counts most is not kept"
_NO_PICTURE = "no picture took part in this segment"
_NOT_SEEN = "no picture can show this label: it is heard only"
_NOWHERE = "no part of the picture speaks for this label"


class Explains(Protocol):
    """Computes what a label rests on."""

    async def explain(self, asked: Asked) -> Explained: ...


class Reasons:
    """Answers `why`. Belongs to one event loop.

    Args:
        labels: the model's names in the order of its scores, each with the modalities that can raise it.
        shows: whether pictures of a stream may be shown.
    """

    def __init__(
        self,
        kept: Kept,
        explains: Explains,
        labels: Sequence[tuple[str, Sequence[str]]],
        geometry: Geometry,
        shows: Callable[[str], bool],
    ) -> None:
        self._kept = kept
        self._explains = explains
        self._modalities = [tuple(modalities) for _, modalities in labels]
        self._names = [name for name, _ in labels]
        self._place = {name: place for place, name in enumerate(self._names)}
        self._geometry = geometry
        self._shows = shows

    async def why(self, stream: str, seq: int, epoch: str | None, label: str) -> Why | None:
        """What `label` rests on in a segment, of the newest epoch that has it unless one is named; None where it is not
        kept (any more).

        Raises:
            UserError: the model has no such label, or the segment was shed and has none.
            StreamerError: too many ask.
        """
        place = self._place.get(label)
        if place is None:
            raise UserError(f"{self._unknown(label)}; GET /v1/labels lists them all")
        past = self._kept.find(stream, seq, epoch)
        if past is None:
            return None
        if past.status == "shed":
            raise UserError(
                f"segment {past.seq} of {stream} was shed ({past.reason}): nothing was computed that a label could "
                "rest on; ask of one with labels"
            )
        basis = past.basis
        if basis is None:
            return None
        told = await self._explains.explain(self._asked(place, past, basis))
        return self._put_together(stream, label, past, basis, told)

    def _asked(self, place: int, past: Past, basis: Basis) -> Asked:
        middle_ns = self._geometry.patch_ns // 2
        return Asked(
            place,
            [token.values.tobytes() for token in basis.video],
            [token.values.tobytes() for token in basis.audio],
            [past.pictures.get(token.index) for token in basis.video],
            [(token.media_ns - past.start_ns) / NS_PER_S for token in basis.video],
            [(token.media_ns - past.start_ns + middle_ns) / NS_PER_S for token in basis.audio],
            [word.number for word in basis.text],
            [word.seconds_from(past.start_ns) for word in basis.text],
        )

    def _unknown(self, label: str) -> str:
        folded = {name.casefold(): name for name in self._names}
        near = difflib.get_close_matches(label.casefold()[:100], list(folded), n=3, cutoff=0.5)
        nearest = f"; nearest to it: {', '.join(folded[name] for name in near)}" if near else ""
        return f"the model has no label {label[:100]!r}{nearest}"

    def _put_together(self, stream: str, label: str, past: Past, basis: Basis, told: Explained) -> Why:
        published = next((found for found in past.labels if found.name == label), None)
        heat, note = self._heat(stream, label, past, basis, told)
        return Why(
            stream=stream,
            epoch=past.epoch,
            seq=past.seq,
            start=rfc3339(past.start_ns + past.wall_offset_ns),
            end=rfc3339(past.end_ns + past.wall_offset_ns),
            label=label,
            score=round(told.score, 4) if published is None else published.score,
            share=Share(*(round(part, 4) for part in told.share)) if published is None else published.share,
            video=_moments(self._picture_spans(past, basis.video), told.video, past.wall_offset_ns),
            audio=_moments(self._patch_spans(basis.audio), told.audio, past.wall_offset_ns),
            text=_moments([(word.start_ns, word.end_ns) for word in basis.text], told.text, past.wall_offset_ns),
            heat=heat,
            note=note,
        )

    def _picture_spans(self, past: Past, pictures: Sequence[Token]) -> list[_Span]:
        """A picture stands for the time of the window that it is nearest to, from the first one on; across a hole it
        reaches no further than the slowest sampling period."""
        if not pictures:
            return []
        reach_ns = NS_PER_S // min(self._geometry.frame_rates)
        at = [picture.media_ns for picture in pictures]
        bounds = [at[0], *((one + other) // 2 for one, other in itertools.pairwise(at)), past.end_ns]
        return [
            (max(begin, ns - reach_ns), min(end, ns + reach_ns))
            for ns, (begin, end) in zip(at, itertools.pairwise(bounds), strict=True)
        ]

    def _patch_spans(self, patches: Sequence[Token]) -> list[_Span]:
        return [(patch.media_ns, patch.media_ns + self._geometry.patch_ns) for patch in patches]

    def _heat(
        self, stream: str, label: str, past: Past, basis: Basis, told: Explained
    ) -> tuple[HeatMap | None, str | None]:
        """The heat map, or why there is none."""
        if "video" not in self._modalities[self._place[label]]:
            return None, _NOT_SEEN
        if told.picture is None:
            return None, _NO_PICTURE
        if not self._shows(stream):
            return None, _NOT_SHOWN
        if not told.heat:
            return None, _NOT_KEPT
        if not any(told.heat):
            return None, _NOWHERE
        most = basis.video[told.picture]
        heat = HeatMap(
            at=rfc3339(most.media_ns + past.wall_offset_ns),
            rows=told.rows,
            columns=told.columns,
            values=told.heat,
            picture=f"v1/streams/{stream}/pictures/{most.index}",
        )
        return heat, None


def _moments(spans: Sequence[_Span], told: Sequence[tuple[float, float]], wall_offset_ns: int) -> list[Moment]:
    return [
        Moment(
            start=rfc3339(start_ns + wall_offset_ns),
            end=rfc3339(end_ns + wall_offset_ns),
            score=round(score, 6),
            mass=round(mass, 6),
        )
        for (start_ns, end_ns), (score, mass) in zip(spans, told, strict=True)
    ]
