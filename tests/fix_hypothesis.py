"""How property tests search: the same examples in CI every time, new ones on a developer's machine."""

import os

import hypothesis

# Examples get no deadline of their own: machines that run several things at once are slow at times, and the deadline
# of the whole test catches what hangs.
hypothesis.settings.register_profile("developer", deadline=None, print_blob=True)
# A red CI run must come from the change under test; an example found by chance belongs to nobody.
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")
