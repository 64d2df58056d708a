"""`python -m streaming.hl_gateway`: the gateway on a host that has no relay."""

import sys

from streaming.hl_gateway.command import main

sys.exit(main())
