"""Fusions: from the tokens of a window, of any of its modalities, to what the window is and what that rests on."""
