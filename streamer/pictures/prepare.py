"""What finds faces and heads, made ready for the process that makes pictures."""

from __future__ import annotations

import logging
from pathlib import Path

from models import weights
from models.packages import FACES, PEOPLE
from streamer.errors import WeightsError
from streamer.peoplegraph import people_graph
from streamer.pictures.job import Detectors

log = logging.getLogger(__name__)


def find_detectors(folder: Path | None, *, is_told: bool = False) -> Detectors | None:
    """What there is of them; None without what finds faces. What is missing, and why, goes to the log. Blocking.

    Args:
        folder: where the weights are, None: fetched where they are not in the cache.
        is_told: that heads are not found needs no saying again.
    """
    found = weights.fetch(folder, packages=(FACES, PEOPLE))
    if "faces" not in found.files:
        log.warning(
            "no pictures of alerts are made: without a detector of faces none can be blurred; %s",
            found.missing[FACES.name],
        )
        return None
    why = found.missing.get(PEOPLE.name)
    heads = None
    if why is None:
        try:
            heads = people_graph(found.files["people"])
        except WeightsError as error:
            why = str(error)
    if why is not None and not is_told:
        log.warning("in pictures of alerts faces are blurred, and heads without a face to be seen are not; %s", why)
    return Detectors(str(found.files["faces"]), None if heads is None else str(heads))
