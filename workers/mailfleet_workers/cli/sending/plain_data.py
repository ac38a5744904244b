"""A mail as plain data from a file: what a request to send one would hold."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.files import read_text

#: Attachments come in Base64: a third more than the largest mail has.
MOST_BYTES = 64 * 1024 * 1024


def read_data(name: str) -> Mapping[str, Any]:
    """The JSON object in the file *name*, in standard input if it is `-`. Raises Failure."""
    if name == "-":
        text = sys.stdin.read(MOST_BYTES + 1)
    else:
        path = Path(name)
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise Failure(f"--data: expected at most {MOST_BYTES} bytes")
        text = read_text(path, "--data")
    if len(text) > MOST_BYTES:
        raise Failure(f"--data: expected at most {MOST_BYTES} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"--data: expected a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise Failure(f"--data: expected a JSON object, got {type(found).__name__}")
    return found
