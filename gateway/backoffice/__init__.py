"""The cockpit: operators' pages that need more than one app."""
