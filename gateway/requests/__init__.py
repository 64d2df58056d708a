"""Records of what was refused or failed at the HTTP edge: noted in memory, written in bulk."""
