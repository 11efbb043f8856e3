"""`coord export`: what a crawl left, as files that other tools read. Begin with `source.py`, then `formats.py`."""

from coordinator.export.choose import Choice
from coordinator.export.formats import FORMATS, Export
from coordinator.export.source import Source, open_source
from coordinator.export.targets import Target, target_of

__all__ = ["FORMATS", "Choice", "Export", "Source", "Target", "open_source", "target_of"]
