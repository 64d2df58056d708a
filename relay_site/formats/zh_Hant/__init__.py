"""Traditional Chinese: the same as English, since all times are UTC and are to be compared."""
