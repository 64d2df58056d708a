"""The sandbox: the customers' paths once more, in front of a simulated exchange. Nothing here knows
an address of the real one."""
