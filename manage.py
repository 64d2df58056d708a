#!/usr/bin/env python
"""Entry point of every process of the relay: `manage.py <command>`."""

import gc
import os
import sys


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_site.settings")
    # All that is imported stays: to look for garbage in it takes a sixth of a start.
    # `RelaySiteConfig.ready` begins to.
    gc.disable()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
