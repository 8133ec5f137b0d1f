"""streamer: labels for live video and audio, each by its deadline."""

__version__ = "0.1.0"
