"""`python -m mailfleet_workers.cli`."""

import sys

from mailfleet_workers.cli import main

sys.exit(main())
