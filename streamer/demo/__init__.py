"""What `streamer demo` shows when it is given no camera: a clip of known things, looped by a local RTSP camera."""
