"""Local cameras (V4L2) and microphones (ALSA)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import av
from av.container import InputContainer

from streamer.sources.faults import SourceFault
from streamer.sources.inputs import Packet, choose, demux
from streamer.sources.timeline import Alignment
from streamer.sources.tracks import Tracks

_DEVICE_FORMATS = {"/dev/video": "video4linux2,v4l2", "hw:": "alsa", "plughw:": "alsa", "default": "alsa"}


class DeviceOpener:
    """Reads one local camera (V4L2) or microphone (ALSA): `device:/dev/video0`, `device:hw:1`."""

    endless = True

    def __init__(self, device: str, *, video: bool, audio: bool) -> None:
        self._device = device
        self._video = video
        self._audio = audio

    def open(self, stop: threading.Event) -> DeviceInput:
        """Open the device."""
        for prefix, name in _DEVICE_FORMATS.items():
            if self._device.startswith(prefix):
                container = av.open(self._device, format=name, options={"protocol_whitelist": "file"})
                return DeviceInput(container, choose(container, video=self._video, audio=self._audio))
        known = ", ".join(f"{prefix}..." for prefix in _DEVICE_FORMATS)
        raise SourceFault(f"no kind of device that is known; name one of {known}", permanent=True)


class DeviceInput:
    """A local device."""

    alignment: Alignment = "stamps"
    delays_pictures = False

    def __init__(self, container: InputContainer, tracks: Tracks) -> None:
        self._container = container
        self.tracks = tracks

    def packets(self, stop: threading.Event) -> Iterator[Packet]:
        for packet in demux(self._container, self.tracks):
            if stop.is_set():
                return
            yield packet

    def close(self) -> None:
        self._container.close()
