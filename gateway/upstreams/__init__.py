"""The HTTP endpoints of the upstreams, as the edge uses them."""
