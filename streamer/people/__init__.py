"""Who is in the picture, over time: from what was seen in single pictures to people, places and events. Pure.

`watch` is the door; `track` follows people from picture to picture, `places` says where they stand and what they cross,
`posture` how they stand; `book` keeps the events.
"""
