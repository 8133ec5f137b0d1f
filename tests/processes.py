"""Processes as tests look at them. Any of them may end between two looks, which is an answer and no error."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more; one that only waits to be reaped doesn't."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def still_running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    return [process for process in processes if not ended(process)]


def with_word(processes: Iterable[psutil.Process], word: str) -> list[psutil.Process]:
    """Those with `word` in their command line."""

    def said(process: psutil.Process) -> bool:
        try:
            return any(word in part for part in process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return False

    return [process for process in processes if said(process)]
