"""The HTTP side: page, API, WHIP; errors as problems."""
