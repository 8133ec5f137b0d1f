"""When the garbage collector looks at everything: where ten thousand connections live, that takes 0.2 s.

By itself Python does it whenever a quarter more is there than at the last time, which is while subscribers come and
nothing is garbage. What they leave behind is: a closed connection's transport knows itself. So it is done after a
number of them have gone, and now and then for whatever else there may be.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

_POLL_S = 1.0
_AFTER_GONE = 2_000
_AFTER_S = 3600.0
# Larger than any number of young collections: the oldest generation is left to `collect_garbage`.
_NEVER = 1_000_000_000


async def collect_garbage(departed: Callable[[], int]) -> None:
    """See to this process's garbage for ever; `departed` is how many connections have ended so far."""
    loop = asyncio.get_running_loop()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    seen, last_s = departed(), loop.time()
    while True:
        await asyncio.sleep(_POLL_S)
        if departed() - seen >= _AFTER_GONE or loop.time() - last_s >= _AFTER_S:
            gc.collect()
            seen, last_s = departed(), loop.time()
