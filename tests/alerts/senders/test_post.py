"""Posting to a real server that fails in every way."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered
from streamer.alerts.senders.addresses import Refused
from streamer.alerts.senders.post import Bounds, Poster, check_url
from streamer.errors import UserError
from tests.alerts.senders import receiver as bad
from tests.alerts.senders.receiver import Behaviour, Flood, Receiver, answers
from tests.conftest import eventually

SOON = Bounds(connect_s=0.5, total_s=0.5)
HEADERS = {"webhook-id": "msg_1"}


def poster(url: str, bounds: Bounds = SOON, *, allow_private: bool = True) -> Poster:
    return Poster(url, SendConfig(url=url, allow_private=allow_private), bounds)


async def failure(poster: Poster) -> NotDelivered:
    """What a post fails with; connections are closed after it."""
    try:
        with pytest.raises(NotDelivered) as failed:
            await poster.post(b"{}", HEADERS)
    finally:
        await poster.aclose()
    assert "T0PSECRET" not in str(failed.value) and "pa55" not in str(failed.value)
    return failed.value


async def test_connections_are_kept() -> None:
    """Deliveries one after the other leave over one connection, whatever the answers were."""
    async with Receiver(answers(200, body=b"thank you")) as receiver:
        ours = poster(receiver.url)
        await ours.post(b'{"a":1}', HEADERS)
        receiver.behave = answers(500, body=b"x" * 1000)
        with pytest.raises(NotDelivered):
            await ours.post(b"{}", HEADERS)
        receiver.behave = answers(204)
        await ours.post(b"{}", HEADERS)
        await ours.aclose()
    assert [(request.connection, request.method, request.path) for request in receiver.requests] == [
        (0, "POST", "/hook/T0PSECRET")
    ] * 3
    assert receiver.requests[0].body == b'{"a":1}'
    assert receiver.requests[0].headers["webhook-id"] == "msg_1"


@pytest.mark.parametrize("goes", [bad.closes, bad.resets])
async def test_a_connection_that_was_closed_meanwhile_is_no_failure(goes: Behaviour) -> None:
    """A server that drops an idle connection just when it is used again gets the delivery over a new one."""
    async with Receiver(answers(200)) as receiver:
        ours = poster(receiver.url)
        await ours.post(b"first", HEADERS)

        async def once(writer: asyncio.StreamWriter) -> None:
            receiver.behave = answers(200)
            await goes(writer)

        receiver.behave = once
        await ours.post(b"second", HEADERS)
        await ours.aclose()
    assert [(request.body, request.connection) for request in receiver.requests] == [
        (b"first", 0),
        (b"second", 0),
        (b"second", 1),
    ]


@pytest.mark.parametrize("goes", [bad.closes, bad.resets, bad.hangs, bad.trickles_headers, bad.talks_nonsense])
async def test_no_answer_is_not_delivered(goes: Behaviour) -> None:
    """Whatever happens instead of an answer, it ends in time, is asked once, and may be tried again."""
    async with Receiver(goes) as receiver:
        error = await failure(poster(receiver.url))
        assert error.retry and f"127.0.0.1:{receiver.port} " in str(error)
        assert len(receiver.requests) == 1


async def test_a_server_that_is_away_is_told_so() -> None:
    """Nobody listens: another try may help."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = await failure(poster(f"http://user:pa55@127.0.0.1:{port}/hook/T0PSECRET"))
    assert str(error) == f"127.0.0.1:{port} took no connection (Connection refused)" and error.retry


async def test_a_body_without_end_is_read_no_further_than_its_bound() -> None:
    """The head of an answer says it all: a flood after it is cut, and the delivery stands as the head has it."""
    flood = Flood()
    async with Receiver(flood) as receiver:
        ours = poster(receiver.url)
        await ours.post(b"{}", HEADERS)
        receiver.behave = answers(200)
        await ours.post(b"{}", HEADERS)
        await ours.aclose()
        assert [request.connection for request in receiver.requests] == [0, 1]
    # Beside the 64 KB there is what the system's socket buffers hold on both sides.
    assert flood.sent < 16_000_000


