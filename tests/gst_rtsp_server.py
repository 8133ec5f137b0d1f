"""GStreamer's RTSP server as a program for the system's Python, which has its bindings.

Reads one line of JSON from standard input, `{"address": "127.0.0.1", "port": 0, "mounts": {"/live": {"launch":
"( ... )", "shared": true, "protocols": "udp" | "tcp" | "any"}}, "user": null | ["name", "password"]}`, prints its port,
and ends when standard input closes.
"""

import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PROTOCOLS = {
    "udp": GstRtsp.RTSPLowerTrans.UDP,
    "tcp": GstRtsp.RTSPLowerTrans.TCP,
    "any": GstRtsp.RTSPLowerTrans.UDP | GstRtsp.RTSPLowerTrans.TCP,
}


def add_mounts(server, mounts, role):
    for path, mount in mounts.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(mount["launch"])
        factory.set_shared(mount.get("shared", False))
        factory.set_protocols(PROTOCOLS[mount.get("protocols", "any")])
        if role is not None:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role(role, "media.factory.access", True)
            permissions.add_permission_for_role(role, "media.factory.construct", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)


def require_login(server, name, password):
    """Both ways a camera asks: digest, and basic for a client that knows no other."""
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_digest(name, password, token)
    server.set_auth(auth)
    return "user"


def main():
    config = json.loads(sys.stdin.readline())
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(config["address"])
    server.set_service(str(config["port"]))
    role = require_login(server, *config["user"]) if config.get("user") else None
    add_mounts(server, config["mounts"], role)
    loop = GLib.MainLoop()
    if server.attach(None) == 0:
        sys.exit(f"port {config['port']} is taken")
    print(server.get_bound_port(), flush=True)
    # Sessions of clients that went away without a word would otherwise stay for a minute.
    GLib.timeout_add_seconds(1, lambda: server.get_session_pool().cleanup() >= 0)
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
