"""Text that goes round in circles: where it begins to. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.speech.agreement import Piece

# A repetition is believed where each time takes at least this part of the first's time, and this long a letter.
_PART = 0.4
_LETTER_S = 0.03
_LONGEST_UNIT = 40


def repeats_from(pieces: Sequence[Piece]) -> int:
    """How many pieces are left when what only repeats the ones before it is cut.

    People say things twice; then each time takes its time. A decoder that goes round in circles has no sound left for
    the further rounds: they take next to no time. A third round in a row of several words is never believed.
    """
    spoken = [piece.spoken for piece in pieces]
    for start in range(len(pieces)):
        for unit in range(1, min(_LONGEST_UNIT, (len(pieces) - start) // 2) + 1):
            first = spoken[start : start + unit]
            if not any(first) or first != spoken[start + unit : start + 2 * unit]:
                continue
            if (kept := _believed(pieces, spoken, start, unit)) is not None:
                return kept
    return len(pieces)


def _believed(pieces: Sequence[Piece], spoken: Sequence[str], start: int, unit: int) -> int | None:
    """Where rounds of `unit` pieces from `start` on are not believed any more; None: all are."""
    first_s = pieces[start + unit - 1].end_s - pieces[start].start_s
    letters = sum(map(len, spoken[start : start + unit]))
    least_s = max(_PART * first_s, _LETTER_S * letters)
    at = start + unit
    while spoken[at : at + unit] == spoken[start : start + unit]:
        rounds = (at - start) // unit
        round_s = pieces[at + unit - 1].end_s - pieces[at].start_s
        if round_s < least_s or (rounds >= 2 and unit >= 3):
            return at
        at += unit
    # A last round that was broken off is one too.
    rest = spoken[at:]
    if (at - start) // unit >= 2 and unit >= 3 and rest and rest == spoken[start : start + len(rest)]:
        return at
    return None
