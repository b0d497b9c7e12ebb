"""The exception tree. Each class says who raises it and what the reaction is."""

from __future__ import annotations


class InspectorError(Exception):
    """Root of everything this package raises on purpose. The command line prints it and exits 1."""


class ConfigError(InspectorError):
    """Raised while loading a station file: unknown key, wrong type, rule broken, port in use.

    Reaction: the command line prints it and exits 78 (EX_CONFIG), which systemd does not restart. Where a start failed
    for what may pass by itself, see `is_transient`, a `StartError` is made of it.

    Attributes:
        field: path of the station file's field at fault, such as ("sockets", "frames"); empty where the message
            names its place by itself.
        transient: it may pass by itself, though no error of the system's was its cause.
    """

    def __init__(self, message: str, *, field: tuple[str, ...] = (), transient: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.transient = transient


class DriverError(ConfigError):
    """Raised when the GPU's driver is older than this build of torch needs. Reaction: as for `ConfigError`."""


class StartError(InspectorError):
    """Raised when a station cannot start for what may pass by itself: a full disk, a port in use, a GPU that is away.

    Reaction: the command line prints it and exits 1; systemd starts it again.
    """


class RecipeError(ConfigError):
    """Raised while loading a recipe: missing file, wrong schema, checksum or weights that do not fit.

    Reaction: as for `ConfigError`; nothing is ever judged with a recipe that failed to load.
    """


class ScoreShiftError(RecipeError):
    """Raised when an engine moves the scores of a recipe's probe too far. The next is tried, else as above."""


class KernelsError(InspectorError):
    """Raised when a GPU cannot run kernels of one kind. Reaction: the next kind is tried, with a warning."""


class WeightsError(InspectorError):
    """Raised when encoder weights cannot be had or do not fit the backbone. Reaction: the command ends."""


class CheckpointError(InspectorError):
    """Raised when a foreign checkpoint cannot be read safely or fits none of our networks. The command ends."""


class TrainingError(InspectorError):
    """Raised when training or calibration cannot go on (too few frames, loss not finite). The command ends."""


class FrameError(InspectorError):
    """Raised for one frame that cannot be judged. Reaction: that frame's verdict is ERROR; the flow goes on."""


class BadFrameError(FrameError):
    """Raised when pixels do not decode or do not fit their header. Verdict ERROR, reason BAD_FRAME."""


class UnsettledFileError(BadFrameError):
    """Raised when a file changed while it was read, or since it was looked at. A watched folder looks again."""


class FrameMismatchError(FrameError):
    """Raised when a sound frame is not what the recipe expects (size, pixel format). ERROR FRAME_MISMATCH."""


class ImageHealthError(FrameError):
    """Raised when a frame's light, focus or colour is not that of good frames. Verdict ERROR, reason IMAGE_HEALTH."""


class UnlikeGoodError(FrameError):
    """Raised when a frame as a whole looks like none of the good ones. Verdict ERROR, reason UNLIKE_GOOD."""


class NotLocatedError(FrameError):
    """Raised when the part is not found in a frame, or not as a whole, or not within limits. ERROR NOT_LOCATED."""


class NotFiniteError(FrameError):
    """Raised when an anomaly map holds NaN or infinity. Verdict ERROR, reason NOT_FINITE."""


class DeviceOutOfMemoryError(InspectorError):
    """Raised when the device is out of memory even at half the tile batch. ERROR OUT_OF_MEMORY."""


class DeviceFaultError(InspectorError):
    """Raised by any other device error: the process is poisoned. ERROR INFERENCE_FAULT, then FAULT, then exit."""


class SourceError(InspectorError):
    """Base class of all errors of a source."""


class NotConnectedError(SourceError):
    """Raised by `connect` or `read` when the camera is away. Reaction: close, back off, connect again."""


class SourceExhaustedError(SourceError):
    """Raised by `read` when a finite source (a folder, a video file) has no more frames. The thread finishes."""


class UnidentifiedFrameError(SourceError):
    """Raised by `read` for a message that names no camera of this station: counted by cause and logged, no verdict.

    Attributes:
        cause: a closed set, for the metric's label: parts, header, camera.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class MessageRefusedError(SourceError):
    """Raised for a message its sender may not send: too many parts, too fast, or its key is not for that.

    Reaction: counted by cause and logged, undecoded; no verdict. Who waits for an answer is told.

    Attributes:
        cause: a closed set, for the metric's label: parts, rate, permission.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class JournalError(InspectorError):
    """Raised when the journal cannot be written or read.

    Reaction: verdicts are ERROR and the state DEGRADED until it can be written again; the command line exits 1.
    """


class EvidenceError(InspectorError):
    """Raised when an image cannot be kept: disk too full, not writable. It is given up; the state is DEGRADED."""
