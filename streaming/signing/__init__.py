"""Who signed an /exchange body: hashing and recovery, pure, without keys and without Django."""
