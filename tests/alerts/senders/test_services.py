"""Services of apprise, told in a process of their own: real HTTP, a real SMTP server, and everything going wrong."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered
from streamer.alerts.senders.service_child import Guard
from streamer.alerts.senders.services import ServiceSender, check
from tests.alerts.senders import receiver as bad
from tests.alerts.senders.receiver import Flood, Receiver, answers, delivery
from tests.conftest import eventually

PASSWORD = "pa55w0rd"


@asynccontextmanager
async def telling(url: str, *, allow_private: bool = True, **more: Any) -> AsyncIterator[ServiceSender]:
    sender = ServiceSender(SendConfig(url=url, allow_private=allow_private), **more)
    try:
        yield sender
    finally:
        await sender.aclose()


def service(receiver: Receiver, query: str = "") -> str:
    """The service of apprise that posts JSON, at this receiver."""
    return f"json://ops:{PASSWORD}@127.0.0.1:{receiver.port}/hook{query}"


async def failure(sending: Awaitable[None]) -> NotDelivered:
    with pytest.raises(NotDelivered) as failed:
        await sending
    assert PASSWORD not in str(failed.value)
    return failed.value


def processes() -> dict[int, str]:
    """Those that tell services, children of this one: command lines by process id; without those that have ended."""
    found = {}
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if "service_child" in command:
            found[int(pid)] = command
    return found


async def test_a_service_is_told_over_http() -> None:
    """Title and text arrive; a cleared alert is a success; one process tells all, and no secret is in its command."""
    async with Receiver(answers(200)) as receiver, telling(service(receiver)) as sender:
        await sender.send(delivery(severity="critical"))
        (pid,) = processes()
        await sender.send(delivery(text="Ruhe: 安静", state="cleared"))
        assert list(processes()) == [pid] and PASSWORD not in processes()[pid]
    first, second = (json.loads(request.body) for request in receiver.requests)
    assert first["type"] == "failure" and "glass" in first["title"] and "Glass at the door, 0.81" in first["message"]
    assert second["type"] == "success" and "Ruhe: 安静" in second["message"]
    await eventually(lambda: not processes(), what="the process ends with its sender")


async def test_statuses_are_judged_as_for_webhooks() -> None:
    """Apprise says yes or no; why is taken from what it logs."""
    async with Receiver(answers(200)) as receiver, telling(service(receiver)) as sender:
        for status, retry in [(400, False), (401, True), (404, True), (410, False), (429, True), (500, True)]:
            receiver.behave = answers(status)
            error = await failure(sender.send(delivery()))
            assert f"answered {status} (" in str(error) and error.retry is retry


@pytest.mark.parametrize("query", ["", "?redirect=yes"])
async def test_redirects_are_not_followed(query: str) -> None:
    """Not even where the URL asks for it."""
    async with Receiver(answers(200)) as other, Receiver(answers(302, f"Location: {other.url}\r\n")) as receiver:
        async with telling(service(receiver, query)) as sender:
            error = await failure(sender.send(delivery()))
        assert "redirects are not followed" in str(error) and error.retry and other.connections == 0


async def test_no_answer_is_not_delivered() -> None:
    """A broken connection is told as one, and the next delivery is a fresh start."""
    async with Receiver(answers(200)) as receiver, telling(service(receiver)) as sender:
        for goes in (bad.closes, bad.resets, bad.talks_nonsense):
            receiver.behave = goes
            error = await failure(sender.send(delivery()))
            assert error.retry and "could not be told" in str(error)
        receiver.behave = answers(200)
        await sender.send(delivery())


async def test_a_service_that_takes_its_time_is_left() -> None:
    """When the time is up the process is ended, whatever its libraries wait for; the next delivery gets a new one."""
    async with Receiver(bad.trickles_body) as receiver, telling(service(receiver), timeout_s=6.0) as sender:
        first = asyncio.create_task(sender.send(delivery()))
        await eventually(lambda: receiver.requests, timeout=20)
        (pid,) = processes()
        error = await failure(first)
        assert str(error) == "the service did not answer within 6 s; it may have been told" and error.retry
        await eventually(lambda: pid not in processes())
        receiver.behave = answers(200)
        await sender.send(delivery())


@pytest.mark.prove
async def test_a_flood_of_an_answer_is_cut() -> None:
    """An answer without end takes no more memory than the process may have, and no delivery stands for it."""
    flood = Flood()
    async with Receiver(flood) as receiver, telling(service(receiver)) as sender:
        error = await failure(sender.send(delivery()))
        assert error.retry
        assert flood.sent < 1_000_000_000
        receiver.behave = answers(200)
        await sender.send(delivery())


async def test_a_process_that_dies_is_replaced() -> None:
    """Killed while it tells, the delivery is not delivered; killed in between, nobody notices."""
    async with Receiver(answers(200)) as receiver, telling(service(receiver)) as sender:
        await sender.send(delivery())
        (pid,) = processes()
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not Path(f"/proc/{pid}").exists())
        await sender.send(delivery())
        receiver.behave = bad.hangs
        hanging = asyncio.create_task(sender.send(delivery()))
        await eventually(lambda: len(receiver.requests) == 3)
        (pid,) = processes()
        os.kill(pid, signal.SIGKILL)
        assert (await failure(hanging)).retry


async def test_a_process_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no room for a process, the delivery waits."""
    monkeypatch.setattr("streamer.alerts.senders.services._CHILD", ["/nowhere/python"])
    async with telling("ntfys://topic") as sender:
        error = await failure(sender.send(delivery()))
    assert "can't be started (No such file or directory)" in str(error) and error.retry


