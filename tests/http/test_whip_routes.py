"""WHIP (RFC 9725) over real sockets, in front of a fake service: every answer that a publisher may meet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamer.config import IceServer, StreamConfig
from streamer.errors import StreamerError
from streamer.http import answers
from streamer.http.openapi import FRAGMENT_TYPE, MAX_BODY, SDP_TYPE
from streamer.http.whip_routes import entity_tag, ice_links
from streamer.status import Publication
from tests.fake_control import ANSWER, FakeControl, reason
from tests.http.serving import Client, serving

OFFER = (
    "v=0\r\no=- 5228595038118931041 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:zjkk\r\na=ice-pwd:TP/yYzh0E1f2tG5K6Ez7k9vt\r\n"
    "a=mid:0\r\na=sendonly\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\n"
)
FRAGMENT = (
    "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:{}\r\n"
    "a=ice-pwd:TP/yYzh0E1f2tG5K6Ez7k9vt\r\n"
    "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n"
)
STUN = IceServer(urls=["stun:stun.example.net"])
TURN = IceServer(urls=["turn:turn.example.net?transport=udp"], username='us"er', credential="pass\\word")
SDP = {"Content-Type": SDP_TYPE}
TRICKLE = {"Content-Type": FRAGMENT_TYPE}
PANEL = "https://panel.example.org"


@pytest.fixture
def control() -> FakeControl:
    """A service with a stream that waits for a publisher, `lobby`, and a camera, `door`."""
    return FakeControl({"lobby": StreamConfig(source="whip"), "door": StreamConfig(source="rtsp://127.0.0.1/main")})


@pytest.fixture
async def client(control: FakeControl) -> AsyncIterator[Client]:
    """A client of a server in front of `control`."""
    async with serving(control) as client:
        yield client


async def publish(client: Client, name: str = "lobby", **headers: str) -> tuple[str, str]:
    """The session's place and its entity tag."""
    response, _ = await client.ask("POST", f"/v1/streams/{name}/whip", data=OFFER, headers={**SDP, **headers})
    assert response.status == 201
    return response.headers["Location"], response.headers["ETag"]


async def test_an_offer_is_answered(client: Client, control: FakeControl) -> None:
    """201 with the SDP answer, the place of the session as an absolute path, and a strong entity tag not its name."""
    response, body = await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=SDP)
    assert response.status == 201 and body.decode() == ANSWER
    assert response.headers["Content-Type"] == SDP_TYPE  # bare, as some publishers compare it
    session = next(iter(control.sessions["lobby"]))
    assert response.headers["Location"] == f"/v1/streams/lobby/whip/{session}"
    assert response.headers["ETag"].startswith('"') and session not in response.headers["ETag"]
    assert response.headers["Accept-Patch"] == FRAGMENT_TYPE and "Link" not in response.headers


async def test_a_content_type_may_have_parameters(client: Client) -> None:
    """What a client adds to the media type does no harm, and its case doesn't either."""
    headers = {"Content-Type": "Application/SDP; charset=utf-8"}
    assert (await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=headers))[0].status == 201


@pytest.mark.parametrize(
    ("name", "body", "headers", "status", "words"),
    [
        ("lobby", OFFER, {"Content-Type": "text/plain"}, 415, "application/sdp"),
        ("lobby", OFFER, {"Content-Type": "application/json"}, 415, "application/sdp"),
        ("lobby", b"", SDP, 400, "no SDP"),
        ("lobby", b"nonsense", SDP, 400, "no SDP"),
        ("lobby", b"v=0\xff", SDP, 400, "not UTF-8"),
        ("lobby", "v=0\r\n", SDP, 400, "names no track"),
        ("lobby", "v=0\r\n" + "a" * MAX_BODY, SDP, 413, "larger"),
        ("nobody", OFFER, SDP, 404, "no stream 'nobody'"),
        ("door", OFFER, SDP, 409, "source: whip"),
    ],
)
async def test_offers_that_cannot_be_answered(
    client: Client, control: FakeControl, name: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    """Each gets its own status and is told what to do; nothing begins."""
    response, problem = await client.ask("POST", f"/v1/streams/{name}/whip", data=body, headers=headers)
    assert response.status == status and words in problem["detail"]
    assert not any(control.sessions.values())
    if status == 415:
        assert response.headers["Accept-Post"] == SDP_TYPE


async def test_one_publisher_a_stream(client: Client, control: FakeControl) -> None:
    """A second one gets 409 while the first goes on; when that has ended there is room again."""
    place, _ = await publish(client)
    response, problem = await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=SDP)
    assert response.status == 409 and "already" in problem["detail"] and control.sessions["lobby"]
    assert (await client.ask("DELETE", place))[0].status == 200
    await publish(client)


