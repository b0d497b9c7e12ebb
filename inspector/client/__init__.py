"""For subscribers (PLC bridges, dashboards): each verdict once, with every loss and doubt made plain.

Plain Python and pyzmq; loads nothing else of this package. Only `Verdict.passed` lets a part through.
"""

from inspector.client.events import (
    Event,
    Foreign,
    Gap,
    HeartbeatBack,
    HeartbeatLost,
    Lost,
    Malformed,
    Refused,
    Restarted,
    StatusChanged,
    Verdict,
)
from inspector.client.keys import KeyFileError
from inspector.client.subscriber import Subscriber, SubscriberError

__all__ = [
    "Event",
    "Foreign",
    "Gap",
    "HeartbeatBack",
    "HeartbeatLost",
    "KeyFileError",
    "Lost",
    "Malformed",
    "Refused",
    "Restarted",
    "StatusChanged",
    "Subscriber",
    "SubscriberError",
    "Verdict",
]
