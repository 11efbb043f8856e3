"""The demo web: a few hundred made-up pages on a dozen hosts, on loopback, by `python -m shoal.demo`."""