async def test_a_session_is_ended_once(client: Client, control: FakeControl) -> None:
    """DELETE answers 200 whatever entity tag it names; the second one 404, as for any session that never was."""
    place, _ = await publish(client)
    response, body = await client.ask("DELETE", place, headers={"If-Match": '"another"'})
    assert response.status == 200 and body == b"" and control.sessions["lobby"] == {}
    for gone in (place, "/v1/streams/lobby/whip/nothing", "/v1/streams/nobody/whip/nothing"):
        assert (await client.ask("DELETE", gone))[0].status == 404


async def test_candidates_are_added(client: Client, control: FakeControl) -> None:
    """A fragment for the session's ICE session reaches the service as it is: 204, without an entity tag."""
    place, tag = await publish(client)
    without = "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    for fragment, match in ((FRAGMENT.format("zjkk"), tag), (without, tag), (without, f'"x", {tag}')):
        response, body = await client.ask("PATCH", place, data=fragment, headers={**TRICKLE, "If-Match": match})
        assert response.status == 204 and body == b"" and "ETag" not in response.headers
    assert control.sessions["lobby"][place.rpartition("/")[2]] == [FRAGMENT.format("zjkk"), without, without]


@pytest.mark.parametrize(
    ("match", "fragment", "content_type", "status", "words"),
    [
        (None, FRAGMENT.format("zjkk"), FRAGMENT_TYPE, 428, "If-Match is missing"),
        ('"xyzzy"', FRAGMENT.format("zjkk"), FRAGMENT_TYPE, 412, "not the ETag"),
        ("W/{}", FRAGMENT.format("zjkk"), FRAGMENT_TYPE, 412, "not the ETag"),
        ("xyzzy", FRAGMENT.format("zjkk"), FRAGMENT_TYPE, 412, "not the ETag"),
        ("*", FRAGMENT.format("new1"), FRAGMENT_TYPE, 422, "restarts are not served"),
        ("{}", FRAGMENT.format("new1"), FRAGMENT_TYPE, 422, "restarts are not served"),
        ("{}", FRAGMENT.format("zjkk"), SDP_TYPE, 415, FRAGMENT_TYPE),
        ("{}", "nonsense", FRAGMENT_TYPE, 400, "no candidate"),
        ("{}", b"\xff", FRAGMENT_TYPE, 400, "not UTF-8"),
        ("{}", "a" * (MAX_BODY + 1), FRAGMENT_TYPE, 413, "larger"),
    ],
)
async def test_fragments_that_are_not_taken(
    client: Client, control: FakeControl, match: str | None, fragment: Any, content_type: str, status: int, words: str
) -> None:
    """Missing and other entity tags, ICE restarts and what is no fragment have their statuses; the session stays."""
    place, tag = await publish(client)
    headers = {"Content-Type": content_type} | ({} if match is None else {"If-Match": match.format(tag)})
    response, problem = await client.ask("PATCH", place, data=fragment, headers=headers)
    assert response.status == status and words in problem["detail"]
    assert list(control.sessions["lobby"].values()) == [[]]


async def test_candidates_for_a_session_that_has_ended(client: Client) -> None:
    """A publisher whose session was ended by somebody else is told so (404)."""
    place, tag = await publish(client)
    await client.ask("DELETE", place)
    headers = {**TRICKLE, "If-Match": tag}
    assert (await client.ask("PATCH", place, data=FRAGMENT.format("zjkk"), headers=headers))[0].status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
async def test_methods_that_are_reserved(client: Client, method: str) -> None:
    """GET, HEAD and PUT answer 405, and say what is taken; so do the others in the wrong place."""
    place, _ = await publish(client)
    for path, allowed in (("/v1/streams/lobby/whip", "OPTIONS,POST"), (place, "DELETE,OPTIONS,PATCH")):
        response, _ = await client.ask(method, path)
        assert response.status == 405 and response.headers["Allow"] == allowed
    assert (await client.ask("POST", place, data=OFFER, headers=SDP))[0].status == 405
    assert (await client.ask("PATCH", "/v1/streams/lobby/whip", data="a=", headers=TRICKLE))[0].status == 405


