"""A network camera: GStreamer's own RTSP server, H.264. Run as a program: PORT WIDTH HEIGHT; without: what it lacks."""

from __future__ import annotations

import sys
import warnings

PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi and gstreamer1.0-plugins-base, -good, -ugly"
"""Debian's."""


def find_lack() -> str:
    """Why it cannot run here; empty: it can. GStreamer stays in this process, and OpenCV's crashes beside it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how PyGObject makes its modules
            import gi

            gi.require_version("Gst", "1.0")
            gi.require_version("GstRtspServer", "1.0")
            from gi.repository import Gst
    except (ImportError, ValueError) as error:
        return f"{error} (Debian packages {PACKAGES})"
    Gst.init(None)
    absent = [name for name in ("videotestsrc", "x264enc", "rtph264pay") if Gst.ElementFactory.find(name) is None]
    return f"GStreamer has no {', '.join(absent)} (Debian packages {PACKAGES})" if absent else ""


def serve(port: int, width: int, height: int) -> None:
    """Until it is killed; says so once it listens."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate=15/1 "
        "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 "
        "! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )
    factory.set_shared(True)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is in use")
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__" and len(sys.argv) > 1:
    serve(*map(int, sys.argv[1:]))
elif __name__ == "__main__":
    sys.stdout.write(find_lack())
