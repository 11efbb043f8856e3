"""`coord audit`: the ledger worked out again from disk alone. Begin with `ledger.py`."""

from coordinator.audit.ledger import audit
from coordinator.audit.report import Report

__all__ = ["Report", "audit"]
