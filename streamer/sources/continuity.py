"""Whether pictures are missing between those that came, by what H.264 writes into each of them. Pure.

Over UDP packets get lost, and with them whole pictures. FFmpeg's decoder then copies an older picture into the place of
the missing one and says nothing, and all that refers to it comes out wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

# So much of a packet is looked at: its parameter sets, messages and the head of its first slice are within.
_HEAD_BYTES = 1024
_SLICE, _IDR, _SPS = 1, 5, 7
# Profiles whose parameter sets say more about colour (ITU-T H.264 7.3.2.1.1).
_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


class _Bits:
    """Reads bits and Exp-Golomb codes (ITU-T H.264 9.1) of a NAL unit's payload."""

    def __init__(self, payload: bytes) -> None:
        clean = payload.replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = int.from_bytes(clean, "big")
        self._left = 8 * len(clean)

    def take(self, count: int) -> int:
        """The next `count` bits. Raises EOFError at the end."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._bits >> self._left & (1 << count) - 1

    def code(self) -> int:
        """The next unsigned code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise EOFError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """The next signed code."""
        value = self.code()
        return (value + 1) // 2 if value % 2 else -(value // 2)


@dataclass(frozen=True, slots=True)
class _Numbering:
    """How a stream numbers its pictures: in so many bits; holes: numbers may be left out; planes: coded apart."""

    bits: int
    holes: bool
    planes: bool


class Continuity:
    """Feed packets in their order; each is told whether a picture that others refer to is missing before it.

    Of a codec other than H.264 nothing is known, and nothing is told to be missing.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._reads = codec == "h264"
        self._numbering: _Numbering | None = None
        self._number: int | None = None
        if self._reads and extradata:
            self._look_up(_units(extradata))

    def restart(self) -> None:
        """What comes next need not follow what came."""
        self._number = None

    def is_broken(self, packet: memoryview) -> bool:
        """Take in the next whole picture; whether one is missing between it and the one before."""
        if not self._reads:
            return False
        units = _units(bytes(packet[:_HEAD_BYTES]))
        self._look_up(units)
        for unit in units:
            kind = unit[0] & 0x1F
            if kind == _IDR:
                self._number = 0
                return False
            if kind == _SLICE:
                return self._follow(unit)
        return False

    def _look_up(self, units: list[bytes]) -> None:
        for unit in units:
            if unit[0] & 0x1F == _SPS:
                try:
                    self._numbering = _numbering(unit)
                except EOFError:
                    self._numbering = None  # it is damaged

    def _follow(self, unit: bytes) -> bool:
        numbering = self._numbering
        if numbering is None or numbering.holes:
            return False
        bits = _Bits(unit[1:32])
        try:
            bits.code(), bits.code(), bits.code()  # first macroblock, kind of slice, parameter set
            if numbering.planes:
                bits.take(2)
            number = bits.take(numbering.bits)
        except EOFError:
            return True
        before, is_referred_to = self._number, unit[0] & 0x60
        if is_referred_to or before is None:
            self._number = number
        return before is not None and (number - before) % (1 << numbering.bits) > 1


def _numbering(unit: bytes) -> _Numbering:
    bits = _Bits(unit[4:])
    bits.code()  # its own number
    planes = False
    if unit[1] in _WITH_CHROMA:
        planes = bits.code() == 3 and bool(bits.take(1))
        bits.code(), bits.code(), bits.take(1)  # depths, transform bypass
        if bits.take(1):
            raise EOFError  # scaling matrices: cameras have none
    number_bits = bits.code() + 4
    order = bits.code()
    if order == 0:
        bits.code()
    elif order == 1:
        bits.take(1), bits.signed(), bits.signed()
        for _ in range(bits.code()):
            bits.signed()
    bits.code()  # reference pictures
    return _Numbering(number_bits, bool(bits.take(1)), planes)


def _units(data: bytes) -> list[bytes]:
    """The NAL units behind start codes, without them."""
    return [unit for unit in data.split(b"\x00\x00\x01")[1:] if unit]
