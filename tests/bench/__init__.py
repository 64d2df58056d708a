"""The relay measured beside other servers, in one run: `python -m tests.bench` (`make bench`)."""
