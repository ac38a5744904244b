"""A script that answers as real providers do, decided by the envelope alone.

Somebody who knows the envelopes knows what happens to each mail. Domains are compared without case, everything not
in this table is accepted.

============================= ===== ==============================================================================
address                       step  what happens
============================= ===== ==============================================================================
sender `@busy.example`        mail  the first `busy_refusals` MAIL commands of this sender are refused with
                                    `550 Sender frequency limited.`, later ones are fine.
                                    Tencent QQ: a 550 for a rate limit, without an enhanced code (fm/smtp-codes
                                    `data/codes/550.json`).
recipient `gone@` any domain  rcpt  `550 5.1.1 <...>: Recipient address rejected: User unknown in virtual mailbox
                                    table`, always. Postfix (sisimai/set-of-emails `lhost-amavis-01.eml`).
recipient `nobody@` any       rcpt  a 550 5.1.1 in three lines, always. Gmail (sisimai/set-of-emails
domain                              `lhost-postfix-31.eml`), without its link.
recipient `@grey.example`     rcpt  greylisting: `450 4.2.0 <...>: Recipient address rejected: Greylisted, please
                                    try again in 4 seconds` until the seconds stated at the first try of this
                                    sender and recipient have passed, then fine for good. The seconds are drawn
                                    from `grey_seconds`, and a try that comes too early is told the rest.
                                    Postfix with postgrey; ZEROSPAM states seconds too (ActiveCampaign/
                                    smtp-field-manual `data/codes/450.json`).
recipient                     data  the connection is closed in place of the 354 at the first mail of this sender
`@cut-before.example`               to this recipient; the next try is fine.
recipient `@busy.example`     eod   the first `busy_refusals` mails, whoever sends them, are refused with
                                    `550 Ip frequency limited [...]`, later ones are fine. Tencent QQ
                                    (sisimai/set-of-emails `rhost-tencent-01.eml`), without its link.
recipient `@quota.example`    eod   `550 5.4.5 Daily user sending limit exceeded.` once `quota_mails` mails of this
                                    user (without AUTH: this sender) were taken within `day_s` seconds. With
                                    `quota_mails` 0, the default, every mail. Gmail: a 550 that means tomorrow
                                    (support.google.com/a/answer/3726730).
recipient                     eod   the mail is taken and the connection closed without an answer at the first
`@cut-after.example`                mail of this sender to this recipient; the next try is answered, and is a
                                    second copy.
============================= ===== ==============================================================================

`cut-before` cuts in place of the 354 and not inside the body: a client that has sent its last bytes, dot included,
before it notices the cut cannot know that the dot never arrived, so what it makes of that would be chance.
Several recipients of one mail: each RCPT by itself; at `eod` busy comes before quota before cut-after.
Everything here is forgotten when the script object is: a restarted server greylists anew.
"""

import math
import random
from collections import Counter

from mailfleet_workers.catcher.actions import Action, Cut, Default, Keep, Say
from mailfleet_workers.catcher.script import Event, Step

GREY = "grey.example"
BUSY = "busy.example"
QUOTA = "quota.example"
CUT_BEFORE = "cut-before.example"
CUT_AFTER = "cut-after.example"
GONE = "gone"
NOBODY = "nobody"

_SENDER_LIMITED = Say(550, "Sender frequency limited.")
_IP_LIMITED = Say(
    550, "Ip frequency limited [V2VkIEFwciAgMyAxNjozNjo1OSBKU1QgMjAxOQo= Blocked IP 192.0.2.22]."
)
_QUOTA_EXCEEDED = Say(550, "5.4.5 Daily user sending limit exceeded.")
_NO_SUCH_USER = Say(
    550,
    "5.1.1 The email account that you tried to reach does not exist. Please try\n"
    "5.1.1 double-checking the recipient's email address for typos or\n"
    "5.1.1 unnecessary spaces.",
)


