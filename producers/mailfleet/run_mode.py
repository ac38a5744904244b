"""Mails vote on the run mode of an installation: a mail meant for `product` must not leave a developer's machine.

They vote twice: when they are stored, if the mailer knows the run mode, and when a worker has claimed them. A no at the
first hints nobody and is the row's reason at once; only a worker ends the mail.
"""

from collections.abc import Sequence

#: In this mode only mails without a vote are sent.
NOTHING = "nothing"
#: Every run mode, as TinyMail has them.
RUN_MODES = (NOTHING, "local", "develop", "test", "product")
EXPECTED = "nothing, local, develop, test or product"


def accepts(votes: Sequence[str], run_mode: str) -> bool:
    """Whether a mail with *votes* may be sent in *run_mode*; no vote is yes, compared without case.

    `x` is a yes for mode x; `!x` vetoes mode x, whatever else is there, and is a yes for every other.
    """
    if not votes:
        return True
    mode = run_mode.lower()
    if mode == NOTHING:
        return False
    wanted = [vote.lower() for vote in votes]
    if f"!{mode}" in wanted:
        return False
    return mode in wanted or any(vote.startswith("!") for vote in wanted)


def objection(votes: Sequence[str], run_mode: str) -> str | None:
    """Why a mail with *votes* may not be sent in *run_mode*, None if it may."""
    if accepts(votes, run_mode):
        return None
    return f"run mode: the mail is for {' '.join(votes)}, this is {run_mode}"