async def test_options_tell_what_is_taken(client: Client) -> None:
    """OPTIONS answers 200 with the media types of offers and of candidates."""
    response, _ = await client.ask("OPTIONS", "/v1/streams/lobby/whip")
    assert response.status == 200 and response.headers["Accept-Post"] == SDP_TYPE
    response, _ = await client.ask("OPTIONS", "/v1/streams/lobby/whip/some")
    assert response.status == 200 and response.headers["Accept-Patch"] == FRAGMENT_TYPE


async def test_ice_servers_come_as_links(client: Client, control: FakeControl) -> None:
    """With the answer to an offer, and to OPTIONS: one header each, credentials quoted."""
    control.servers = [STUN, TURN]
    links = [
        '<stun:stun.example.net>; rel="ice-server"',
        '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="us\\"er"; credential="pass\\\\word";'
        ' credential-type="password"',
    ]
    response, _ = await client.ask("OPTIONS", "/v1/streams/lobby/whip")
    assert response.headers.getall("Link") == links
    response, _ = await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=SDP)
    assert response.headers.getall("Link") == links


def test_a_link_carries_no_more_than_it_can(caplog: pytest.LogCaptureFixture) -> None:
    """What would break out of a header is left out with its server, and no credential is in the log."""
    broken = IceServer(urls=["turn:turn.example.net"], username="u", credential="hunter22\r\nX: y")
    beyond = IceServer(urls=["turn:turn.example.net"], username="ü", credential="hunter22")
    strange = IceServer(urls=['stun:a>; rel="x"'], username="u", credential="c")
    assert ice_links([broken, beyond, strange]) == ['<stun:a%3E;%20rel=%22x%22>; rel="ice-server"']
    assert "left" not in caplog.text and "hunter22" not in caplog.text and len(caplog.records) == 2


async def test_ice_servers_are_for_those_who_may_publish(control: FakeControl) -> None:
    """Without its token a caller learns no credential, whatever it asks; with it, it does."""
    control.servers = [STUN, TURN]
    async with serving(control, tokens=("secret",), allowed_origins=(PANEL,)) as client:
        for method in ("OPTIONS", "POST"):
            response, _ = await client.ask(method, "/v1/streams/lobby/whip", data=OFFER, headers=SDP)
            assert response.status == {"OPTIONS": 200, "POST": 401}[method] and "Link" not in response.headers
        preflight = {"Origin": PANEL, "Access-Control-Request-Method": "POST", "Authorization": "Bearer secret"}
        response, _ = await client.ask("OPTIONS", "/v1/streams/lobby/whip", headers=preflight)
        assert response.status == 200 and "Link" not in response.headers
        response, _ = await client.ask("OPTIONS", "/v1/streams/lobby/whip", headers={"Authorization": "Bearer secret"})
        assert len(response.headers.getall("Link")) == 2


async def test_publishing_needs_the_token(control: FakeControl) -> None:
    """POST, PATCH and DELETE without it are 401, known and unknown names alike; with it a publisher does all three."""
    async with serving(control, tokens=("secret",)) as client:
        place, tag = await publish(client, Authorization="Bearer secret")
        asked = [("DELETE", place), ("PATCH", place), ("POST", "/v1/streams/lobby/whip"), ("DELETE", place + "x")]
        for method, path in [*asked, ("POST", "/v1/streams/nobody/whip"), ("GET", "/v1/streams/lobby/whip")]:
            response, _ = await client.ask(method, path, data=OFFER, headers={**SDP, "If-Match": tag})
            assert response.status == 401 and response.headers["WWW-Authenticate"].startswith("Bearer")
        headers = {**TRICKLE, "If-Match": tag, "Authorization": "Bearer secret"}
        response, _ = await client.ask("PATCH", place, data=FRAGMENT.format("zjkk"), headers=headers)
        assert response.status == 204
        assert (await client.ask("DELETE", place, headers={"Authorization": "Bearer secret"}))[0].status == 200


