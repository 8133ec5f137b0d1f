"""The websocket side: `/v1/subscribe` for any number of subscribers, fed from the store's feed alone, as a process.

`python -m streamer.hub` is that process (`__main__`), `process` starts it and keeps it there, `server` is its whole.
"""
