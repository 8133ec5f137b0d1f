"""Text that nobody said. Pure.

Whisper was trained on subtitles of films, and where there is nothing to hear it writes what stands in those: thanks for
watching, who made the subtitles. What it writes is believed where sound and text both speak for it; the less there is
of either, the more sure the other must be.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.speech.agreement import Piece


@dataclass(frozen=True, slots=True)
class Doubts:
    """From which figures on text is not believed. likely: mean log-likelihood a token, at least; `boilerplate` of what
    is known to be invented. no_speech: Whisper's own likelihood of no speech, at most, where the text is not
    `likely_enough`. voiced: mean likelihood of a voice in the likelier half of the sound, at least. language: of the
    likeliest language, at least. compression: bytes of text over those of it compressed, at most.
    letters_a_second: at most."""

    likely: float = -0.9
    likely_enough: float = -0.5
    no_speech: float = 0.6
    language: float = 0.3
    voiced: float = 0.5
    boilerplate: float = -0.25
    compression: float = 2.4
    letters_a_second: float = 30.0


STRICT = Doubts(likely=-0.8, likely_enough=0.0, no_speech=0.4, language=0.45)
"""Where the voice itself is in doubt, or hardly there."""
_DOUBTFUL_VOICE, _SHORT_S = 0.7, 0.6


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of an utterance: what Whisper says of its sound (no speech, the language), and the voice detector; seconds of
    voice."""

    no_speech: float
    voiced: float
    language: float
    seconds: float


_USUAL = Doubts()
_LEAST = 1e-4
# Of what Whisper writes over silence, music and noise: as the whole text, and wherever it stands.
_WHOLE = (
    "you",
    "the",
    "bye",
    "bye bye",
    "thank you",
    "thank you very much",
    "thank you so much",
    "thanks",
    "so",
    "oh",
    "uh",
    "um",
    "hmm",
    "ok",
    "okay",
    "i'm sorry",
    "music",
    "applause",
    "laughter",
    "silence",
    "blank audio",
    "谢谢",
    "謝謝",
    "谢谢大家",
    "謝謝大家",
    "谢谢你",
    "再见",
    "好",
    "嗯",
    "啊",
    "哦",
    "呃",
    "音乐",
    "音樂",
    "掌声",
)
_ANYWHERE = (
    r"thank(s| you)( so much| very much)? for (watching|listening|viewing)",
    r"(please )?(don't forget to )?(like|subscribe)( and| to)? (subscribe|my channel|the channel|our channel)",
    r"see you (in the )?next (time|video|week)",
    r"(subtitles|captions|transcri(bed|ption)|translat(ed|ion)) (by|provided)",
    r"amara org",
    r"(www|https?)\b",
    r"all rights reserved",
    r"字幕(由|提供|制作|製作|志愿|志願|组|組|by)",
    r"(中文|简体|繁體|繁体|翻译|翻譯)?字幕",
    r"(明镜|明鏡)(与|與)?(点点|點點)",
    r"(请|請)?不吝?(点赞|點贊|點讚)",
    r"(点赞|點贊|點讚|订阅|訂閱|转发|轉發|打赏|打賞).{0,6}(点赞|點贊|點讚|订阅|訂閱|转发|轉發|打赏|打賞|频道|頻道)",
    r"(谢谢|謝謝|感谢|感謝)(大家|您的?|你们的?|你們的?)?(观看|觀看|收看|收听|收聽|聆听|聆聽)",
    r"(我们|我們)?下(期|集|次|个视频|個影片)(再见|再見|见|見)",
    r"(作词|作詞|作曲|编曲|編曲|词曲|詞曲|李宗盛)",
    r"优优独播|優優獨播|独播剧场|獨播劇場|YoYo Television",
    r"請訂閱|请订阅",
)
_KNOWN = re.compile("|".join(_ANYWHERE), re.IGNORECASE)


def why_invented(pieces: Sequence[Piece], evidence: Evidence) -> str | None:
    """Why the text is not believed, in one word; None: it is."""
    is_doubtful = evidence.voiced < _DOUBTFUL_VOICE or evidence.seconds < _SHORT_S
    doubts = STRICT if is_doubtful else _USUAL
    text = "".join(piece.text for piece in pieces)
    letters = sum(len(piece.spoken) for piece in pieces)
    if not letters:
        return "empty"
    if evidence.voiced < doubts.voiced:
        return "voice"
    likely = likelihood(pieces)
    if likely < doubts.likely:
        return "unlikely"
    if evidence.no_speech > doubts.no_speech and likely < doubts.likely_enough:
        return "no_speech"
    if is_boilerplate(text) and likely < doubts.boilerplate:
        return "boilerplate"
    if letters / max(0.1, evidence.seconds) > doubts.letters_a_second:
        return "speed"
    if _compression(text) > doubts.compression:
        return "repetition"
    if evidence.language < doubts.language:
        return "language"
    return None


def likelihood(pieces: Sequence[Piece]) -> float:
    """Mean natural log-likelihood of a token, at most 0."""
    tokens = sum(len(piece.tokens) for piece in pieces)
    total = sum(len(piece.tokens) * math.log(max(_LEAST, piece.probability)) for piece in pieces)
    return total / max(1, tokens)


def is_boilerplate(text: str) -> bool:
    """Whether it is known to be written where nobody speaks."""
    plain = re.sub(r"[^\w']+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return plain in _WHOLE or _KNOWN.search(plain) is not None


def _compression(text: str) -> float:
    raw = text.strip().encode()
    # A few words never compress, and zlib's own bytes are a good part of them.
    return len(raw) / len(zlib.compress(raw)) if len(raw) >= 40 else 0.0
