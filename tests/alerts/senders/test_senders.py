"""Which sender an entry gets, by the scheme of its URL."""

from __future__ import annotations

import pytest

from streamer.alertconfig import SendConfig
from streamer.alerts.senders import check_receiver, make_sender
from streamer.errors import UserError


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://example.org/hook", "WebhookSender"),
        ("HTTP://example.org/hook", "WebhookSender"),
        ("mqtts://example.org", "MqttSender"),
        ("alertmanager+https://example.org", "AlertmanagerSender"),
        ("ntfys://topic", "ServiceSender"),
    ],
)
async def test_the_scheme_chooses(url: str, kind: str) -> None:
    """Each kind has its schemes, and apprise gets the rest; nothing is opened by making one."""
    sender = make_sender("ops", SendConfig(url=url))
    assert type(sender).__name__ == kind
    await sender.aclose()


@pytest.mark.parametrize(
    "url",
    ["https://10.0.0.1/hook", "mqtt://10.0.0.1", "alertmanager+http://10.0.0.1:9093", "json://10.0.0.1/hook"],
)
def test_every_kind_is_kept_from_going_inwards(url: str) -> None:
    """A private address is refused with the remedy whatever the scheme, and may be allowed."""
    text = check_receiver(SendConfig(url=url))
    assert text is not None and "`allow_private: true`" in text
    assert check_receiver(SendConfig(url=url, allow_private=True)) is None


@pytest.mark.parametrize("url", ["https://10.0.0.1/hook", "mqtt://10.0.0.1", "alertmanager+http://10.0.0.1:9093"])
def test_an_entry_that_cannot_be_used_makes_no_sender(url: str) -> None:
    """What the check says is what making it says."""
    with pytest.raises(UserError) as error:
        make_sender("ops", SendConfig(url=url))
    assert str(error.value) == check_receiver(SendConfig(url=url))
