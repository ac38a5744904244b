"""`python -m tests.promise`: write what the last runs found into `docs/promise.md`.

`build/kill-table.json` comes from the tests of the kill table and of the pause table, `build/torture.json` from
`make torture`. A table whose run is not there, or not complete, or broke the promise, stays as it is; the exit status is 1 then.
"""

import json
import sys

from tests.promise.cell import Harm
from tests.promise.page import IncompleteError, UnfitError, storm, table, write
from tests.promise.result import FILE, load

TORTURE = FILE.with_name("torture.json")


def main() -> int:
    """Rewrite every region that there is a run for; 0 when there was one for each."""
    status = 0
    results = load()
    for harm in Harm:
        try:
            write({harm.value: table(harm, results)})
        except IncompleteError as missing:
            print(f"{FILE.name}: no result for {missing}", file=sys.stderr)
            status = 1
    if TORTURE.exists():
        try:
            write({"storm": storm(json.loads(TORTURE.read_text()))})
        except UnfitError as unfit:
            print(f"{TORTURE.name}: {unfit}", file=sys.stderr)
            status = 1
    else:
        print(f"{TORTURE.name} is not there: run `make torture`", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
