"""When the collector looks, and at what."""

from __future__ import annotations

import gc

from streamer.memory import collected_seldom, settled_memory


def test_what_was_loaded_is_not_looked_at_meanwhile() -> None:
    """Within the block everything that was there is out of the collector's sight; after it, it is back."""
    before = gc.get_freeze_count()
    with settled_memory():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0


def test_young_objects_are_looked_at_seldom_for_a_while() -> None:
    """A hundred times as many may be made before a look; afterwards all is as it was."""
    before = gc.get_threshold()
    with collected_seldom():
        assert gc.get_threshold() == (100 * before[0], *before[1:])
    assert gc.get_threshold() == before
