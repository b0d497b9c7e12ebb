"""For programs beside a station: `Subscriber` gives each verdict once, with every loss and doubt made plain, for PLC
bridges and dashboards; `Sender` sends frames; `Requester` fires triggers and takes cameras offline.

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
from inspector.client.requester import Requester, RequestRefusedError
from inspector.client.sender import FrameRefusedError, Sender
from inspector.client.subscriber import Subscriber, SubscriberError

__all__ = [
    "Event",
    "Foreign",
    "FrameRefusedError",
    "Gap",
    "HeartbeatBack",
    "HeartbeatLost",
    "KeyFileError",
    "Lost",
    "Malformed",
    "Refused",
    "RequestRefusedError",
    "Requester",
    "Restarted",
    "Sender",
    "StatusChanged",
    "Subscriber",
    "SubscriberError",
    "Verdict",
]
