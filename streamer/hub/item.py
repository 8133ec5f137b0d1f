"""A message of the feed on its way to subscribers: decoded once and framed once, whoever gets it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.cursor import START, Cursor, EntryId
from streamer.hub.filters import Envelope, envelope
from streamer.hub.frames import compressed_frame, text_frame
from streamer.messages import WireMessage, encode


@dataclass(slots=True, eq=False)
class FeedItem:
    """A message of the feed, ready to be sent: its place, what filters see, and its websocket frame with the cursor.

    `repeats`: it was passed on before, from a store that has lost it since.
    """

    id: EntryId
    cursor: str
    envelope: Envelope
    frame: bytes
    repeats: bool = False
    _compressed: bytes | None = None

    def framed(self, compressed: bool) -> bytes:
        """The frame as it is, or compressed: done when the first subscriber needs it, and once for all of them."""
        if not compressed:
            return self.frame
        if self._compressed is None:
            self._compressed = compressed_frame(self.frame)
        return self._compressed


def feed_item(entry_id: EntryId, store: str, json: bytes) -> FeedItem:
    """The entry `entry_id` of `store`, decoded and framed.

    Raises:
        ValueError: `json` is not a message.
    """
    cursor = str(Cursor(entry_id, store))
    return FeedItem(entry_id, cursor, envelope(json), text_frame(_with_cursor(json, cursor)))


def passing_item(json: bytes) -> FeedItem:
    """A message that has no place in the feed.

    Raises:
        ValueError: `json` is not a message.
    """
    return FeedItem(START, "", envelope(json), text_frame(json))


def _with_cursor(json: bytes, cursor: str) -> bytes:
    """`json` (an object) with the cursor in it: after `type`, which every message of ours begins with, else first."""
    member = b'"cursor":"' + cursor.encode() + b'"'
    comma = json.find(b",")
    if json.startswith(b'{"type":') and comma > 0:
        return json[:comma] + b"," + member + json[comma:]
    opening = json.index(b"{") + 1
    rest = json[opening:].lstrip()
    return b"{" + member + (b"" if rest.startswith(b"}") else b",") + rest


def message_frame(message: WireMessage) -> bytes:
    """`message` encoded and framed."""
    return text_frame(encode(message))
