"""People as part of what is seen: their points, embedded as a set, beside the token of the picture that they are in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.encoders import Encoder
from models.people import MOST, PERSON, WIDTH

_HIDDEN = 64
# Of clips in training: those whose people, and those whose pictures, are not seen.
_NO_PEOPLE = 0.15
_NO_PICTURES = 0.3


class PeopleEncoder(Encoder):
    """An encoder of frozen picture tokens, and the people in the pictures.

    Items are float32 `[N, W + models.people.WIDTH]`: the token, then the people's numbers. Live they are put together
    by the service, so `prepare` and `each` are those of the picture alone. Tokens are the sum of what the picture says
    and what its people say; where nobody looked for people the latter is exactly nothing.
    """

    def __init__(self, pictures: Encoder) -> None:
        super().__init__()
        self.prepare = pictures.prepare
        self.each = pictures.each
        self.item_width = pictures.item_width + WIDTH
        self.width = pictures.width
        self.over = _Beside(pictures.over, pictures.item_width, pictures.width)


class _Beside(nn.Module):
    """Encoded items `[B, N, W + WIDTH]`, mask and when `[B, N]` -> tokens `[B, N, D]`.

    In training one clip in seven has its people left out: so it is of streams whose people nobody looks for. And of
    three in ten the people alone are seen: scenes are learned by heart more easily than postures, and each has to tell
    by itself (Neverova et al., "ModDrop", 2016).
    """

    def __init__(self, pictures: nn.Module, item_width: int, width: int) -> None:
        super().__init__()
        self.pictures = pictures
        self.people = PeopleSet(width)
        self.item_width = item_width

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        seen: Tensor = self.pictures(x[..., : self.item_width], mask, when)
        people = x[..., self.item_width :]
        people = torch.where(mask.unsqueeze(-1), people, torch.zeros_like(people))
        told: Tensor = self.people(people)
        if not self.training:
            return seen + told
        draw = torch.rand(len(x), 1, 1, device=x.device)
        # Where nobody looked the picture is all there is.
        alone = (draw >= 1 - _NO_PICTURES) & (people[..., :1] > 0)
        return torch.where(alone, told, seen + told * (draw >= _NO_PEOPLE))


class PeopleSet(nn.Module):
    """Numbers of people `[B, N, WIDTH]` -> `[B, N, D]`: each person through the same two layers, then the greatest and
    the sum of them all, so that their order means nothing (Zaheer et al., "Deep Sets", 2017), and how that differs from
    the picture before. 0 where nobody looked.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.person = nn.Sequential(nn.Linear(PERSON, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU())
        self.linear = nn.Linear(4 * _HIDDEN + 1, width)
        # Their few numbers would be a hundredth of what 1280 of a picture make of a token.
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        looked, age = x[..., :1], x[..., 1:2]
        people = torch.unflatten(x[..., 2:], -1, (MOST, PERSON))
        there = (people[..., :1] > 0).to(x.dtype)
        each = self.person(people) * there
        all_of_them = torch.cat([each.amax(dim=-2), each.sum(dim=-2)], dim=-1)
        changed = (all_of_them - _before(all_of_them)).abs() * looked * _before(looked)
        told: Tensor = self.norm(self.linear(torch.cat([all_of_them, changed, age], dim=-1))) * looked
        return told


def _before(x: Tensor) -> Tensor:
    """`[B, N, W]`, each place with what stood one before; zeros in the first."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
