"""`python -m worker` is `worker`; so is this file run by its path, whatever else stands on the user's path."""

import os
import sys

# Run by its path, Python puts this file's own folder on the path, not the one above it.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from shoal.entry import worker

if __name__ == "__main__":  # a spawned child reads this file again under another name
    worker()
