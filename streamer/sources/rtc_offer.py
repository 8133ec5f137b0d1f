"""A publisher's SDP offer: what of it is taken, and what is answered (RFC 9429, RFC 9725 section 4.4).

H.264 is taken before VP8: FFmpeg decodes 480p at 0.60 ms a picture against 1.00 ms, because the loop filter can be left
out and more of it is vectorised, and pictures that nothing refers to are told apart.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Literal

from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters
from aiortc.sdp import MediaDescription, SessionDescription, parameters_to_sdp

from streamer.errors import UserError
from streamer.sources.faults import SourceFault
from streamer.sources.sdp_fragment import usable_candidate

_MOST_CHARACTERS = 200_000
_MOST_LINES = 16
_MOST_CANDIDATES = 50
_TAKEN: dict[str, tuple[str, ...]] = {"video": ("H264", "VP8"), "audio": ("opus",)}
_SHOWN = {"H264": "H.264 (packetization-mode 0 or 1)", "VP8": "VP8", "opus": "Opus"}
_FEEDBACK = {("nack", None), ("nack", "pli"), ("goog-remb", None)}
# The lines of an answer's medium that say how to reach it.
_TRANSPORT = ("a=rtcp:", "a=rtcp-mux", "a=candidate:", "a=end-of-candidates", "a=ice-", "a=fingerprint:", "a=setup:")
# aiortc knows two of H.264's profiles; what is negotiated is put in the place of this one afterwards.
_STAND_IN = {"level-asymmetry-allowed": "1", "packetization-mode": "1", "profile-level-id": "42e01f"}


@dataclass(frozen=True, slots=True)
class Taken:
    """A track that is taken: its place in the offer, its name there, and the codec in the offer's own words."""

    kind: Literal["video", "audio"]
    mid: str
    codec: RTCRtpCodecParameters


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer made ready for aiortc: `text` has only what is taken; `refused`: what is not, by its place; `bundle`:
    the names that share one transport, in the offer's order."""

    text: str
    tracks: tuple[Taken, ...]
    refused: dict[int, MediaDescription]
    bundle: tuple[str, ...]

    def complete(self, answer: str) -> str:
        """aiortc's `answer` with what was refused put back, so that it has as many media as the offer.

        Where it can be, a medium stays in the bundle as `inactive`: publishers, this library among them, stumble over a
        medium without a transport more often than over one that is not used.
        """
        head, *sections = re.split(r"(?m)^(?=m=)", answer)
        transport = [line for line in sections[0].splitlines() if line.startswith(_TRANSPORT)]
        bundle = {track.mid for track in self.tracks}
        for place, media in sorted(self.refused.items()):
            mid = media.rtp.muxId
            if mid in self.bundle and media.rtp.codecs and media.kind in _TAKEN:
                bundle.add(mid)
                sections.insert(place, _unused(media, sections[0].split(maxsplit=2)[1], transport))
            else:
                sections.insert(place, _refusal(media))
        if self.bundle:
            names = " ".join(mid for mid in self.bundle if mid in bundle)
            head = re.sub(r"(?m)^a=group:BUNDLE.*$", f"a=group:BUNDLE {names}\r", head)
        return head + "".join(sections)


def read_offer(offer: str, *, video: bool, audio: bool) -> Offer:
    """What of `offer` is taken: the first track of each kind that is wanted.

    Raises:
        SourceFault: it can't be read, or nothing in it can be taken.
    """
    description = _parse(offer)
    wanted = {"video": video, "audio": audio}
    taken: list[Taken] = []
    kept: list[MediaDescription] = []
    refused: dict[int, MediaDescription] = {}
    groups = [group.items for group in description.group if group.semantic == "BUNDLE"]
    bundle = tuple(str(mid) for mid in groups[0]) if groups else ()
    for place, media in enumerate(description.media):
        codec = None
        if wanted.get(media.kind, False) and media.direction not in ("recvonly", "inactive"):
            codec = _best(media)
        if codec is None:
            refused[place] = media
            continue
        wanted[media.kind] = False
        taken.append(Taken("video" if media.kind == "video" else "audio", media.rtp.muxId, codec))
        kept.append(media)
    if not taken:
        raise SourceFault(_nothing(description, video=video, audio=audio), permanent=True)
    _reduce(description, kept, taken)
    return Offer(str(description), tuple(taken), refused, bundle)


