"""A Hyperliquid in a box, for demos and tests. Imports nothing of the relay, so that they cannot
share a bug.
"""

from streaming.simulator.engine.block import Block, Stream
from streaming.simulator.files.writer import Mode
from streaming.simulator.service import Service, serve
from streaming.simulator.simulation import Settings, Simulator

__all__ = ["Block", "Mode", "Service", "Settings", "Simulator", "Stream", "serve"]
