"""The process that explains: started when asked, bounded, replaced when it fails, gone when nobody asks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import msgspec
import numpy as np
import psutil
import pytest

from streamer.engine import Engine
from streamer.errors import StreamerError
from streamer.why.explain import Asked, Explained, Explainer, Graphs
from streamer.why.jpeg import Jpeg, decode
from streamer.why.process import Explaining
from tests.conftest import eventually

RNG = np.random.default_rng(5)
VIDEO = [RNG.random(1280).astype(np.float16).tobytes() for _ in range(4)]
AUDIO = [RNG.random(1024).astype(np.float16).tobytes() for _ in range(3)]
PICTURE = Jpeg().encode(RNG.integers(0, 256, (224, 224, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def label(engine: Engine, graphs: Graphs) -> int:
    """The place of a label that both modalities can raise, and that some part of the picture speaks for."""
    explainer, rgb = Explainer(graphs), decode(PICTURE)
    both = [place for place, info in enumerate(engine.labels) if set(info.modalities) == {"video", "audio"}]
    return next(place for place in both if explainer.heat(rgb, place).any())


@pytest.fixture
def asked(label: int) -> Asked:
    return Asked(label, VIDEO, AUDIO, [PICTURE] * 4)


@pytest.fixture
async def explaining(graphs: Graphs) -> AsyncIterator[Explaining]:
    async with Explaining(graphs) as made:
        yield made


def close(one: Explained, other: Explained) -> bool:
    return np.allclose(one.heat, other.heat, atol=1e-3) and np.allclose(one.audio, other.audio, atol=1e-4)


async def test_it_answers_as_the_explainer_does(explaining: Explaining, graphs: Graphs, asked: Asked) -> None:
    """What comes back is what the explainer says in this process: 49 places of heat, masses that sum to 1; it has a
    lower priority than who asks, and nothing was started before somebody asked."""
    assert explaining.pid is None
    told = await explaining.explain(asked)
    expected = Explainer(graphs).explain(asked)
    assert close(told, expected) and told.picture == expected.picture
    assert (told.rows, told.columns, len(told.heat)) == (7, 7, 49) and max(told.heat) == 1.0
    assert sum(mass for _, mass in told.video) == pytest.approx(1.0, abs=1e-5)
    assert sum(mass for _, mass in told.audio) == pytest.approx(1.0, abs=1e-5)
    assert psutil.Process(explaining.pid).nice() > os.getpriority(os.PRIO_PROCESS, 0)


async def test_one_modality_or_none_is_explained_too(explaining: Explaining, label: int) -> None:
    """A window without pictures, without sound, or with neither has moments of what there is and no more."""
    heard = await explaining.explain(Asked(label, [], AUDIO, []))
    assert heard.video == [] and len(heard.audio) == 3 and heard.picture is None and heard.heat == []
    seen = await explaining.explain(Asked(label, VIDEO, [], [None] * 4))
    assert len(seen.video) == 4 and seen.audio == [] and seen.picture is not None and seen.heat == []
    nothing = await explaining.explain(Asked(label, [], [], []))
    assert nothing.video == [] and nothing.audio == [] and nothing.score == pytest.approx(0.001, abs=1e-4)
    assert explaining.starts == 1


async def test_too_many_at_a_time_are_told_to_come_back(explaining: Explaining, asked: Asked) -> None:
    """One is worked on, four wait; the others are refused at once, counted, and nothing is lost for those who wait."""
    answers = await asyncio.gather(*(explaining.explain(asked) for _ in range(9)), return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, Explained)]
    refused = [answer for answer in answers if isinstance(answer, StreamerError)]
    assert len(told) == 5 and len(refused) == 4 == explaining.refused
    assert all("busy" in str(error) for error in refused)
    assert close(await explaining.explain(asked), told[0])


async def test_who_goes_away_does_not_get_others_wrong_answers(explaining: Explaining, asked: Asked) -> None:
    """A caller that is cancelled while its question is worked on leaves the next one with its own answer."""
    await explaining.explain(asked)
    heard = msgspec.structs.replace(asked, video=[], pictures=[])
    leaving = asyncio.create_task(explaining.explain(asked))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await explaining.explain(heard)).video == []
    assert explaining.starts == 1


async def test_it_ends_when_nobody_asks_and_comes_back(graphs: Graphs, asked: Asked) -> None:
    """After a while without questions the process and its memory are gone; the next question starts another."""
    async with Explaining(graphs, idle_s=0.05) as explaining:
        first = await explaining.explain(asked)
        pid = explaining.pid
        assert pid is not None
        await eventually(lambda: explaining.pid is None, what="it ends")
        assert not psutil.pid_exists(pid)
        assert close(await explaining.explain(asked), first)
        assert explaining.starts == 2


async def test_one_that_dies_or_fails_is_replaced(
    explaining: Explaining, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed from outside, or ended by a picture that is none: that question is told so, the next one is answered."""
    await explaining.explain(asked)
    assert explaining.pid is not None
    os.kill(explaining.pid, signal.SIGSTOP)
    question = asyncio.create_task(explaining.explain(asked))
    await asyncio.sleep(0)
    os.kill(explaining.pid, signal.SIGKILL)
    with pytest.raises(StreamerError, match="ask again"):
        await question
    await explaining.explain(asked)
    with pytest.raises(StreamerError, match="ask again"):
        await explaining.explain(msgspec.structs.replace(asked, pictures=[b"no picture"] * 4))
    await explaining.explain(asked)
    assert explaining.starts == 3 and "could not be told" in caplog.text


async def test_one_that_hangs_is_killed(graphs: Graphs, asked: Asked) -> None:
    """A question without an answer in time is told so, and the process is gone."""
    async with Explaining(graphs, answer_s=30.0) as explaining:
        await explaining.explain(asked)
        pid = explaining.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        explaining._answer_s = 0.05
        with pytest.raises(StreamerError, match="ask again"):
            await explaining.explain(asked)
        assert explaining.pid is None and not psutil.pid_exists(pid)


async def test_leaving_ends_it_whatever_is_open(graphs: Graphs, asked: Asked) -> None:
    """Questions that are open when the service stops are cancelled, and no process outlasts it."""
    async with Explaining(graphs) as explaining:
        await explaining.explain(asked)
        pid = explaining.pid
        assert pid is not None
        questions = [asyncio.create_task(explaining.explain(asked)) for _ in range(3)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*questions, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
    assert not psutil.pid_exists(pid)
