"""The engine's blocks as a node writes them to disk, and the snapshot a node answers."""
