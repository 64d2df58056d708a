"""What is free for everybody, whatever their plan: rating, the doors and spend caps agree on it."""

from __future__ import annotations

from typing import Final

#: Reasons that no price list can charge: what was read from a log again, a state that is sent again
#: because what was told before it was wrong, and what the customer's own pages show. A meter's
#: `zero_rated` names further ones.
ALWAYS_FREE: Final = ("replay", "resync", "dashboard")
