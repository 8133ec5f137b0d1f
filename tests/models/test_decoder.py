"""The decoder of sequences."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.beams import attention_beams, prefix_beams
from models.decoder import SequenceDecoder
from models.learning.batch import Part
from models.learning.recipe import SequenceRecipe

TARGET = torch.tensor([[0, 1, 2, -1], [2, 2, -1, -1], [1, -1, -1, -1], [0, 2, 1, 0]])


def memory(clips: int, steps: int, width: int = 16, seed: int = 0) -> Part:
    """Random tokens, all of them there."""
    x = torch.randn(clips, steps, width, generator=torch.Generator().manual_seed(seed))
    return Part(x, torch.ones(clips, steps, dtype=torch.bool), torch.arange(steps).expand(clips, -1) / 25)


def padded(part: Part, more: int) -> Part:
    """With `more` places in which there is nothing but not-a-number."""
    x = F.pad(part.x, (0, 0, 0, more), value=torch.nan)
    return Part(x, F.pad(part.mask, (0, more)), F.pad(part.when, (0, more), value=torch.nan))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("ctc", [0.0, 0.3, 1.0])
def test_it_learns_four_sequences_by_heart(cell: Literal["gru", "lstm"], ctc: float) -> None:
    """From random tokens of four clips it says their symbols, of different numbers, after some steps of training."""
    torch.manual_seed(0)
    decoder = SequenceDecoder(16, 3, SequenceRecipe(cell, ctc=ctc, beam=3, longest=6))
    tokens = padded(memory(4, 9), 2)
    optimiser = torch.optim.Adam(decoder.parameters(), 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        decoder.loss(tokens, TARGET).mean().backward()
        optimiser.step()
    decoder.eval()
    assert decoder.decode(tokens) == [[0, 1, 2], [2, 2], [1], [0, 2, 1, 0]]


def test_padding_changes_neither_loss_nor_gradient_nor_what_is_said() -> None:
    """Places under False of the mask may hold not-a-number."""
    torch.manual_seed(0)
    decoder = SequenceDecoder(16, 3, SequenceRecipe(beam=3)).eval()
    plain, more = memory(4, 9), padded(memory(4, 9), 5)
    torch.testing.assert_close(decoder.loss(more, TARGET), decoder.loss(plain, TARGET))
    assert decoder.decode(more) == decoder.decode(plain)
    decoder.loss(more, TARGET).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in decoder.parameters() if each.grad is not None)


def test_steps_left_out_in_the_middle_are_as_if_never_there() -> None:
    """A hole between tokens doesn't shift what CTC aligns."""
    decoder = SequenceDecoder(16, 3, SequenceRecipe()).eval()
    plain = memory(1, 6)
    x = torch.full((1, 8, 16), torch.nan)
    places = [0, 1, 3, 4, 6, 7]
    x[:, places] = plain.x
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[:, places] = True
    target = torch.tensor([[0, 1]])
    torch.testing.assert_close(decoder.loss(Part(x, mask, torch.zeros(1, 8)), target), decoder.loss(plain, target))


def test_a_clip_without_tokens_says_nothing() -> None:
    """Its loss is a number, and what is said of it is empty; the clip beside it isn't touched."""
    decoder = SequenceDecoder(16, 3, SequenceRecipe(beam=2)).eval()
    part = memory(2, 5)
    gone = Part(part.x, part.mask & torch.tensor([[True], [False]]), part.when)
    assert torch.isfinite(decoder.loss(gone, TARGET[:2])).all()
    said = decoder.decode(gone)
    assert said[1] == []
    assert said[0] == decoder.decode(memory(2, 5))[0]


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """What a path of CTC says."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


@pytest.mark.parametrize("seed", range(5))
def test_prefix_beams_are_the_sums_over_all_paths(seed: int) -> None:
    """With a beam as wide as there are sequences, each one's probability is that of all its paths, best first."""
    log_p = np.log(np.random.default_rng(seed).dirichlet(np.ones(4) * 0.5, 5)).astype(np.float32)
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=5):
        said = collapse(path, 3)
        sums[said] = sums.get(said, 0.0) + float(np.exp(sum(log_p[step, symbol] for step, symbol in enumerate(path))))
    found = prefix_beams(log_p, beam=1000, longest=5)
    assert {said for said, _ in found} == set(sums)
    for said, score in found:
        assert np.exp(score) == pytest.approx(sums[said], rel=1e-4)
    assert found[0][0] == max(sums, key=lambda said: sums[said])


def test_prefix_beams_end_at_the_longest_sequence() -> None:
    """No proposal has more symbols than asked for."""
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(4), 12)).astype(np.float32)
    assert max(len(said) for said, _ in prefix_beams(log_p, beam=8, longest=2)) == 2


def test_attention_beams_find_the_best_of_all_sequences() -> None:
    """With a beam as wide as there are sequences, the first is the one that scoring all of them finds."""
    torch.manual_seed(3)
    decoder = SequenceDecoder(8, 2, SequenceRecipe(ctc=0.0)).eval()
    for parameter in decoder.parameters():
        parameter.data *= 3  # so that sequences differ clearly
    part = memory(1, 4, width=8)
    with torch.no_grad():
        found = attention_beams(decoder, part, beam=64, longest=4)
        every = [each for count in range(5) for each in itertools.product(range(2), repeat=count)]
        scores = decoder.scores(part, every)
    assert found[0] == every[int(scores.argmax())]


def test_joint_scores_are_ctc_and_decoder_by_their_shares() -> None:
    """The score with a share is the sum of the two alone, weighted."""
    torch.manual_seed(0)
    decoder = SequenceDecoder(16, 3, SequenceRecipe(ctc=0.3)).eval()
    part, proposals = memory(1, 7), [(0, 1), (2,), ()]
    scores = {}
    with torch.no_grad():
        for share in (0.0, 0.3, 1.0):
            decoder.recipe = SequenceRecipe(ctc=share)
            scores[share] = decoder.scores(part, proposals)
    torch.testing.assert_close(scores[0.3], 0.7 * scores[0.0] + 0.3 * scores[1.0])


def test_times_teach_where_to_look() -> None:
    """With times, what is added is the logarithm of the attention outside a symbol's moments and the next beside them;
    symbols without times ask nothing, and padding takes no part."""
    torch.manual_seed(0)
    decoder = SequenceDecoder(16, 3, SequenceRecipe(align=2.0)).eval()
    plain = SequenceDecoder(16, 3, SequenceRecipe()).eval()
    plain.load_state_dict(decoder.state_dict())
    with torch.no_grad():
        decoder.energy.weight.zero_()  # looks everywhere alike
        plain.energy.weight.zero_()
    part = memory(2, 12)
    target = torch.tensor([[1, 2], [0, -1]])
    times = torch.tensor([[[0.03, 0.15], [0.19, 0.31]], [[torch.nan, torch.nan], [torch.nan, torch.nan]]])
    added = decoder.loss(part, target, times) - plain.loss(part, target, times)
    # With 40 ms on each side 0.00 to 0.16 and 0.16 to 0.32: 5 of 12 steps each.
    expected = 2.0 * 0.7 * -np.log(5 / 12)
    torch.testing.assert_close(added, torch.tensor([expected, 0.0], dtype=torch.float32), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoder.loss(padded(part, 3), target, times), decoder.loss(part, target, times))