class Providers:
    """The script of the table above.

    Args:
        rng: the source of the greylisting seconds. They depend on its state now and on sender and recipient, not on
            the order in which mails arrive, so that a seeded run repeats itself with any number of threads.
        grey_seconds: the least and the most whole seconds of greylisting.
        busy_refusals: how often `busy.example` refuses before it is fine.
        quota_mails: how many mails per user and day `quota.example` takes.
        day_s: the length of that day in seconds, counted from a user's first accepted mail.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        grey_seconds: tuple[int, int] = (2, 6),
        busy_refusals: int = 3,
        quota_mails: int = 0,
        day_s: float = 86_400.0,
    ) -> None:
        self._seed = rng.getrandbits(64)
        self._grey_seconds = grey_seconds
        self._busy_refusals = busy_refusals
        self._quota_mails = quota_mails
        self._day_s = day_s
        self._grey_until: dict[tuple[str, str], float] = {}
        self._busy: Counter[str] = Counter()
        self._days: dict[str, tuple[float, int]] = {}
        self._cut: set[tuple[Step, str, str]] = set()

    def __call__(self, event: Event) -> Action:
        match event.step:
            case Step.MAIL if _domain(event.argument) == BUSY:
                return self._refuse_while_busy(event.argument.lower(), _SENDER_LIMITED)
            case Step.RCPT:
                return self._at_rcpt(event)
            case Step.DATA:
                return Cut() if self._cuts_now(event, CUT_BEFORE) else Default()
            case Step.EOD:
                return self._at_eod(event)
            case _:
                return Default()

    def grey_seconds(self, sender: str, recipient: str) -> int:
        """How many seconds *recipient* is greylisted for *sender*, asked or not."""
        pair = f"{self._seed}/{sender.lower()}/{recipient.lower()}"
        return random.Random(pair).randint(*self._grey_seconds)

    def _at_rcpt(self, event: Event) -> Action:
        recipient = event.argument
        local = recipient.rpartition("@")[0].lower()
        if local == GONE:
            text = f"5.1.1 <{recipient}>: Recipient address rejected: User unknown in virtual mailbox table"
            return Say(550, text)
        if local == NOBODY:
            return _NO_SUCH_USER
        return self._greylist(event, recipient) if _domain(recipient) == GREY else Default()

    def _greylist(self, event: Event, recipient: str) -> Action:
        sender = event.sender or ""
        pair = (sender.lower(), recipient.lower())
        if pair in self._grey_until:
            rest = math.ceil(self._grey_until[pair] - event.time)
        else:
            rest = self.grey_seconds(sender, recipient)
            self._grey_until[pair] = event.time + rest
        if rest <= 0:
            return Default()
        return Say(
            450,
            f"4.2.0 <{recipient}>: Recipient address rejected: Greylisted, please try again in {rest} seconds",
        )

    def _at_eod(self, event: Event) -> Action:
        domains = {_domain(recipient) for recipient in event.recipients}
        if BUSY in domains:
            refusal = self._refuse_while_busy("", _IP_LIMITED)
            if refusal != Default():
                return refusal
        if QUOTA in domains and self._over_quota(event):
            return _QUOTA_EXCEEDED
        return Keep(Cut()) if self._cuts_now(event, CUT_AFTER) else Default()

    def _refuse_while_busy(self, whom: str, refusal: Say) -> Action:
        if self._busy[whom] >= self._busy_refusals:
            return Default()
        self._busy[whom] += 1
        return refusal

    def _over_quota(self, event: Event) -> bool:
        who = (event.user or event.sender or "").lower()
        begin, taken = self._days.get(who, (event.time, 0))
        if event.time - begin >= self._day_s:
            begin, taken = event.time, 0
        if taken >= self._quota_mails:
            return True
        self._days[who] = (begin, taken + 1)
        return False

    def _cuts_now(self, event: Event, domain: str) -> bool:
        recipient = next((address for address in event.recipients if _domain(address) == domain), None)
        if recipient is None:
            return False
        pair = (event.step, (event.sender or "").lower(), recipient.lower())
        first = pair not in self._cut
        self._cut.add(pair)
        return first


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()
