"""Every limit on a customer's socket and every code we close one with, in one place.

The official dialect has no close codes of its own; standard ones are used wherever one fits. 4008
is the exception that customers are promised: it can only be ours, so a bot knows that it was too
slow and not that the exchange went away.
"""

from enum import IntEnum

#: Connections not let in yet: a storm of 2,000 reconnects waits in the kernel, not at customers.
MAX_WAITING_CONNECTIONS = 4_096
#: The largest HTTP body of any path; `/info` takes less.
MAX_HTTP_BODY_BYTES = 1024 * 1024
#: RFC 6455: a client frame larger than this closes with 1009.
MAX_INBOUND_FRAME_BYTES = 64 * 1024
#: Client frames per minute, and how many may come at once (clients resubscribe all at once after a
#: reconnect).
INBOUND_PER_MINUTE = 2_000
INBOUND_BURST = 1_000
#: Refused frames, beyond 2,000 a minute more, after which a flooding client is closed.
MAX_REFUSED_FRAMES = 1_000
#: Frames received but not yet handled; beyond it the socket is not read.
MAX_UNREAD_FRAMES = 64
#: `post` requests that wait for their answer.
MAX_POSTS = 100
#: Bytes held for one customer who does not read: waiting frames and what the transport still has.
MAX_OUTBOUND_BYTES = 1024 * 1024
#: A customer whose socket took nothing for this long is closed, even when conflation keeps them
#: within the bytes.
STALL_LIMIT_S = 10.0
#: How long a closing socket may take to read what is on its way (and the close frame behind it).
CLOSE_LINGER_S = 30.0
#: Frames joined into one write at most (one frame may be larger).
MAX_WRITE_BYTES = 256 * 1024


class CloseCode(IntEnum):
    """Why we end a connection."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY = 1008  # key revoked, expired or suspended; a flood; nothing asked for
    TOO_BIG = 1009
    INTERNAL = 1011
    SLOW = 4008
    MUTE = 4408  # nothing was asked for within `RELAY_MUTE_S`; in the relay dialect alone
    UNREADABLE = 4400  # in the relay dialect alone
    QUOTA = 4429  # likewise; 1008 in the official one