async def test_a_delivery_that_is_called_off_leaves_no_answer_behind() -> None:
    """What a cancelled delivery would have been answered is not taken for the answer of the next."""
    async with Receiver(bad.hangs) as receiver, telling(service(receiver)) as sender:
        hanging = asyncio.create_task(sender.send(delivery()))
        await eventually(lambda: receiver.requests, timeout=20)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        receiver.behave = answers(500)
        assert "answered 500" in str(await failure(sender.send(delivery())))


async def test_a_process_with_nothing_to_tell_ends() -> None:
    """Memory is not held for a service that is told something once a week."""
    async with Receiver(answers(200)) as receiver, telling(service(receiver), idle_s=0.2) as sender:
        await sender.send(delivery())
        await eventually(lambda: not processes())
        await sender.send(delivery())
        assert len(receiver.requests) == 2


async def test_addresses_are_judged_when_they_are_connected_to() -> None:
    """What only turns out to be this machine when it is resolved is refused before the first byte."""
    async with Receiver(answers(200)) as receiver:
        async with telling(f"json://0x7f000001:{receiver.port}/hook", allow_private=False) as sender:
            error = await failure(sender.send(delivery()))
        assert "its address 127.0.0.1 is this machine itself" in str(error) and "allow_private" in str(error)
        assert receiver.connections == 0


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect to addresses that nobody checked."""
    async with Receiver(answers(200)) as receiver, Receiver(answers(200)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with telling(service(receiver)) as sender:
            await sender.send(delivery())
        assert len(receiver.requests) == 1 and proxy.connections == 0


class Mailbox:
    """Keeps what is mailed to it; refuses recipients of `nowhere.example`."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.endswith("@nowhere.example"):
            return "550 nobody here of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(envelope.content)
        return "250 OK"


@pytest.fixture
def mailbox() -> Any:
    """A real SMTP server: its mailbox and its port."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


async def test_mail_is_sent(mailbox: tuple[Mailbox, int]) -> None:
    """A mail with subject and text, over SMTP."""
    box, port = mailbox
    url = f"mailto://127.0.0.1:{port}?from=streamer@example.org&to=ops@example.org"
    async with telling(url) as sender:
        await sender.send(delivery(text="Glass at the door: 玻璃"))
    mail = message_from_bytes(box.mails[0], policy=policy.default)
    assert mail["To"] == "ops@example.org" and "glass" in mail["Subject"]
    body = mail.get_body(("plain", "html"))
    assert body is not None and "Glass at the door: 玻璃" in body.get_content()


async def test_mail_that_is_refused_is_not_delivered(mailbox: tuple[Mailbox, int]) -> None:
    """The server says no to the recipient."""
    box, port = mailbox
    async with telling(f"mailto://127.0.0.1:{port}?from=streamer@example.org&to=ops@nowhere.example") as sender:
        error = await failure(sender.send(delivery()))
    assert error.retry and box.mails == []


async def test_mail_goes_where_it_may_only(mailbox: tuple[Mailbox, int]) -> None:
    """Without HTTP the same rules hold: the server inside is not even connected to."""
    box, port = mailbox
    url = f"mailto://example.org:{port}?smtp=127.1&from=streamer@example.org&to=ops@example.org"
    async with telling(url, allow_private=False) as sender:
        error = await failure(sender.send(delivery()))
    assert "is this machine itself" in str(error) and box.mails == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("slak://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "the nearest are slack"),
        (f"slack://{PASSWORD}", "Slack can't be told with this URL"),
        ("json://10.0.0.1/hook", "`allow_private: true`"),
        ("json://169.254.169.254/hook", "metadata"),
    ],
)
def test_entries_that_cannot_be_used(url: str, expected: str) -> None:
    """The check of the configuration says what is wrong, and holds no secret."""
    text = check(SendConfig(url=url))
    assert text is not None and expected in text and PASSWORD not in text


async def test_a_delivery_to_an_entry_that_cannot_be_used_says_so() -> None:
    """It waits with the words of the check, for the entry may be corrected meanwhile."""
    url = "json://10.0.0.1/hook"
    async with telling(url, allow_private=False) as sender:
        error = await failure(sender.send(delivery()))
    assert str(error) == check(SendConfig(url=url)) and error.retry


@pytest.mark.parametrize(
    "url", ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "mailto://ops:p@example.org"]
)
def test_entries_that_can_be_used(url: str) -> None:
    """Apprise's own examples."""
    assert check(SendConfig(url=url)) is None


@pytest.mark.parametrize("event", ["socket.connect", "socket.sendto", "socket.sendmsg"])
def test_the_guard_judges_every_way_out(event: str) -> None:
    """Datagrams and streams, both families, names that nobody checked, and sockets of the machine."""
    guard, lenient = Guard(allow_private=False), Guard(allow_private=True)
    refused: list[object] = [
        ("127.0.0.1", 80),
        ("::1", 80, 0, 0),
        ("::ffff:10.0.0.1", 80),
        ("169.254.169.254", 80),
        ("metadata", 80),
        ("", 80),
        "/run/docker.sock",
    ]
    for address in refused:
        with pytest.raises(PermissionError) as error:
            guard(event, (None, address))
        assert error.value.errno == errno.EACCES and guard.refused is not None
    for address in [("8.8.8.8", 443), ("2606:4700::1111", 443, 0, 0), None]:
        guard(event, (None, address))
    for address in [("127.0.0.1", 80), "/run/ours.sock"]:
        lenient(event, (None, address))
    for never in [("169.254.169.254", 80), ("example.org", 80)]:
        with pytest.raises(PermissionError):
            lenient(event, (None, never))