async def test_a_body_that_trickles_is_not_waited_for() -> None:
    """A 200 is a 200, also where the body never ends."""
    async with Receiver(bad.trickles_body) as receiver:
        ours = poster(receiver.url, Bounds(total_s=30.0))
        async with asyncio.timeout(10.0):
            await ours.post(b"{}", HEADERS)
        await ours.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """The other place is never asked, and the text says what to do without naming it."""
    async with Receiver(answers(200)) as other, Receiver(answers(status, f"Location: {other.url}\r\n")) as receiver:
        error = await failure(poster(receiver.url))
        assert "redirects are not followed" in str(error) and str(other.port) not in str(error)
        assert error.retry
        assert other.requests == [] and len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "header", "retry", "after_s"),
    [
        (500, "Retry-After: 9\r\n", True, None),
        (429, "Retry-After: 9\r\n", True, 9.0),
        (503, "Retry-After: 99999999\r\n", True, 3600.0),
        (429, "Retry-After: whenever\r\n", True, None),
        (404, "", True, None),
        (410, "", False, None),
        (400, "", False, None),
    ],
)
async def test_statuses_are_judged(status: int, header: str, retry: bool, after_s: float | None) -> None:
    """What the server says of trying again is taken over, and not its words."""
    async with Receiver(answers(status, header, b"your token T0PSECRET is wrong")) as receiver:
        error = await failure(poster(receiver.url))
    assert (error.retry, error.after_s) == (retry, after_s)
    assert f" answered {status} (" in str(error) and "Whatever" not in str(error)


async def test_what_the_receiver_stores_is_not_kept() -> None:
    """Cookies are not sent back, and answers are not asked for in compressed form."""
    async with Receiver(answers(200, "Set-Cookie: a=b\r\n")) as receiver:
        ours = poster(receiver.url)
        await ours.post(b"{}", HEADERS)
        await ours.post(b"{}", HEADERS)
        await ours.aclose()
    assert "cookie" not in receiver.requests[1].headers
    assert receiver.requests[1].headers["accept-encoding"] == "identity"


async def test_user_info_of_the_url_logs_in() -> None:
    """`https://user:password@host` is sent as basic authorisation."""
    async with Receiver(answers(200)) as receiver:
        ours = poster(receiver.url.replace("127.0.0.1", "ops:pa55@127.0.0.1"))
        await ours.post(b"{}", HEADERS)
        await ours.aclose()
    assert receiver.requests[0].headers["authorization"] == "Basic b3BzOnBhNTU="


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect to addresses that nobody checked."""
    async with Receiver(answers(200)) as receiver, Receiver(answers(200)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        ours = poster(receiver.url)
        await ours.post(b"{}", HEADERS)
        await ours.aclose()
        assert len(receiver.requests) == 1 and proxy.connections == 0


def _names(monkeypatch: pytest.MonkeyPatch, *waiting: str) -> list[str]:
    """Names lead to these addresses, one question after the other; gives the questions that were asked."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (waiting[min(len(asked), len(waiting)) - 1], port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


async def test_a_name_that_changes_its_answer_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to the very address that was checked; the next one is checked anew, and refused."""
    connected: list[str] = []

    async def sock_connect(loop: object, sock: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    async with Receiver(answers(200)) as receiver:
        asked = _names(monkeypatch, "8.8.8.8", "127.0.0.1")
        monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
        ours = poster(f"http://hook.example:{receiver.port}/", allow_private=False)
        with pytest.raises(NotDelivered, match="took no connection"):
            await ours.post(b"{}", HEADERS)
        assert (asked, connected) == (["hook.example"], ["8.8.8.8"])
        with pytest.raises(Refused, match=r"hook\.example leads to 127\.0\.0\.1, which is this machine itself"):
            await ours.post(b"{}", HEADERS)
        await ours.aclose()
        assert (asked, connected) == (["hook.example"] * 2, ["8.8.8.8"])
        assert receiver.connections == 0


async def test_a_name_is_asked_for_again_with_every_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is kept: what led to an allowed address yesterday is looked at today."""
    async with Receiver(answers(200, "Connection: close\r\n")) as receiver:
        asked = _names(monkeypatch, "127.0.0.1")
        ours = poster(f"http://hook.example:{receiver.port}/")
        for _ in range(3):
            await ours.post(b"{}", HEADERS)
        await ours.aclose()
    assert asked == ["hook.example"] * 3


