"""The table of rules on replies that real servers gave: class, who waits, and how long."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.classify import Rules, classify
from mailfleet_workers.classify.stated import queue_id
from mailfleet_workers.smtp.base import Answer, Envelope, Phase, Reply
from mailfleet_workers.smtp.message import InMemory
from mailfleet_workers.verdict import Scope, Stop, Verdict, Wait

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules.builtin()
ANY = "mail.example.com"
GOOGLE, MICROSOFT = "smtp.gmail.com", "smtp.office365.com"
NETEASE, QQ, YAHOO = "smtp.163.com", "smtp.qq.com", "smtp.mail.yahoo.com"


def _verdict(host: str, phase: Phase, reply: Reply) -> Verdict:
    address = "ada@example.net"
    answer = Answer(phase, reply, recipients={address: reply} if phase is Phase.RCPT else {})
    envelope = Envelope("me@example.com", (address,), InMemory(b"\r\n"))
    return classify(answer, envelope, host=host, rules=RULES, now=NOW).verdict


# Expected: "stop", "retry", or "wait SCOPE SECONDS".
ROWS = [
    # Before MAIL: never this mail's fault.
    (ANY, "connect", 554, "5.7.1 Blocked by DNSBL", "wait host 14400"),
    (ANY, "connect", 421, "4.7.0 mx Error: too many connections from 192.0.2.1", "wait host 60"),
    (ANY, "connect", 421, "Too many spams from your IP (192.0.2.1)", "wait host 3600"),
    (ANY, "connect", 554, "mx Nemesis ESMTP Service not available\nBad DNS PTR resource record.", "wait host 86400"),
    (ANY, "connect", 554, "Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", "wait host 14400"),
    (YAHOO, "connect", 553, "5.7.1 [BL21] Connections will not be accepted from 192.0.2.1", "wait host 86400"),
    (QQ, "connect", 550, "Connection frequency limited", "wait host 60"),
    (NETEASE, "connect", 421, "HL:REP", "wait host 3600"),
    (NETEASE, "connect", 421, "HL:ICC", "wait host 300"),
    (GOOGLE, "auth", 535, "5.7.8 Username and Password not accepted.", "wait account 3600"),
    (GOOGLE, "auth", 454, "4.7.0 Too many login attempts, please try again later.", "wait account 900"),
    (MICROSOFT, "auth", 432, "4.3.2 Concurrent connections limit exceeded.", "wait account 60"),
    (MICROSOFT, "auth", 550, "5.7.30 Basic authentication is not supported.", "wait account 86400"),
    (ANY, "auth", 550, "Too many messages. Try again in 92 seconds.", "wait account 92"),
    (ANY, "auth", 550, "Account locked for 30 minutes", "wait account 1800"),
    # Who sends.
    (GOOGLE, "mail", 530, "5.7.0 Must issue a STARTTLS command first.", "wait account 3600"),
    (MICROSOFT, "mail", 530, "5.7.57 Client not authenticated to send mail.", "wait account 3600"),
    (MICROSOFT, "mail", 550, "5.7.60 Client does not have permissions to send as this sender.", "stop"),
    (MICROSOFT, "eod", 550, "5.7.705 Access denied, tenant has exceeded threshold.", "wait account 86400"),
    (QQ, "mail", 501, "Mail from address must be same as authorization user.", "stop"),
    (ANY, "mail", 440, "mail from account doesn't conform with authentication", "stop"),
    (ANY, "eod", 554, "5.1.8 Email Outgoing Blocked", "wait account 86400"),
    (ANY, "eod", 554, "Sending suspended for this account.", "wait account 86400"),
    (ANY, "rcpt", 535, "Mail server has been suspended", "wait account 86400"),
    (ANY, "eod", 550, "5.4.6 Unusual sending activity detected.", "wait account 86400"),
    # Quotas and rates, whatever the code.
    (GOOGLE, "eod", 550, "5.4.5 Daily user sending limit exceeded.", "wait account 86400"),
    (MICROSOFT, "eod", 554, "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceeded", "wait account 86400"),
    (QQ, "mail", 550, "Sender frequency limited.", "wait account 3600"),
    (QQ, "eod", 550, "Ip frequency limited [x Blocked IP 192.0.2.22].", "wait host 3600"),
    (NETEASE, "mail", 451, "MI:SFQ", "wait account 900"),
    (NETEASE, "rcpt", 550, "RP:TRC", "wait account 86400"),
    (ANY, "data", 454, "Throttling failure: Maximum sending rate exceeded.", "wait account 5"),
    (ANY, "rcpt", 550, "Domain x.example has exceeded the max emails per hour (313/250)", "wait account 3600"),
    (ANY, "rcpt", 550, "User has exceeded its 24-hour sending limit.", "wait account 86400"),
    (ANY, "rcpt", 450, "4.7.1 <a@x.example>: Too many messages from sender in last 60", "wait account 60"),
    (ANY, "rcpt", 450, "mailbox unavailable\nMail send limit exceeded.", "wait account 3600"),
    (ANY, "rcpt", 554, "5.7.1 Policy Rejection: Quota exceeded.", "wait account 3600"),
    (ANY, "eod", 421, "Domain x is not allowed to send: limit exceeded, try again after Sun, 01 Mar 2026 12:10:00 UTC", "wait account 600"),
    (YAHOO, "mail", 421, "4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred", "wait host 7200"),
    (YAHOO, "mail", 421, "Max message per connection reached, closing transmission channel", "retry"),
    # Block lists: the address that sends, or what is in the mail.
    (ANY, "rcpt", 554, "5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org", "wait host 14400"),
    (ANY, "rcpt", 554, "5.7.1 Sender address [a@x.example] blocked using dbl.spamhaus.org", "stop"),
    (ANY, "mail", 550, "5.1.0 <a@x.example> sender rejected. AUP#CDRBL", "wait host 86400"),
    (GOOGLE, "eod", 550, "5.7.1 Our system has detected an unusual rate of\n5.7.1 unsolicited mail originating from your IP address.", "wait host 3600"),
    # Recipients.
    (GOOGLE, "rcpt", 550, "5.1.1 The email account that you tried to reach does not exist.", "stop"),
    (GOOGLE, "rcpt", 550, "5.2.1 The user you are trying to contact is receiving mail at a rate that\n5.2.1 prevents additional messages", "wait recipient 1800"),
    (GOOGLE, "rcpt", 452, "4.2.2 The recipient's inbox is out of storage space.", "wait recipient 86400"),
    (GOOGLE, "rcpt", 552, "5.2.2 The recipient's inbox is out of storage space and inactive.", "stop"),
    (GOOGLE, "rcpt", 452, "4.5.3 Your message has too many recipients.", "retry"),
    (ANY, "rcpt", 552, "too many recipients", "retry"),
    (ANY, "rcpt", 550, "5.5.3 Too many recipients", "stop"),
    (ANY, "rcpt", 450, "4.2.0 <b@x.example>: Recipient address rejected: Greylisted", "wait recipient 300"),
    (ANY, "rcpt", 450, "4.7.1 Message delayed by greylisting. Come back in 4 minutes", "wait recipient 240"),
    (ANY, "rcpt", 450, "4.1.1 <b@x.example>: unverified address: Address verification in progress", "wait recipient 300"),
    (ANY, "rcpt", 550, "5.7.1 User b@x.example temporary locked. Please try again later!", "wait recipient 3600"),
    (ANY, "rcpt", 550, "5.1.1 <daily-limit@quota.example>: User unknown in virtual mailbox table", "stop"),
    (MICROSOFT, "rcpt", 550, "5.4.1 <a@x.example>: Recipient address rejected: Access denied", "stop"),
    (ANY, "rcpt", 550, "5.1.1 Refused due to recipient preferences http://x.example/codes?ip=192.0.2.1#limit", "stop"),
    # Content and form.
    (NETEASE, "eod", 554, "DT:SPM", "stop"),
    (NETEASE, "eod", 451, "DT:SPM ,please try again", "wait mail 120"),
    (ANY, "eod", 554, "5.7.1 Message rejected under suspicion of SPAM", "stop"),
    (ANY, "mail", 552, "5.3.4 Message size exceeds fixed limit", "stop"),
    (ANY, "eod", 451, "Bare line-feed; see http://haraka.github.io/barelf/", "stop"),
    (ANY, "eod", 550, "5.4.6 Message exceeded 50 hops, this may indicate a mail loop.", "stop"),
    (ANY, "eod", 550, "5.7.26 Unauthenticated email is not accepted due to domain's DMARC policy.", "stop"),
    # Trouble of the server's own.
    (ANY, "eod", 451, "4.3.0 Error: queue file write error", "retry"),
    (ANY, "rcpt", 451, "4.3.0 Temporary lookup failure", "retry"),
    (ANY, "mail", 503, "5.5.1 nested MAIL command", "retry"),
    # Unknown to the table.
    (ANY, "mail", 571, "hm", "wait account 3600"),
    (ANY, "rcpt", 571, "hm", "stop"),
    (ANY, "rcpt", 550, "5.7.1 TRAFFIC LIMIT", "wait recipient 3600"),
    (ANY, "eod", 426, "hm", "retry"),
]  # fmt: skip


@pytest.mark.tinymail("26", "U3", "D15")
@pytest.mark.parametrize(("host", "phase", "code", "text", "expected"), ROWS)
def test_a_reply_means_what_its_provider_says(
    host: str, phase: str, code: int, text: str, expected: str
) -> None:
    """Each row has the class, scope and seconds that documentation or text give it."""
    verdict = _verdict(host, Phase(phase), Reply(code, text))
    said = type(verdict).__name__.lower()
    if isinstance(verdict, Wait):
        said += f" {verdict.scope} {verdict.seconds:g}"
    assert said == expected


_VOCABULARY = (
    "5.7.1 4.2.0 user unknown mailbox full spam blocked limit daily later size too large many recipients "
    "rate sender rejected relay denied virus policy ip quota exceeded 60 seconds not"
)
_WORDS = st.lists(st.sampled_from(_VOCABULARY.split(" ")), max_size=12).map(" ".join)
_CODES = st.integers(400, 599)


@given(st.sampled_from([Phase.CONNECT, Phase.EHLO, Phase.AUTH]), _CODES, _WORDS | st.text())
def test_nothing_said_before_mail_judges_a_mail(phase: Phase, code: int, text: str) -> None:
    """Connect, ehlo and auth give waits of a host or account only, whatever is said."""
    verdict = _verdict(ANY, phase, Reply(code, text))
    assert isinstance(verdict, Wait)
    assert verdict.scope in {Scope.HOST, Scope.ACCOUNT}


@given(st.sampled_from(list(Phase)), _CODES, _WORDS | st.text())
def test_every_refusal_has_a_verdict(phase: Phase, code: int, text: str) -> None:
    """No code and no text is unknown to the table; waits are from a second to two days, reasons never empty."""
    verdict = _verdict(ANY, phase, Reply(code, text))
    assert not isinstance(verdict, Stop) or phase not in {Phase.CONNECT, Phase.EHLO, Phase.AUTH}
    if isinstance(verdict, Wait):
        assert 1 <= verdict.seconds <= 172_800
    assert getattr(verdict, "reason", "")
    assert getattr(verdict, "reason", "") != "unknown refusal" or phase in {Phase.MAIL, Phase.DATA}


@pytest.mark.parametrize("text", ["limit " * 11_000, "a" * 65_536, "too many " * 7_000, "<@" * 32_000])
def test_an_endless_reply_is_read_in_time(text: str) -> None:
    """What a hostile server says is judged, and its queue id looked for, within a fraction of a second."""
    started = time.monotonic()
    _verdict(ANY, Phase.EOD, Reply(550, text))
    queue_id(text)
    assert time.monotonic() - started < 2