@pytest.mark.parametrize("origin", [PANEL, "https://other.example.org", "null"])
@pytest.mark.parametrize("path", ["/v1/streams/lobby/whip", "/v1/streams/lobby/whip/some", "/v1/streams/lobby"])
async def test_preflights(control: FakeControl, origin: str, path: str) -> None:
    """A page of an allowed origin is told, without a token, what it may send; any other page gets no such word."""
    async with serving(control, tokens=("secret",), allowed_origins=(PANEL,)) as client:
        headers = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        response, _ = await client.ask("OPTIONS", path, headers=headers)
        if origin != PANEL:
            assert response.status == 403 and "Access-Control-Allow-Origin" not in response.headers
            return
        assert response.status == 200 and response.headers["Access-Control-Allow-Origin"] == PANEL
        methods = set(response.headers["Access-Control-Allow-Methods"].split(", "))
        assert methods >= ({"PUT", "DELETE", "GET"} if path.endswith("lobby") else {"OPTIONS"})
        assert ("PATCH" in methods) == path.endswith("some") and ("POST" in methods) == path.endswith("whip")
        assert {"Authorization", "Content-Type", "If-Match"} <= set(
            response.headers["Access-Control-Allow-Headers"].split(", ")
        )


async def test_a_preflight_for_nothing(control: FakeControl) -> None:
    """Where there is no route there is nothing to allow."""
    async with serving(control, allowed_origins=(PANEL,)) as client:
        headers = {"Origin": PANEL, "Access-Control-Request-Method": "GET"}
        assert (await client.ask("OPTIONS", "/v1/nothing", headers=headers))[0].status == 404


async def test_pages_of_allowed_origins_may_read_answers(control: FakeControl) -> None:
    """They see place, tag and ICE servers of their session, and errors too; foreign pages can't publish at all."""
    async with serving(control, allowed_origins=(PANEL,)) as client:
        for name, status in (("lobby", 201), ("lobby", 409), ("nobody", 404)):
            headers = {**SDP, "Origin": PANEL}
            response, _ = await client.ask("POST", f"/v1/streams/{name}/whip", data=OFFER, headers=headers)
            assert response.status == status and response.headers["Access-Control-Allow-Origin"] == PANEL
            exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"Location", "Link", "ETag"} <= set(exposed) and "Origin" in response.headers["Vary"]
        for path in ("/v1/streams/lobby/whip", "/v1/streams"):
            response, _ = await client.ask("OPTIONS", path, headers={"Origin": "https://other.example.org"})
            assert response.status == 403 and "Access-Control-Allow-Origin" not in response.headers
        response, _ = await client.ask("GET", "/v1/streams", headers={"Origin": "https://other.example.org"})
        assert response.status == 200 and "Access-Control-Allow-Origin" not in response.headers


