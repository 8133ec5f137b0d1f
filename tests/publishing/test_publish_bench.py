"""`streamer bench publish` measures the real publisher and says so in one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_last_line_is_the_result() -> None:
    """At a small rate everything is in the store, with its times, conditions and the baselines of the same run."""
    command = [sys.executable, "-m", "streamer", "bench", "publish", "--rate", "100", "--seconds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert 0 < result["per_second"] <= 100
    assert result["flat_out_per_second"] > 0
    for figures in (result, result["baseline"], result["handing_over"]):
        assert 0 <= figures["p50_ms"] <= figures["p99_ms"] <= figures["p999_ms"] <= figures["max_ms"]
    assert result["baseline"]["flat_out_per_second"] > 0
    assert result["input"]["streams"] == 50
    assert {"machine", "cores", "commit", "versions", "command"} <= result.keys()