async def test_several_under_way_do_not_wait_for_one_another() -> None:
    """Eight deliveries to a server that takes its time are with it at once."""
    everybody = asyncio.Event()

    async def behave(writer: asyncio.StreamWriter) -> None:
        await everybody.wait()
        await answers(200)(writer)

    async with Receiver(behave) as receiver:
        ours = poster(receiver.url, Bounds())
        posts = [asyncio.create_task(ours.post(b"{}", HEADERS)) for _ in range(8)]
        await eventually(lambda: len(receiver.requests) == 8)
        everybody.set()
        await asyncio.gather(*posts)
        await ours.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "https:///hook",
        "https://exa mple.org/",
        "https://example.org/a b",
        "https://example.org\\@10.0.0.1/",
        "https://ex%61mple.org/",
        "https://①27.0.0.1/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://example.org/\n",
        "https://a@b@example.org/",
        "https://127.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://user:pa55@localhost:8443/hook",
        "https://169.254.169.254/latest",
        "https://example.org/" + "x" * 5000,
    ],
)
def test_urls_that_cannot_be_posted_to(url: str) -> None:
    """Each is told in one line without secrets, and makes no sender."""
    text = check_url(url, SendConfig(url=url))
    assert text and "\n" not in text and "pa55" not in text
    with pytest.raises(UserError):
        Poster(url, SendConfig(url=url))


@pytest.mark.parametrize(
    "url", ["https://example.org/hook", "HTTP://u:p@example.org:8080", "https://[2606:4700::1111]:443/?a=b#c"]
)
def test_urls_that_can_be_posted_to(url: str) -> None:
    """Nothing is wrong with hosts, ports, user info, queries."""
    assert check_url(url, SendConfig(url=url)) is None


def _certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate of its own making for the address `name`; `cert.pem` in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """Nothing is sent to a server that can't prove who it is; it may by the next try."""
    async with Receiver(answers(200), _certificate(tmp_path, "127.0.0.1")) as receiver:
        error = await failure(poster(receiver.url, Bounds()))
        assert "has a certificate that is not trusted (self-signed certificate)" in str(error) and error.retry
        assert receiver.requests == []


async def test_a_certificate_for_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is trusted, and is another host's, is no better than none."""
    tls = _certificate(tmp_path, "127.0.0.9")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with Receiver(answers(200), tls) as receiver:
        error = await failure(poster(receiver.url, Bounds()))
        assert "certificate" in str(error) and receiver.requests == []


async def test_certificates_that_the_machine_trusts_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's own authority is given to the machine, not to us."""
    tls = _certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with Receiver(answers(200), tls) as receiver:
        ours = poster(receiver.url, Bounds())
        await ours.post(b"{}", HEADERS)
        await ours.aclose()
        assert len(receiver.requests) == 1


async def test_https_to_a_server_without_tls_is_told() -> None:
    """The wrong port is named as what it probably is."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        error = await failure(poster(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", Bounds()))
    assert str(error).endswith("does not speak TLS as it should: is the port one of https?") and error.retry


async def test_https_that_never_greets_is_given_up() -> None:
    """A port that takes connections and says nothing costs its time and no more."""
    async with Receiver(bad.hangs) as receiver:
        error = await failure(poster(receiver.url.replace("http:", "https:"), Bounds(connect_s=0.3, total_s=30.0)))
        assert str(error) == f"127.0.0.1:{receiver.port} took no connection within 0.3 s" and error.retry
