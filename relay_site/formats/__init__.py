"""How the admin writes dates, in place of the locale's own."""
