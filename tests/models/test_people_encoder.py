"""People beside what is seen: a set, and exactly nothing where nobody looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from models import export
from models.frozen import FrozenEncoder
from models.learning.batch import Part
from models.people import MOST, PERSON, WIDTH
from models.people_encoder import PeopleEncoder

SEEN = 1280
D = 8


def encoder(*, change: bool = False) -> PeopleEncoder:
    torch.manual_seed(0)
    return PeopleEncoder(FrozenEncoder("video", D, change)).eval()


def items(clips: int = 2, count: int = 3) -> Tensor:
    """Pictures with two people each, one of them in the first clip's last picture."""
    torch.manual_seed(1)
    x = torch.randn(clips, count, SEEN + WIDTH)
    x[..., SEEN] = 1.0
    x[..., SEEN + 2 :] = 0.0
    x[..., SEEN + 2 : SEEN + 2 + 2 * PERSON] = torch.rand(clips, count, 2 * PERSON) + 0.1
    x[0, -1, SEEN + 2 + PERSON :] = 0.0
    return x


def tokens(of: PeopleEncoder, x: Tensor, mask: Tensor | None = None) -> Tensor:
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        return of.tokens(Part(x, mask, torch.arange(x.shape[1]).expand(len(x), -1) / 4)).x


def test_the_order_of_people_does_not_matter() -> None:
    """The same people in another order give the same tokens, another person others."""
    x, own = items(), encoder()
    turned = x.clone()
    people = turned[..., SEEN + 2 :].unflatten(-1, (MOST, PERSON)).flip(-2)
    turned[..., SEEN + 2 :] = people.flatten(-2)
    torch.testing.assert_close(tokens(own, turned), tokens(own, x))
    another = x.clone()
    another[..., SEEN + 3] += 1.0
    assert (tokens(own, another) - tokens(own, x)).abs().max() > 1e-3


def test_where_nobody_looked_the_picture_speaks_alone() -> None:
    """With nobody looking, the tokens are exactly those of the picture; that nobody was found is something else."""
    x, own = items(), encoder()
    unlooked, nobody = x.clone(), x.clone()
    unlooked[..., SEEN:] = 0.0
    nobody[..., SEEN + 1 :] = 0.0
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        seen = own.over.pictures(x[..., :SEEN], mask, mask.float())
    assert torch.equal(tokens(own, unlooked), seen)
    assert (tokens(own, nobody) - seen).abs().max() > 1e-3


def test_what_is_not_there_may_be_anything() -> None:
    """Contents under False change nothing, not-a-number included, with either kind of picture token."""
    for change in (False, True):
        own, x = encoder(change=change), items()
        mask = torch.tensor([[True, True, True], [True, True, False]])
        broken = x.clone()
        broken[1, 2] = torch.nan
        torch.testing.assert_close(tokens(own, broken, mask)[mask], tokens(own, x, mask)[mask])


def test_in_training_each_has_to_tell_by_itself() -> None:
    """Of some clips the people are left out, of some the pictures, whole clips at a time; where nobody looked the
    pictures stay. In use nothing is left out."""
    torch.manual_seed(3)
    own, x = encoder(), items(400, 2)
    whole, mask = tokens(own, x), torch.ones(400, 2, dtype=torch.bool)
    with torch.no_grad():
        seen = own.over.pictures(x[..., :SEEN], mask, mask.float())
    trained = tokens(own.train(), x)

    def count(wanted: Tensor) -> int:
        return int(torch.isclose(trained, wanted, atol=1e-6).flatten(1).all(dim=1).sum())

    assert 35 < count(seen) < 90 and 90 < count(whole - seen) < 150
    assert count(whole) + count(seen) + count(whole - seen) == 400
    x[..., SEEN:] = 0.0
    assert torch.equal(tokens(own, x), seen)


def test_it_exports_as_it_is(tmp_path: Path) -> None:
    """Its graph gives torch's tokens, for any number of clips and pictures."""

    class Over(nn.Module):
        def __init__(self, own: PeopleEncoder) -> None:
            super().__init__()
            self.over = own.over

        def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
            made: Tensor = self.over(x, mask > 0, when)
            return made

    own, axes = encoder(), [{0: "batch", 1: "frames"}] * 3
    example = {"x": items(3, 4), "mask": torch.ones(3, 4), "when": torch.zeros(3, 4)}
    export._write(Over(own), export._Shape(example, axes, ["tokens"]), tmp_path / "over.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "over.onnx"), providers=["CPUExecutionProvider"])
    for clips, count in ((1, 1), (2, 7)):
        x = items(clips, count)
        feeds = {
            "x": x.numpy(),
            "mask": np.ones((clips, count), np.float32),
            "when": np.zeros((clips, count), np.float32),
        }
        taken = {entry.name: feeds[entry.name] for entry in session.get_inputs()}
        np.testing.assert_allclose(session.run(["tokens"], taken)[0], tokens(own, x).numpy(), atol=1e-5)
