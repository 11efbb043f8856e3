"""`python -m tests.probes > docs/probes.md`: the manifest as a page for people."""

import sys

from tests.probes.words import page

sys.stdout.write(page())
