"""What an attempt comes to when a hook says stop: one pure decision about its outcome.

Only a mail that would be sent again can be stopped. One that is through stays as it is; so does a doubt, because a server
may have the mail: its policy, and then whoever looks at it, decides.
"""

from collections.abc import Sequence
from dataclasses import replace

from mailfleet_schema.reasons import HOOK
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.states import State
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.outcome_recipients import still_open


def stopped(
    outcome: Outcome, *, before: Sequence[Recipient] = (), copies: int = 0, note: str | None = None
) -> Outcome:
    """*outcome* without a further try or copy; as it is where none would come.

    *before* is what earlier attempts at this copy made of single recipients, *copies* how many copies were out before it,
    and *note* why not everybody gets an accepted one, as `decide` knows them.
    """
    settlement = outcome.settlement
    if settlement.state is not State.QUEUED:
        return outcome
    # Nobody is tried again: who is still open has been refused, as at the end of all failures.
    recipients = tuple(
        replace(one, outcome="refused") if one.outcome == "open" else one for one in outcome.recipients
    )
    recipients += still_open(before, recipients)
    ended = replace(settlement, due_in_s=None)
    if outcome.accepted or any(one.outcome == "accepted" for one in before):
        now = {one.address: one.outcome for one in (*before, *recipients)}
        # Whoever refused a redirected mail was none of its recipients.
        partial = "refused" in now.values() and note != "redirected"
        reason = "partial" if partial else note or HOOK
        ended = replace(ended, state=State.SENT, dones=1, reason=reason)
    elif copies:
        ended = replace(ended, state=State.SENT, reason=HOOK)
    else:
        ended = replace(ended, state=State.FAILED, reason=HOOK)
    return replace(outcome, settlement=ended, recipients=recipients, forget_recipients=False)