def _parse(offer: str) -> SessionDescription:
    if len(offer) > _MOST_CHARACTERS:
        raise SourceFault("the SDP offer is too long to be one", permanent=True)
    if not offer.startswith("v=0"):
        raise SourceFault("the body is no SDP offer; it begins with v=0 (RFC 8866)", permanent=True)
    try:
        description = SessionDescription.parse(_without_useless_candidates(offer))
    except (AssertionError, AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        # What its parser raises on text that is no SDP.
        raise SourceFault("the SDP offer can't be read (RFC 8866)", permanent=True) from error
    if len(description.media) > _MOST_LINES:
        raise SourceFault(f"the SDP offer has over {_MOST_LINES} media; offer one of each kind", permanent=True)
    for media in description.media:
        if media.ice is None or not (media.ice.usernameFragment and media.ice.password):
            raise SourceFault("the SDP offer has no ice-ufrag or ice-pwd; WebRTC needs both", permanent=True)
        if media.dtls is None or not media.dtls.fingerprints:
            raise SourceFault("the SDP offer has no setup or fingerprint; WebRTC needs both", permanent=True)
        if media.kind in ("audio", "video") and not media.rtcp_mux:
            raise SourceFault("the SDP offer has a medium without rtcp-mux; WebRTC needs it", permanent=True)
    return description


def _without_useless_candidates(offer: str) -> str:
    """`offer` without candidates that can't be used; see `parse_fragment`."""
    kept, candidates = [], 0
    for line in offer.splitlines():
        if line.startswith("a=candidate:"):
            try:
                usable = usable_candidate(line.removeprefix("a=candidate:"))
            except UserError:
                continue
            candidates += len(usable)
            if not usable or candidates > _MOST_CANDIDATES:
                continue
        kept.append(line)
    return "\r\n".join(kept) + "\r\n"


def _best(media: MediaDescription) -> RTCRtpCodecParameters | None:
    for name in _TAKEN[media.kind]:
        offered = [codec for codec in media.rtp.codecs if codec.name.lower() == name.lower()]
        # Mode 1 first: mode 0 can't split pictures, so that its packets are too large or its pictures many pieces.
        offered.sort(key=lambda codec: codec.parameters.get("packetization-mode") != "1")
        if offered:
            return offered[0]
    return None


def _unused(media: MediaDescription, port: str, transport: list[str]) -> str:
    codec = media.rtp.codecs[0]
    lines = [
        f"m={media.kind} {port} {media.profile} {codec.payloadType}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
        f"a=mid:{media.rtp.muxId}",
        f"a=rtpmap:{codec.payloadType} {codec}",
    ]
    parameters = parameters_to_sdp(codec.parameters)
    lines += [f"a=fmtp:{codec.payloadType} {parameters}"] if parameters else []
    return "\r\n".join([*lines, *transport]) + "\r\n"


def _refusal(media: MediaDescription) -> str:
    formats = " ".join(map(str, media.fmt))
    return (
        f"m={media.kind} 0 {media.profile} {formats}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:{media.rtp.muxId}\r\n"
    )


def _nothing(description: SessionDescription, *, video: bool, audio: bool) -> str:
    wanted = [name for kind, on in (("video", video), ("audio", audio)) if on for name in _TAKEN[kind]]
    there = sorted({codec.name for media in description.media for codec in media.rtp.codecs if codec.name != "rtx"})
    found = f"offers {', '.join(there)[:200]}" if there else "offers no medium"
    return f"nothing in the SDP offer can be taken: it {found}; send {' or '.join(_SHOWN[name] for name in wanted)}"


def _reduce(description: SessionDescription, kept: list[MediaDescription], taken: list[Taken]) -> None:
    """Leave in `description` what is kept, with one codec each that aiortc surely takes."""
    mids = [media.rtp.muxId for media in kept]
    bundled = {mid for group in description.group if group.semantic == "BUNDLE" for mid in group.items}
    everything = [found for media in description.media for found in media.ice_candidates if media.rtp.muxId in bundled]
    for media, track in zip(kept, taken, strict=True):
        if media.rtp.muxId in bundled:
            # Candidates stand with the first medium of a bundle, which may be one that is refused.
            media.ice_candidates = everything
        codec = copy.deepcopy(track.codec)
        codec.parameters = dict(_STAND_IN) if codec.name == "H264" else {}
        media.rtp.codecs, media.fmt = [codec], [codec.payloadType]
        media.rtp.headerExtensions = []
        media.rtcp_port, media.rtcp_host = media.rtcp_port or 9, media.rtcp_host or "0.0.0.0"
        media.direction = media.direction or "sendrecv"
        if media.dtls is not None and media.dtls.role == "auto":
            # Where the choice is ours (RFC 8842, 5.3), the publisher is the DTLS client, as it may count on (RFC 9725,
            # 4.4): as a client aiortc takes ECDSA certificates only, and GStreamer's are RSA; as a server either.
            media.dtls.role = "client"
    description.media = kept
    for group in description.group:
        if group.semantic == "BUNDLE":
            group.items = [mid for mid in group.items if mid in mids]


def answered_codec(offered: RTCRtpCodecParameters) -> RTCRtpCodecParameters:
    """The offered codec as the answer has it: no repetition stream, and only the feedback that is sent."""
    codec = copy.deepcopy(offered)
    codec.rtcpFeedback = [
        RTCRtcpFeedback(type=feedback.type, parameter=feedback.parameter)
        for feedback in offered.rtcpFeedback
        if (feedback.type, feedback.parameter) in _FEEDBACK
    ]
    return codec
