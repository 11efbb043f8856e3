"""The dashboard: a page for people at the address of `--http`."""

from coordinator.dashboard.routes import HEADERS, Dashboard

__all__ = ["HEADERS", "Dashboard"]
