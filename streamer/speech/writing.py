"""From what was heard to what is published of it: signs and script, personal data out, words, keywords. Pure."""

from __future__ import annotations

from streamer.speech.keywords import Keywords
from streamer.speech.redact import growing, redact
from streamer.speech.words import Words, read_plainly
from streamer.speech.written import ToWrite, WritingSettings, Written


class Writer:
    """Writes down what was heard. Belongs to one thread."""

    def __init__(self, settings: WritingSettings) -> None:
        self._redacts = settings.redact
        self._reads = settings.reads
        self._words = Words(settings.script, settings.dictionary)
        self._keywords = Keywords(settings.keywords, self._words.simplified, settings.fuzzy)

    def write(self, heard: ToWrite) -> Written:
        """`heard` as it may be published."""
        text = self._words.written(heard.text, heard.language)
        if self._redacts:
            text = growing(text) if heard.growing else redact(text)
        words = self._words.cut(text, heard.language)
        plain = tuple(word.text for word in words)
        said = () if heard.growing else tuple(self._keywords.said(plain))
        read = tuple(self._words.read(_settled(heard), heard.language)) if self._reads else ()
        return Written(text, plain, tuple(word.tag for word in words), said, read)


def write_plainly(settings: WritingSettings, heard: ToWrite) -> Written:
    """`heard` as it may be published, without dictionaries: Chinese comes out character by character, in whatever
    characters it was heard. What is left of a writer that failed; milliseconds."""
    plain = Words("as_heard")
    text = " ".join(heard.text.split())
    if settings.redact:
        text = growing(text) if heard.growing else redact(text)
    words = [word.text for word in plain.cut(text, "")]
    said = () if heard.growing else tuple(Keywords(settings.keywords, str, settings.fuzzy).said(words))
    read = tuple(read_plainly(_settled(heard))) if settings.reads else ()
    return Written(text, tuple(words), ("",) * len(words), said, read)


def _settled(heard: ToWrite) -> str:
    return heard.text[: heard.settled] if heard.growing else heard.text
