"""For subscribers (PLC bridges, dashboards): each verdict once, with every loss and doubt made plain.

Plain Python and pyzmq; loads nothing else of this package. Only `Verdict.passed` lets a part through.
"""

from inspector.client.events import (
    Event,
    Gap,
    HeartbeatBack,
    HeartbeatLost,
    Lost,
    Refused,
    Restarted,
    StatusChanged,
    Verdict,
)
from inspector.client.keys import KeyFileError
from inspector.client.subscriber import Subscriber

__all__ = [
    "Event",
    "Gap",
    "HeartbeatBack",
    "HeartbeatLost",
    "KeyFileError",
    "Lost",
    "Refused",
    "Restarted",
    "StatusChanged",
    "Subscriber",
    "Verdict",
]
