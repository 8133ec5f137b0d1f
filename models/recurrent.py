"""Recurrence in both directions over clips of different lengths, with masks instead of packing, so that it exports."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedRecurrent(nn.Module):
    """Bidirectional GRU or LSTM (Cho et al., 2014; Hochreiter and Schmidhuber, 1997; both ways: Schuster and Paliwal,
    1997) over the items under a mask: `[B, N, W]`, bool `[B, N]` -> `[B, N, 2 * hidden]`, zeros elsewhere.

    Items that the mask leaves out are skipped as if they had never been in the sequence, wherever they stand, and may
    hold anything, not-a-number included. Each direction is a plain recurrence over the items that are there, moved to
    the front (backwards for the second), so that what follows them can't reach them: no packing, which ONNX lacks.
    """

    def __init__(
        self, width: int, hidden: int, layers: int = 1, dropout: float = 0.0, cell: Literal["gru", "lstm"] = "gru"
    ) -> None:
        super().__init__()
        kind = nn.GRU if cell == "gru" else nn.LSTM
        inputs = [width] + [2 * hidden] * (layers - 1)
        self.forwards = nn.ModuleList(kind(each, hidden, batch_first=True) for each in inputs)
        self.backwards = nn.ModuleList(kind(each, hidden, batch_first=True) for each in inputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        # One place more, which is nobody's: a recurrent network refuses to read nothing.
        x, mask = F.pad(x, (0, 0, 0, 1)), F.pad(mask, (0, 1))
        places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        # Sorting keys that are all different puts the items that are there in front, in their order.
        order = torch.where(mask, places, places + mask.shape[1]).argsort(dim=1)
        count = mask.sum(dim=1, keepdim=True)
        there = places < count
        backwards = torch.where(there, count - 1 - places, places)
        x = _take(torch.where(mask[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device)), order)
        for index, (one, other) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if index:
                x = self.dropout(x)
            ahead = _read(one, x)
            behind = _take(_read(other, _take(x, backwards)), backwards)
            x = torch.cat([ahead, behind], dim=2) * there[..., None]
        return (_take(x, order.argsort(dim=1)) * mask[..., None])[:, :-1]


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Items of `[B, N, W]` in the order `[B, N]`."""
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


def _read(network: nn.Module, x: Tensor) -> Tensor:
    """A recurrent network's outputs, `[B, N, W]` -> `[B, N, hidden]`.

    In a graph that is being exported they are one node, for torch would make it as many steps as the example has items.
    """
    assert isinstance(network, nn.LSTM | nn.GRU)
    if not torch.compiler.is_exporting():
        read: Tensor = network(x)[0]
        return read
    # Gates stand in another order there: input, output, forget, cell for torch's input, forget, cell, output; and
    # update, reset, new for torch's reset, update, new.
    lstm = isinstance(network, nn.LSTM)
    order = [0, 3, 1, 2] if lstm else [1, 0, 2]

    def gates(name: str) -> Tensor:
        weight = network.get_parameter(name)
        return weight.view(len(order), network.hidden_size, *weight.shape[1:])[order].flatten(0, 1)

    biases = torch.cat([gates("bias_ih_l0"), gates("bias_hh_l0")])
    inputs = [each.unsqueeze(0) for each in (gates("weight_ih_l0"), gates("weight_hh_l0"), biases)]
    attributes: dict[str, Any] = {"hidden_size": network.hidden_size}
    if not lstm:
        attributes["linear_before_reset"] = 1  # as torch has it
    node: Tensor = torch.onnx.ops.symbolic(
        "LSTM" if lstm else "GRU",
        (x.transpose(0, 1), *inputs),
        attributes,
        dtype=x.dtype,
        shape=(x.shape[1], 1, x.shape[0], network.hidden_size),
    )
    return node.squeeze(1).transpose(0, 1)
