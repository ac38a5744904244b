"""`mailfleet send`: one mail from options or an .eml file, or one for each row of a table."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import Annotated
