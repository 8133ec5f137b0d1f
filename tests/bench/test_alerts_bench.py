"""`streamer bench alerts` measures the real alerts process and says so in one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_last_line_is_the_result() -> None:
    """A short run: every alert reached the receiver, the storm lost no record and was a handful of messages, and the
    rules were evaluated; with times, conditions and baselines of the same run."""
    options = ["--rate", "20", "--seconds", "1", "--storm", "100", "--pairs", "200"]
    command = [sys.executable, "-m", "streamer", "bench", "alerts", *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    for name in ("first_byte", "acknowledged", "forced_to_disk"):
        figures = result[name]
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert result["storm"]["recorded"] == result["storm"]["streams"] == 100
    assert 1 <= result["storm"]["messages"] <= 10
    assert result["storm"]["recorded_per_second"] > 0
    assert result["rules"]["pairs"] == 200 and result["rules"]["core"] > 0 and result["rules"]["fired"] > 0
    assert result["input"]["rate"] == 20
    assert {"machine", "cores", "commit", "versions", "command"} <= result.keys()
