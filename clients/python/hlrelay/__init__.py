"""A client of the relay's gRPC surface whose stream goes on where it was cut."""

from hlrelay.items import Event, Gap, Item, Refused, Update
from hlrelay.relay import Relay
from hlrelay.v1.relay_pb2 import Subscribe

__all__ = ["Event", "Gap", "Item", "Refused", "Relay", "Subscribe", "Update"]