async def test_a_publisher_that_waits_is_told_to_come_again(
    client: Client, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the answer is not ready in time, or the service can not now: 503 with Retry-After, and it is given up."""
    given_up = asyncio.Event()

    async def never(name: str, offer: str) -> Publication:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError

    monkeypatch.setattr(answers, "_ANSWER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(control, "publish", never)
    response, problem = await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=SDP)
    assert response.status == 503 and response.headers["Retry-After"] == "1" and "within" in problem["detail"]
    assert given_up.is_set()
    monkeypatch.undo()
    control.broken = StreamerError("the models are still being loaded")
    response, _ = await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=SDP)
    assert response.status == 503 and response.headers["Retry-After"] == "1"


async def test_a_flood_of_offers_is_held_off(
    client: Client, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight offers are answered at a time; more get 503 at once, and when those are done there is room again."""
    go, inside = asyncio.Event(), 0

    async def slow(name: str, offer: str) -> Publication:
        nonlocal inside
        inside += 1
        await go.wait()
        return Publication(session="s", answer=ANSWER)

    monkeypatch.setattr(control, "publish", slow)

    async def offer() -> int:
        return (await client.ask("POST", "/v1/streams/lobby/whip", data=OFFER, headers=SDP))[0].status

    async with asyncio.timeout(10):
        waiting = [asyncio.create_task(offer()) for _ in range(8)]
        while inside < 8:
            await asyncio.sleep(0.005)
        assert await offer() == 503
        go.set()
        assert await asyncio.gather(*waiting) == [201] * 8
        assert await offer() == 201


async def test_no_name_of_a_session_is_logged(
    client: Client, control: FakeControl, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where ending it fails: who reads the log can't end somebody's session."""

    async def fail(name: str, session: str) -> bool:
        raise OSError("a socket")

    caplog.set_level(logging.DEBUG, logger="streamer")
    place, _ = await publish(client)
    monkeypatch.setattr(control, "unpublish", fail)
    assert (await client.ask("DELETE", place))[0].status == 500
    assert "whip/{session} failed" in caplog.text and place.rpartition("/")[2] not in caplog.text


def test_an_entity_tag_names_the_ice_session() -> None:
    """The same for the same session and ufrag, another for another of either."""
    assert entity_tag("a", OFFER) == entity_tag("a", OFFER)
    assert len({entity_tag("a", OFFER), entity_tag("b", OFFER), entity_tag("a", OFFER.replace("zjkk", "x"))}) == 3


# -- what labels rest on, and pictures --------------------------------------------------------------------------------


async def test_why(client: Client, control: FakeControl) -> None:
    """What a label rests on, of the newest epoch or the one that is named."""
    control.reasons = [reason(3)]
    response, body = await client.ask("GET", "/v1/streams/door/why/3?label=Dog")
    assert response.status == 200 and body["label"] == "Dog" and body["heat"]["values"] == [0.0, 0.2, 1.0, 0.4]
    assert (await client.ask("GET", "/v1/streams/door/why/3?label=Dog&epoch=0192f1c6"))[0].status == 200


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("door/why/3", 400, "name the label"),
        ("door/why/3?label=", 400, "name the label"),
        ("door/why/3?label=" + "x" * 101, 400, "name the label"),
        ("door/why/3?label=Unicorn", 400, "no 'Unicorn'"),
        ("door/why/3?label=Dog&seq=1", 400, "unknown parameter"),
        ("door/why/-3?label=Dog", 400, "no segment's number"),
        ("door/why/3?label=Rain", 404, "not kept"),
        ("door/why/4?label=Dog", 404, "segment 4"),
        ("door/why/3?label=Dog&epoch=other", 404, "epoch other"),
        ("nobody/why/3?label=Dog", 404, "no stream"),
        ("door/pictures/x", 400, "no picture's number"),
        ("nobody/pictures/0", 404, "no stream"),
        ("nobody/preview", 404, "no stream"),
    ],
)
async def test_reasons_that_are_not_there(
    client: Client, control: FakeControl, path: str, status: int, words: str
) -> None:
    """What was not kept is 404, what can't be asked 400."""
    control.reasons = [reason(3)]
    response, problem = await client.ask("GET", f"/v1/streams/{path}")
    assert response.status == status and words in problem["detail"]


async def test_why_when_there_is_no_time_for_it(client: Client, control: FakeControl) -> None:
    """What has a deadline comes first: 503, and when to try again."""
    control.broken = StreamerError("busy with windows that have a deadline: try again")
    response, _ = await client.ask("GET", "/v1/streams/door/why/3?label=Dog")
    assert response.status == 503 and response.headers["Retry-After"] == "1"


async def test_pictures_are_shown_only_where_that_is_allowed(client: Client, control: FakeControl) -> None:
    """403, naming the setting, unless the stream's entry says `preview: true`, kept or not; then JPEG, or 404."""
    control.pictures = {"lobby": [b"\xff\xd8one", b"\xff\xd8two"], "door": []}
    for path in ("lobby/preview", "lobby/pictures/0", "lobby/pictures/9", "door/preview"):
        response, problem = await client.ask("GET", f"/v1/streams/{path}")
        assert response.status == 403 and "preview: true" in problem["detail"]
    control.entries = {name: StreamConfig(source="whip", preview=True) for name in ("lobby", "door")}
    for path, picture in (("lobby/preview", b"\xff\xd8two"), ("lobby/pictures/0", b"\xff\xd8one")):
        response, body = await client.ask("GET", f"/v1/streams/{path}")
        assert response.status == 200 and response.content_type == "image/jpeg" and body == picture
        assert response.headers["Cache-Control"] == "no-store"
    for path in ("door/preview", "lobby/pictures/2", "door/pictures/0"):
        assert (await client.ask("GET", f"/v1/streams/{path}"))[0].status == 404
