"""What usage costs: pure arithmetic over prices, periods and counts. No Django, clock or I/O."""
