"""Proposals for what was said: prefix beam search over CTC's steps, beam search over a decoder's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.learning.batch import Part

if TYPE_CHECKING:
    from models.decoder import SequenceDecoder

_NEVER = -np.inf


def prefix_beams(log_p: NDArray[np.float32], beam: int, longest: int) -> list[tuple[tuple[int, ...], float]]:
    """CTC prefix beam search (Hannun et al., "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs", 2014, without a language model): log-probabilities `[T, symbols + 1]`, blank last ->
    the best `beam` sequences of at most `longest` symbols with their log-probability, the best first.

    Exact where `beam` is at least the number of sequences there are.
    """
    blank = log_p.shape[1] - 1
    # For each prefix: log-probability of the ways that end in a blank, and of those that end in its last symbol.
    prefixes: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, _NEVER)}
    for step in log_p.astype(np.float64):
        likely = np.argsort(step[:blank])[::-1][: beam * 4]
        following: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (ends_blank, ends_symbol) in prefixes.items():
            both = float(np.logaddexp(ends_blank, ends_symbol))
            last = prefix[-1] if prefix else None
            _add(following, prefix, both + step[blank], ends_symbol + step[last] if last is not None else _NEVER)
            if len(prefix) == longest:
                continue
            for symbol in likely.tolist():
                # The same symbol twice needs a blank between: without one it is one symbol that lasts.
                _add(following, (*prefix, symbol), _NEVER, (ends_blank if symbol == last else both) + step[symbol])
        ranked = sorted(following.items(), key=lambda each: -np.logaddexp(*each[1]))
        prefixes = dict(ranked[:beam])
    scored = [(prefix, float(np.logaddexp(*ends))) for prefix, ends in prefixes.items()]
    return [(prefix, score) for prefix, score in scored if score > _NEVER]


def _add(
    prefixes: dict[tuple[int, ...], tuple[float, float]], prefix: tuple[int, ...], blank: float, symbol: float
) -> None:
    old = prefixes.get(prefix, (_NEVER, _NEVER))
    prefixes[prefix] = float(np.logaddexp(old[0], blank)), float(np.logaddexp(old[1], symbol))


def attention_beams(decoder: SequenceDecoder, memory: Part, beam: int, longest: int) -> list[tuple[int, ...]]:
    """Beam search over the decoder alone for one clip, `[1, T, D]`: up to `beam` sequences of at most `longest`
    symbols that it ended itself (or the best that it didn't end in time), the best first."""
    end = decoder.symbols
    clean, key = decoder.read(memory)
    said: list[tuple[int, ...]] = [()]
    scores = clean.new_zeros(1)
    state = decoder.begin(1, clean)
    ended: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(longest + 1):
        before = torch.tensor([each[-1] if each else end for each in said], device=clean.device)
        logits, state = decoder.step(before, state, *(_many(each, len(said)) for each in (clean, key, memory.mask)))
        total = scores[:, None] + torch.log_softmax(logits.float(), dim=-1)
        ended += [(float(score), each) for score, each in zip(total[:, end], said, strict=True)]
        best, index = total[:, :end].flatten().topk(min(beam, total[:, :end].numel()))
        rows, symbols = index // end, index % end
        said = [(*said[row], symbol) for row, symbol in zip(rows.tolist(), symbols.tolist(), strict=True)]
        scores, state = best, state[rows]
        ended = sorted(ended, reverse=True)[:beam]
        # Nothing that goes on can overtake what has ended: a log-probability only falls.
        if len(ended) == beam and ended[-1][0] >= float(best[0]):
            break
    return [each for _, each in ended]


def _many(x: Tensor, count: int) -> Tensor:
    return x.expand(count, *x.shape[1:])
