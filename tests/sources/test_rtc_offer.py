"""What is taken of an offer and what is answered, for the shapes of SDP that publishers really send."""

from __future__ import annotations

import re

import pytest
from aiortc.sdp import SessionDescription

from streamer.sources.faults import SourceFault
from streamer.sources.rtc_offer import answered_codec, read_offer

FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(["AB"] * 32)

# OBS Studio (libdatachannel): transport attributes for the whole session, sound first.
OBS = f"""v=0
o=rtc 3158432184 0 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=group:LS 0 1
a=msid-semantic:WMS *
a=setup:actpass
a=ice-ufrag:Zi6Z
a=ice-pwd:Wq6JWbbOsDAUjOdzRHoJtQ
a=ice-options:ice2,trickle
{FINGERPRINT}
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=sendonly
a=ssrc:1 cname:obs
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:1
a=sendonly
a=ssrc:2 cname:obs
a=rtcp-mux
a=rtpmap:96 H264/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtcp-fb:96 goog-remb
a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1
""".replace("\n", "\r\n")

# GStreamer's webrtcbin: no level for the profile that aiortc knows, transport attributes for each medium.
GSTREAMER = f"""v=0
o=- 6417262352417093912 0 IN IP4 0.0.0.0
s=-
t=0 0
a=ice-options:trickle
a=group:BUNDLE video0 audio1
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=setup:actpass
a=ice-ufrag:xB92
a=ice-pwd:G0BpvHE0kqK5bNvTt3HmoL6WbV8Kj1qS
a=rtcp-mux
a=rtcp-rsize
a=sendonly
a=rtpmap:96 H264/90000
a=rtcp-fb:96 nack pli
a=framerate:30
a=fmtp:96 packetization-mode=1;profile-level-id=640c1f;sprop-parameter-sets=Z0LAHtkDYPaEAAADAAQAAAMA8DxYuSA=,aMuMsg==
a=mid:video0
{FINGERPRINT}
m=audio 9 UDP/TLS/RTP/SAVPF 100
c=IN IP4 0.0.0.0
a=setup:actpass
a=ice-ufrag:xB92
a=ice-pwd:G0BpvHE0kqK5bNvTt3HmoL6WbV8Kj1qS
a=rtcp-mux
a=rtcp-rsize
a=sendonly
a=rtpmap:100 OPUS/48000/2
a=mid:audio1
{FINGERPRINT}
""".replace("\n", "\r\n")

# A browser: many codecs, repetition streams, header extensions, a data channel; candidates in the first medium alone.
_TRANSPORT = f"""c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:tCMO
a=ice-pwd:8xKgZ2lPQl8Gg7qYZr3sDmB1
a=ice-options:trickle
{FINGERPRINT}
a=setup:actpass
"""
BROWSER = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=extmap-allow-mixed
a=msid-semantic: WMS stream
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0
a=candidate:3988358137 1 udp 2122260223 192.0.2.7 51234 typ host generation 0 network-id 1
a=candidate:1 1 udp 2122262783 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 49203 typ host generation 0
a=candidate:2 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active generation 0
{_TRANSPORT}a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
m=video 9 UDP/TLS/RTP/SAVPF 96 97 104 39 106
{_TRANSPORT}a=mid:1
a=sendonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:104 H264/90000
a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f
a=rtpmap:39 AV1/90000
a=rtpmap:106 H264/90000
a=rtcp-fb:106 nack
a=rtcp-fb:106 nack pli
a=rtcp-fb:106 transport-cc
a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
{_TRANSPORT}a=mid:2
a=sctp-port:5000
""".replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("offer", "taken"),
    [
        (OBS, [("audio", "0", "opus", 111), ("video", "1", "H264", 96)]),
        (GSTREAMER, [("video", "video0", "H264", 96), ("audio", "audio1", "OPUS", 100)]),
        (BROWSER, [("audio", "0", "opus", 111), ("video", "1", "H264", 106)]),
    ],
)
def test_offers_of_real_publishers_are_taken(offer: str, taken: list[tuple[str, str, str, int]]) -> None:
    """One track of each kind, H.264 before VP8 and split pictures before whole ones, whatever the profile."""
    found = read_offer(offer, video=True, audio=True)
    assert [(t.kind, t.mid, t.codec.name, t.codec.payloadType) for t in found.tracks] == taken
    reduced = SessionDescription.parse(found.text)
    assert all(media.rtcp_mux and media.dtls is not None and media.ice is not None for media in reduced.media)


def test_the_answer_speaks_of_the_profile_that_was_offered() -> None:
    """What aiortc is given in its place is not what is answered, and only feedback that is sent is."""
    (codec,) = [track.codec for track in read_offer(BROWSER, video=True, audio=False).tracks]
    answered = answered_codec(codec)
    assert answered.parameters["profile-level-id"] == "4d001f"
    assert [(f.type, f.parameter) for f in answered.rtcpFeedback] == [("nack", None), ("nack", "pli")]


def test_candidates_that_can_not_be_used_are_left_out_and_the_others_kept() -> None:
    """mDNS names and TCP are left out; those of a medium that is refused serve the others of its bundle."""
    reduced = SessionDescription.parse(read_offer(BROWSER, video=True, audio=False).text)
    assert [[found.ip for found in media.ice_candidates] for media in reduced.media] == [["192.0.2.7"]]


def test_the_publisher_is_the_dtls_client_wherever_the_choice_is_ours() -> None:
    """Of what may be either, the publisher is made active; who insists on being passive stays so."""
    assert "actpass" in OBS and "a=setup:active" in read_offer(OBS, video=True, audio=True).text
    insists = OBS.replace("actpass", "passive")
    assert "a=setup:passive" in read_offer(insists, video=True, audio=True).text


def test_what_is_refused_stays_in_its_place() -> None:
    """The answer has as many media as the offer, in its order: what is not wanted inactive, a data channel refused."""
    offer = read_offer(BROWSER, video=True, audio=False)
    answer = offer.text.replace("a=sendonly", "a=recvonly").replace("BUNDLE 1", "BUNDLE 1")
    complete = SessionDescription.parse(offer.complete(answer))
    assert [(media.kind, media.rtp.muxId, media.direction) for media in complete.media] == [
        ("audio", "0", "inactive"),
        ("video", "1", "recvonly"),
        ("application", "2", "inactive"),
    ]
    assert complete.media[2].port == 0 and complete.media[0].port == complete.media[1].port
    assert [group.items for group in complete.group] == [["0", "1"]]
    assert complete.media[0].rtp.codecs[0].name == "opus"


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        (BROWSER.replace("a=sendonly", "a=recvonly"), "nothing"),
        (OBS.replace("a=ice-ufrag:Zi6Z\r\n", ""), "ice-ufrag"),
        (OBS.replace("a=setup:actpass\r\n", ""), "setup"),
        (OBS.replace(FINGERPRINT + "\r\n", ""), "fingerprint"),
        (OBS.replace("a=rtcp-mux\r\n", ""), "rtcp-mux"),
        (re.sub("m=video 9", "m=video x", OBS), "can't be read"),
        (OBS.replace("m=video 9 UDP", "a=mid:7\r\n" * 40_000 + "m=video 9 UDP"), "too long"),
        (re.sub("opus|H264", "L16", OBS), "L16"),
    ],
)
def test_offers_that_can_not_be_used_say_why(offer: str, said: str) -> None:
    """Each reason is named, as a fault that trying again won't heal."""
    with pytest.raises(SourceFault, match=said) as caught:
        read_offer(offer, video=True, audio=True)
    assert caught.value.fault.permanent
