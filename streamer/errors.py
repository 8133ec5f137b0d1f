"""Errors that a user reads: each names the input that is wrong and the remedy."""

from __future__ import annotations


class StreamerError(Exception):
    """Base of every error this package raises on purpose; its text is one line fit for a user."""


class UserError(StreamerError):
    """The user's input is wrong (exit code 2): a bad option, URL, file or configuration."""


class MediaError(StreamerError):
    """Media that break while they are read, or that could not be had (exit code 1)."""


class WeightsError(StreamerError):
    """Pretrained weights are missing, damaged, or could not be fetched (exit code 1)."""


class StoreError(StreamerError):
    """The store (Redis or Valkey) refused or could not be reached (exit code 1)."""


class AdmissionError(StreamerError):
    """A stream that can't be served within the latency bound beside those there are; its text holds the figure."""


class ConflictError(StreamerError):
    """What is asked for can't be done beside what is there already: somebody else publishes this stream, or its source
    is another."""
