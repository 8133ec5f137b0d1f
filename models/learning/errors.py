"""What a user of the learning side can get wrong."""

from __future__ import annotations


class LearningError(Exception):
    """Recipe, data or checkpoint can't be used: the message names what and the remedy, in one line."""
