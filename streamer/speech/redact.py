"""Personal data taken out of what was said, before anybody gets it. Pure.

Masked are runs of seven or more digits, however they are said or written (`138 0013 8000`, `one three eight ...`,
`一三八零零...`, spaced, dashed, grouped: telephones, cards, identity numbers), words that hold six or more digits among
letters (passports, accounts), and e-mail addresses, written or spelled (`john dot smith at example dot com`). In doubt
it masks more: a million written out goes as well, and so do years that are counted up in a row.

What is still being said is cut before anything that may yet become personal: `growing` gives a text of which nothing
has to be taken back when more of the same words are known.
"""

from __future__ import annotations

import re

NUMBER = "[number]"
ADDRESS = "[e-mail]"
MASK = re.compile(r"\[(?:number|e-mail)\]")
"""Finds what was masked."""

_LEAST_DIGITS = 7

# Letters next to Chinese are a word of their own, which \b does not see.
_BEGIN, _END = r"(?<![A-Za-z])", r"(?![A-Za-z])"
_UNIT_WORDS = "zero|nought|naught|oh|one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_CHINESE = "零〇○幺一二三四五六七八九两兩壹贰貳弍叁參叄肆伍陆陸柒捌玖"
_UNIT = rf"(?:\d|[{_CHINESE}]|{_BEGIN}(?:{_UNIT_WORDS}|o){_END})"
_SEVERAL = rf"{_BEGIN}(?P<times>double|triple|treble)\s+{_UNIT}"
_PAIR = rf"{_BEGIN}(?:{_TEENS}|(?:{_TENS})(?:[\s-]+(?:{_UNIT_WORDS}))?){_END}"
_DIGITS = re.compile(rf"{_SEVERAL}|(?P<pair>{_PAIR})|{_UNIT}", re.IGNORECASE)
_ANY = rf"(?:{_SEVERAL.replace('?P<times>', '?:')}|{_PAIR}|{_UNIT})"
# What may stand between two digits of one number.
_GAP = rf"(?:[\s.,，、。·()（）+*#_‐-―−-]|{_BEGIN}(?:dash|hyphen|space){_END}|横杠|橫槓|杠|槓)"
_RUN = rf"[+(（]?{_ANY}(?:{_GAP}{{0,5}}{_ANY})*"
_NUMBER = re.compile(_RUN, re.IGNORECASE)
# The last sign of a Chinese identity number may be an X.
_CHECK = re.compile(r"[\s-]?[xX叉](?![A-Za-z])")
_MIXED = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z0-9]*[A-Za-z])(?:[A-Za-z]*\d){6}[A-Za-z0-9]*")

# One part of an address: a word, or letters and digits one by one, and numbers after it.
_PART = r"(?:(?<![A-Za-z0-9._%+'’-])(?:[a-z0-9]\s+){0,24}[a-z0-9._%+'’-]+(?:\s+\d+(?![A-Za-z0-9])){0,8})"
_JOIN = (
    r"\s*(?:(?<![A-Za-z])(?:dot|point|underscore|dash|hyphen|minus|plus)(?![A-Za-z])|点|點|下划线|下劃線|横杠|橫槓)\s*"
)
_AT = r"\s*(?:[@＠]|(?<![A-Za-z])at(?![A-Za-z])|艾特|爱特|愛特|小老鼠|圈a)\s*"
_POINT = r"\s*(?:\.|(?<![A-Za-z])(?:dot|point)(?![A-Za-z])|点|點)\s*"
_LABEL = r"(?:(?:[a-z0-9]\s+){0,24}[a-z0-9-]+)"
_LOCAL = rf"{_PART}(?:{_JOIN}{_PART})*"
_EMAIL = re.compile(rf"{_LOCAL}{_AT}{_LABEL}(?:{_POINT}{_LABEL})+", re.IGNORECASE)

# What an address may begin with at the end of a text that still grows; and a number.
_OPEN_EMAIL = re.compile(
    rf"{_LOCAL}(?:{_JOIN})?(?:{_AT}(?:{_LABEL}(?:{_POINT}{_LABEL})*(?:{_POINT})?)?)?\W*$", re.IGNORECASE
)
_OPEN_NUMBER = re.compile(rf"{_RUN}(?:{_GAP})*(?:{_BEGIN}(?:double|triple|treble){_END})?\W*$", re.IGNORECASE)
_WORD_END = re.compile(r"[A-Za-z0-9]+$")


def redact(text: str) -> str:
    """`text` with personal data masked."""
    text = _EMAIL.sub(ADDRESS, text)
    text = _MIXED.sub(NUMBER, text)
    parts: list[str] = []
    place = 0
    for found in _NUMBER.finditer(text):
        count = _count(found[0])
        if count < _LEAST_DIGITS or found.start() < place:
            continue
        end = found.end()
        if count == 17 and (check := _CHECK.match(text, end)):
            end = check.end()
        parts += [text[place : found.start()], NUMBER]
        place = end
    return "".join([*parts, text[place:]])


def growing(text: str) -> str:
    """`text`, of which more words may follow, up to what may become personal data by them; masked like `redact`."""
    # Each is looked for in all of the text: what one would take is where the other is open.
    found = [pattern.search(text) for pattern in (_OPEN_EMAIL, _OPEN_NUMBER)]
    shown = _cut(text, min((each.start() for each in found if each), default=len(text)))
    # A cut may fall within what is masked as it is: into the address of `one at one dot one one`.
    spans = _personal(text)
    while straddled := [start for start, end in spans if start < len(shown) < end]:
        shown = _cut(shown, min(straddled))
    return redact(shown).rstrip()


def _cut(text: str, end: int) -> str:
    """`text` up to there; of a word that is cut into (`E12345 6`) nothing stays."""
    return _WORD_END.sub("", text[:end]) if end < len(text) else text


def _personal(text: str) -> list[tuple[int, int]]:
    """Where everything lies that would be masked by itself."""
    numbers = [found for found in _NUMBER.finditer(text) if _count(found[0]) >= _LEAST_DIGITS]
    return [found.span() for found in (*_EMAIL.finditer(text), *_MIXED.finditer(text), *numbers)]


def _count(run: str) -> int:
    """How many digits a run has, as they would be dialled."""
    count = 0
    for found in _DIGITS.finditer(run):
        if found["times"]:
            count += 2 if found["times"].lower() == "double" else 3
        else:
            count += 2 if found["pair"] else 1
    return count
