"""`streamer pretrain`: encoders and fusion of a recipe, learned from clips that nobody labelled."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from streamer.commands import learning_options
from streamer.errors import UserError


@click.command()
@click.argument("recipe")
@click.option(
    "--method",
    type=click.Choice(["masked", "gan", "contrastive"]),
    required=True,
    help="masked: hidden items are told from the rest. contrastive: sound and picture of one clip are found among "
    "others'. gan: made-up clips are told from real ones (for frozen encoders).",
)
@learning_options.data
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Where to.  [default: learned/NAME-METHOD]"
)
@learning_options.minutes
@learning_options.seed
@click.option("--resume", is_flag=True, help="Go on where one in the folder was stopped or killed.")
@learning_options.weights
@learning_options.as_json
def pretrain(
    recipe: str,
    method: str,
    folder: Path | None,
    out: Path | None,
    minutes: float | None,
    seed: int | None,
    resume: bool,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Learn a recipe's encoders and fusion from clips without labels.

    RECIPE is as `streamer train` takes it, the folder too, or just media side by side; labels are not looked at. What
    it leaves is what a recipe starts from:

    \b
    streamer pretrain my-sounds.toml --method masked --data all-clips/
    # my-sounds.toml: start = "learned/my-sounds-masked/my-sounds.safetensors"
    streamer train my-sounds.toml --data labelled-clips/

    Whether it helps depends on how many labels there are: measure it (runs/pretrain.sh).
    """
    from models.learning.errors import LearningError
    from models.learning.pretrain import loop
    from models.learning.recipe import find, read
    from models.learning.sets import from_clips
    from models.learning.train import chosen_device
    from streamer.commands.progress import Bars, interruptible
    from streamer.commands.train import sources_of

    try:
        found = read(find(recipe))
        changed = {name: value for name, value in (("seed", seed), ("minutes", minutes)) if value is not None}
        found = dataclasses.replace(found, train=dataclasses.replace(found.train, **changed))  # type: ignore[arg-type]
        if folder is None and not found.data.folder:
            raise UserError(f"{found.name}: the recipe names no folder of clips; give it with --data FOLDER")
        target = out or Path("learned") / f"{found.name}-{method}"
        if not resume and loop.unfinished(target):
            raise UserError(
                f"{target}: holds a pretraining that has not ended; go on with --resume, or name another --out"
            )
        reads, clips = loop.unlabelled(found, folder or Path(found.data.folder))
        with Bars() as bars, interruptible() as stop:
            data = from_clips(
                reads, clips, sources_of(found, weights), lambda done, of: bars.show("features", done, of)
            )
            bars.say(f"clips: {len(data.train)} to learn from, {len(data.validation)} kept apart")
            hooks = loop.Hooks(
                lambda done, of: bars.show(method, done, of), stop, resume, device=str(chosen_device(""))
            )
            done = loop.pretrain(reads, data, target, method, hooks)
    except LearningError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; name another folder with --out") from error
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(done), "checkpoint": str(done.checkpoint), "page": str(done.page)}))
    else:
        click.echo(
            f"held-out loss {done.held_out:.4g} at epoch {done.epoch}, {done.seconds:.0f} s, ended by {done.ended}"
        )
        click.echo(f"checkpoint: {done.checkpoint}\ncurves:     {done.page}")
    if done.ended == "stopped":
        click.echo("stopped; --resume goes on from the last whole epoch", err=True)
        raise SystemExit(130)
