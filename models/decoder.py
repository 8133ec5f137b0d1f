"""Sequence to sequence: a recurrent decoder that attends over a clip's tokens, beside a CTC head on the same tokens.

The decoder says the symbols one after another (Bahdanau et al., "Neural machine translation by jointly learning to
align and translate", 2015): it knows what follows what, but may lose its place. CTC (Graves et al., "Connectionist
temporal classification", 2006) says which symbols stand where, in order, but knows no grammar. They are trained on one
memory and judge each other's proposals, as in Watanabe et al., "Hybrid CTC/attention architecture for end-to-end speech
recognition" (2017):

    score(y) = c log p_ctc(y) + (1 - c) log p_decoder(y)

Where the data say when each symbol is said, the decoder is told where to look (as in Mi et al., "Supervised attentions
for neural machine translation", 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.beams import attention_beams, prefix_beams
from models.learning.batch import PADDING, Part
from models.learning.recipe import SequenceRecipe

_DROPOUT = 0.2
_SMOOTHING = 0.1
_BESIDE_S = 0.04  # around a symbol the decoder may look without harm: mouths move before they sound
_LEAST = 1e-6  # of attention: a loss must stay finite
_LOWEST = -1e30  # finite: softmax over a clip without any token must not be not-a-number


class SequenceDecoder(nn.Module):
    """See the module. Reads a memory `[B, T, D]` with its mask, says symbols `0 ... symbols - 1`.

    Inside, `symbols` is CTC's blank and the decoder's end.
    """

    def __init__(self, width: int, symbols: int, recipe: SequenceRecipe) -> None:
        super().__init__()
        self.symbols = symbols
        self.recipe = recipe
        self.blank = nn.Linear(width, symbols + 1)
        self.before = nn.Embedding(symbols + 1, width)  # the last row stands for the beginning
        kind = nn.GRUCell if recipe.cell == "gru" else nn.LSTMCell
        self.cell = kind(2 * width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width)
        self.energy = nn.Linear(width, 1, bias=False)
        self.dropout = nn.Dropout(_DROPOUT)
        self.out = nn.Sequential(nn.Linear(2 * width, width), nn.Tanh(), self.dropout, nn.Linear(width, symbols + 1))

    def loss(self, memory: Part, target: Tensor, times: Tensor | None = None) -> Tensor:
        """float32 `[B]`: CTC's loss by its share and the rest of the decoder's, both a symbol; and for looking
        elsewhere, by the recipe's weight, where `times` (float32 `[B, S, 2]`, seconds, or NaN) says when symbols are.
        target: int64 `[B, S]`, padded with -1."""
        recipe = self.recipe
        aligned = recipe.align if times is not None else 0.0
        lengths = (target != PADDING).sum(dim=1)
        losses = recipe.ctc * self._ctc_loss(memory, target, lengths) / lengths.clamp(min=1)
        if recipe.ctc < 1:
            said, after, looked = self._said(memory, target, lengths)
            losses = losses + (1 - recipe.ctc) * self._decoder_loss(said, after, lengths)
            if aligned and times is not None:
                losses = losses + aligned * (1 - recipe.ctc) * _looked_loss(looked, memory, times)
        return losses

    def ctc_logits(self, memory: Part) -> Tensor:
        """Log-probabilities of each symbol and blank (last) at each step: float32 `[B, T, symbols + 1]`."""
        return F.log_softmax(self.blank(_clean(memory)).float(), dim=-1)

    @torch.no_grad()
    def decode(self, memory: Part, beam: int | None = None) -> list[list[int]]:
        """The most probable sequence of each clip, among those that CTC and the decoder propose (`beam` each; the
        recipe's where it isn't given). A clip without any token says nothing: []."""
        width = self.recipe.beam if beam is None else beam
        log_p = self.ctc_logits(memory)
        said: list[list[int]] = []
        for clip in range(len(log_p)):
            there = memory.mask[clip]
            alone = Part(memory.x[clip : clip + 1, there], there[there][None], memory.when[clip : clip + 1, there])
            said.append(self._best(alone, log_p[clip, there], width) if bool(there.any()) else [])
        return said

    def _best(self, memory: Part, log_p: Tensor, beam: int) -> list[int]:
        """The best proposal for one clip, `[1, T, D]`, whose CTC says log_p `[T, symbols + 1]`."""
        proposals = {tuple(symbols) for symbols, _ in prefix_beams(log_p.cpu().numpy(), beam, self.recipe.longest)}
        if self.recipe.ctc < 1:
            proposals |= set(attention_beams(self, memory, beam, self.recipe.longest))
        ordered = sorted(proposals)
        scores = self.scores(memory, ordered)
        return list(ordered[int(scores.argmax())])

    def scores(self, memory: Part, proposals: Sequence[Sequence[int]]) -> Tensor:
        """Joint log-probability of each proposal for one clip `[1, T, D]`: float32 `[P]`."""
        longest = max(1, max(len(each) for each in proposals))
        target = torch.full((len(proposals), longest), PADDING, device=memory.x.device)
        for row, each in enumerate(proposals):
            target[row, : len(each)] = torch.tensor(each, dtype=torch.long)
        count = len(proposals)
        many = Part(*(each.expand(count, *each.shape[1:]) for each in (memory.x, memory.mask, memory.when)))
        lengths = (target != PADDING).sum(dim=1)
        share = self.recipe.ctc
        scores = -share * self._ctc_loss(many, target, lengths) if share else memory.x.new_zeros(count)
        if share < 1:
            said, after, _ = self._said(many, target, lengths)
            log_p = F.log_softmax(said.float(), dim=-1).gather(2, after.clamp(min=0)[..., None])[..., 0]
            scores = scores + (1 - share) * (log_p * (after != PADDING)).sum(dim=1)
        return scores

    def _ctc_loss(self, memory: Part, target: Tensor, lengths: Tensor) -> Tensor:
        """-log p_ctc of each target `[B]`. One that has more symbols than the clip has steps counts nothing."""
        # Steps that are there stand in front: CTC's loss knows lengths only.
        order = torch.argsort((~memory.mask).int(), dim=1, stable=True)
        log_p = self.ctc_logits(memory).gather(1, order[..., None].expand(-1, -1, self.symbols + 1))
        steps = memory.mask.sum(dim=1)
        losses = F.ctc_loss(
            log_p.transpose(0, 1),
            target.clamp(min=0),
            steps.clamp(min=1),
            lengths,
            blank=self.symbols,
            reduction="none",
            zero_infinity=self.training,
        )
        return torch.where(steps > 0, losses, torch.zeros_like(losses))

    def _decoder_loss(self, said: Tensor, after: Tensor, lengths: Tensor) -> Tensor:
        losses = F.cross_entropy(
            said.float().flatten(0, 1),
            after.flatten(),
            ignore_index=PADDING,
            label_smoothing=_SMOOTHING if self.training else 0.0,
            reduction="none",
        )
        return losses.view_as(after).sum(dim=1) / (lengths + 1)

    def _said(self, memory: Part, target: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, S + 1, symbols + 1]` while the target is what was said, what is right then `[B, S + 1]`, and
        what was looked at for it `[B, S + 1, T]`."""
        begin = target.new_full((len(target), 1), self.symbols)
        before = torch.cat([begin, target.clamp(min=0)], dim=1)
        after = F.pad(target, (0, 1), value=PADDING).scatter(1, lengths[:, None], self.symbols)
        clean, key = self.read(memory)
        state = self.begin(len(target), clean)
        said, looked = [], []
        for step in range(before.shape[1]):
            logits, state, weight = self._step(before[:, step], state, clean, key, memory.mask)
            said.append(logits)
            looked.append(weight)
        return torch.stack(said, dim=1), after, torch.stack(looked, dim=1)

    def read(self, memory: Part) -> tuple[Tensor, Tensor]:
        """The memory `[B, T, D]` with zeros where nothing is, and its keys `[B, T, D]`: the same for every step."""
        clean = _clean(memory)
        return clean, self.key(clean)

    def begin(self, clips: int, memory: Tensor) -> Tensor:
        """The state before the first symbol, `[B, 3, D]`: of the cell (an LSTM has two) and what was attended."""
        return memory.new_zeros(clips, 3, memory.shape[-1])

    def step(self, before: Tensor, state: Tensor, memory: Tensor, key: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """One symbol: what was said before int64 `[B]`, the state -> logits `[B, symbols + 1]`, the state after."""
        return self._step(before, state, memory, key, mask)[:2]

    def _step(
        self, before: Tensor, state: Tensor, memory: Tensor, key: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and what was looked at for it `[B, T]`."""
        hidden, inner, attended = state.unbind(dim=1)
        x = self.dropout(torch.cat([self.before(before), attended], dim=1))
        if isinstance(self.cell, nn.LSTMCell):
            hidden, inner = self.cell(x, (hidden, inner))
        else:
            hidden = self.cell(x, hidden)
        energy = self.energy(torch.tanh(self.query(hidden)[:, None] + key)).squeeze(-1)
        weight = energy.masked_fill(~mask, _LOWEST).softmax(dim=1) * mask
        attended = (weight[:, None] @ memory).squeeze(1)
        logits: Tensor = self.out(torch.cat([hidden, attended], dim=1))
        return logits, torch.stack([hidden, inner, attended], dim=1), weight


def _looked_loss(looked: Tensor, memory: Part, times: Tensor) -> Tensor:
    """float32 `[B]`: minus the logarithm of how much of its attention, `looked` `[B, S + 1, T]`, the decoder spends on
    the steps in which a symbol is said, the mean over a clip's symbols; none for symbols without times."""
    start, end = times[..., :1] - _BESIDE_S, times[..., 1:] + _BESIDE_S
    when = memory.when[:, None]
    inside = (when >= start) & (when < end) & memory.mask[:, None]
    share = (looked[:, : times.shape[1]] * inside).sum(dim=2)
    counted = inside.any(dim=2)
    losses = torch.where(counted, -torch.log(share + _LEAST), torch.zeros_like(share))
    return losses.sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _clean(memory: Part) -> Tensor:
    """Zeros where nothing is: there may stand anything."""
    return torch.where(memory.mask[..., None], memory.x, torch.zeros_like(memory.x))
