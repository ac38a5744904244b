"""The checker finds every kind of breach, and nothing where there is none."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.checker import Breach, Change, Copy, Expected, Findings, Row, check

ADA, BOB = "ada@example.net", "bob@example.net"
FOLLOWS = {"prepare": ("sending", "prepare"), "dot": ("sending", "dot")}


def expected(policy: str = "resend_once", recipients: tuple[str, ...] = (ADA,)) -> Expected:
    return Expected("Mail 1", 1, recipients, policy)


def story(*steps: str, start: float = 100.0) -> list[Change]:
    """Changes of mail 1, a second apart: a `prepare` begins the next fence, a queued after a doubt counts it."""
    changes, fence, doubts, before = [], 0, 0, ""
    for number, step in enumerate(steps):
        place, _, reason = step.partition(":")
        fence += place == "prepare" or reason == "operator"
        doubts += (before, place) == ("doubt", "queued")
        state, phase = FOLLOWS.get(place, (place, None))
        at = start + number
        changes.append(Change(1, fence, state, phase, 7, doubts, at, at, start, reason or None))
        before = place
    return changes


def row_after(changes: Sequence[Change], policy: str = "resend_once", **more: object) -> Row:
    last = changes[-1]
    known = {"state": last.state, "phase": last.phase, "reason": last.reason, "doubts": last.doubts}
    return Row(**{"id": 1, "subject": "Mail 1", "on_doubt": policy, **known, **more})  # type: ignore[arg-type]


def copy(at: float, fence: int | None = 1, recipient: str = ADA) -> Copy:
    return Copy("Mail 1", recipient, at, fence, "<1@example.com>")


def judged(
    steps: Sequence[str],
    copies: Sequence[Copy],
    policy: str = "resend_once",
    asked: int = 0,
    **more: object,
) -> Findings:
    changes = story(*steps)
    return check(
        [replace(expected(policy), asked=asked)], [row_after(changes, policy, **more)], copies, changes
    )


def kinds(findings: Findings) -> list[str]:
    return sorted(one.invariant for one in findings.breaches)


SENT = ("queued", "prepare", "dot", "sent")
DOUBLED = ("queued", "prepare", "dot", "doubt", "queued", "prepare", "dot", "sent")


def test_a_plain_mail_is_clean() -> None:
    """A mail that was claimed, recorded, taken and settled breaks nothing."""
    findings = judged(SENT, [copy(102.5)])
    assert findings.breaches == ()
    assert (findings.mails, findings.sent, findings.lost, findings.doubts) == (1, 1, 0, 0)
    findings.raise_for()


@pytest.mark.parametrize(
    ("steps", "copies", "policy", "invariants"),
    [
        (SENT, [], "resend_once", ["I1"]),
        (SENT[:3], [], "resend_once", ["I2"]),
        (SENT[:3], [copy(102.5)], "resend_once", ["I2"]),
        ((*SENT[:3], "failed"), [], "resend_once", ["I2"]),
        (SENT, [copy(102.5), copy(102.6)], "resend_once", ["I3", "I5"]),
        (DOUBLED, [copy(102.5), copy(106.5, 2)], "hold", ["I3", "I3"]),
        ((*DOUBLED[:7], *DOUBLED[3:]), [copy(102.5)], "resend_once", ["I3"]),
        (SENT, [copy(102.5, 2)], "resend_once", ["I5"]),
        (SENT, [copy(101.5)], "resend_once", ["I5"]),
        (SENT, [copy(102.5, None)], "resend_once", ["I5"]),
        (SENT, [copy(102.5), copy(102.5, recipient=BOB)], "resend_once", ["I3"]),
        (
            ("queued", "prepare", "dot", "queued", "prepare", "dot", "sent"),
            [copy(102.5), copy(105.5, 2)],
            "resend_once",
            ["I3", "I3"],
        ),
        ((*SENT[:3], "doubt", "cancelled"), [copy(102.5)], "hold", ["I3"]),
        (
            ("queued", "prepare", "queued", "prepare", "dot", "sent"),
            [copy(101.5), copy(105, 2)],
            "hold",
            ["I3", "I5"],
        ),
    ],
    ids=[
        "sent without a copy",
        "not ended",
        "not ended, with a copy",
        "failed without a reason",
        "two copies of one claim",
        "hold doubled",
        "resend_once resent twice",
        "a claim that was never recorded",
        "a copy before its record",
        "a copy without a claim",
        "a copy for somebody else",
        "doubled without a doubt",
        "a doubt that vanished",
        "a zombie that was never recorded",
    ],
)
def test_what_is_wrong_is_found(
    steps: Sequence[str], copies: Sequence[Copy], policy: str, invariants: list[str]
) -> None:
    """Each breach is reported under its invariant, with the mail's id."""
    findings = judged(steps, copies, policy)
    assert kinds(findings) == invariants
    assert all(one.mail_ids == (1,) for one in findings.breaches)


@pytest.mark.parametrize(
    ("steps", "copies", "policy", "extra"),
    [
        (DOUBLED, [copy(102.5), copy(106.5, 2)], "resend_once", 1),
        (DOUBLED, [copy(106.5, 2)], "resend_once", 0),
        ((*DOUBLED[:7], *DOUBLED[3:]), [copy(102.5), copy(106.5, 2)], "resend", 1),
        ((*SENT[:3], "doubt", "held:doubt"), [copy(102.5)], "hold", 0),
        ((*SENT[:3], "doubt", "held:doubt"), [], "hold", 0),
        ((*SENT[:3], "doubt", "sent"), [copy(102.5)], "hold", 0),
        (
            (*SENT[:3], "doubt", "held:doubt", "queued:operator", "prepare", "dot", "sent"),
            [copy(102.5), copy(107.5, 3)],
            "hold",
            0,
        ),
        ((*SENT[:3], "doubt", "held:doubt", "sent:operator"), [], "hold", 0),
        ((*SENT[:3], "failed:stop"), [], "resend_once", 0),
    ],
)
def test_what_is_promised_is_no_breach(
    steps: Sequence[str], copies: Sequence[Copy], policy: str, extra: int
) -> None:
    """Copies out of listed doubts, held mails and visible failures are what the promise says."""
    findings = judged(steps, copies, policy, asked=sum(":operator" in step for step in steps))
    assert findings.breaches == ()
    assert findings.lost == 0
    assert findings.duplicates[policy] == extra
    assert findings.doubts == findings.doubts_listed == [s.partition(":")[0] for s in steps].count("doubt")


def test_lost_is_without_copy_and_end() -> None:
    """A mail is lost without a row, stuck without a copy, or sent without one; not if it is held with a reason."""
    assert check([expected()], [], [], []).lost == 1
    assert judged(SENT[:3], []).lost == 1
    assert judged(SENT, []).lost == 1
    assert judged((*SENT[:3], "doubt", "held:doubt"), []).lost == 0
    assert judged(SENT[:3], [copy(102.5)]).lost == 0


def test_on_its_way() -> None:
    """While mail flows, what is not sent yet is no breach; what was never there is."""
    changes = story(*SENT[:3])
    rows = [row_after(changes)]
    assert check([expected()], rows, [], changes, at_rest=False).breaches == ()
    assert kinds(check([expected()], [], [], [], at_rest=False)) == ["I2"]


def test_scheduled_is_at_rest() -> None:
    """A mail due in the future has not been lost."""
    changes = story("queued")
    assert check([expected()], [row_after(changes, due_at=500.0)], [], changes).breaches == ()
    overdue = check([expected()], [row_after(changes, due_at=500.0)], [], changes, now=501.0)
    assert kinds(overdue) == ["I2"]


def test_recipients_are_told_apart() -> None:
    """Everybody who was not refused has a copy; the one who was needs none."""
    changes, two = story(*SENT), expected(recipients=(ADA, BOB))
    missing = check([two], [row_after(changes)], [copy(102.5)], changes)
    assert kinds(missing) == ["I1"]
    assert BOB in missing.breaches[0].text
    outcomes = {ADA: "accepted", BOB: "refused"}
    assert check([two], [row_after(changes, outcomes=outcomes)], [copy(102.5)], changes).breaches == ()


def test_partly_accepted_is_certain() -> None:
    """A claim that one recipient took and another postponed goes back without a doubt."""
    changes = story("queued", "prepare", "dot", "queued", "prepare", "dot", "sent")
    outcomes = {ADA: "accepted", BOB: "accepted"}
    copies = [copy(102.5), copy(105.5, 2, BOB)]
    findings = check(
        [expected(recipients=(ADA, BOB))], [row_after(changes, outcomes=outcomes)], copies, changes
    )
    assert findings.breaches == ()


def test_rolled_back_and_in_doubt() -> None:
    """Rolled back: no row and no copy. In doubt: no copy without the row, and at most one row."""
    rolled = Expected("Mail 1", None, (ADA,), "hold", committed=False)
    doubtful = Expected("Mail 1", None, (ADA,), "resend_once", committed=None)
    changes = story(*SENT)
    row = row_after(changes)
    assert kinds(check([rolled], [row], [copy(102.5)], changes)) == ["I4", "I4"]
    assert kinds(check([rolled], [], [], [])) == []
    assert kinds(check([doubtful], [], [copy(102.5)], [])) == ["I4"]
    assert kinds(check([doubtful], [], [], [])) == []
    assert check([doubtful], [row], [copy(102.5)], changes).breaches == ()
    twice = check([doubtful], [row, Row(2, "Mail 1", "sent")], [copy(102.5)], changes)
    assert twice.breaches[0].mail_ids == (2,)


def test_the_row_is_the_producers() -> None:
    """Another id, another policy, or a recipient left open in a mail that is sent are breaches."""
    changes, copies = story(*SENT), [copy(102.5)]
    other = check([replace(expected(), mail_id=2)], [row_after(changes)], copies, changes)
    assert kinds(other) == ["I4"]
    assert kinds(check([expected("hold")], [row_after(changes, "resend")], copies, changes)) == ["I3"]
    assert kinds(check([expected()], [row_after(changes, outcomes={ADA: "open"})], copies, changes)) == ["I1"]


def test_strangers_are_found() -> None:
    """Rows and copies that no producer knows are breaches."""
    stranger = Copy("Mail 9", ADA, 1.0, 1, "")
    assert kinds(check([], [Row(9, "Mail 9", "sent")], [stranger], [])) == ["I4", "I4"]


def test_times() -> None:
    """No copy before its producer's time or its claim's, none recorded after its expiry."""
    changes = story(*SENT)
    early = Expected("Mail 1", 1, (ADA,), due_at=103.0)
    before = check([early], [row_after(changes)], [copy(102.5)], changes)
    assert (before.early, kinds(before)) == (1, ["I9"])
    retried = [replace(one, due_at=103.0) for one in changes]
    assert kinds(check([expected()], [row_after(changes)], [copy(102.5)], retried)) == ["I9"]
    late = Expected("Mail 1", 1, (ADA,), expires_at=101.5)
    findings = check([late], [row_after(changes)], [copy(102.5)], changes)
    assert kinds(findings) == ["I9"]
    assert findings.sent_after_expiry == 1
    assert check([late], [row_after(changes)], [copy(102.5)], story(*SENT, start=99.0)).sent_after_expiry == 0


def test_a_dot_after_the_claim_was_taken() -> None:
    """It is counted; where no pause is at random it is a breach. A dot that came before is none."""
    changes = story(*SENT[:3], "doubt:quiet worker", "held:doubt", "sent")
    mail, row = expected("hold"), row_after(changes, "hold")
    late = check([mail], [row], [copy(104.5)], changes)
    assert (late.late, late.breaches) == (1, ())
    assert kinds(check([mail], [row], [copy(104.5)], changes, punctual=True)) == ["I5"]
    assert check([mail], [row], [copy(102.9)], changes, punctual=True).late == 0


def test_a_breach_tells_everything() -> None:
    """The error names seed, invariant and ids, and shows the mail's changes and copies."""
    findings = judged(SENT, [copy(102.5), copy(102.6)])
    with pytest.raises(AssertionError) as error:
        findings.raise_for(seed=4711)
    text = str(error.value)
    for part in ("seed 4711", "I3: ", "I5: ", "mails 1", "sending(dot)", "copy 102.600000 ada@example.net"):
        assert part in text


def test_wanted_copies_are_no_duplicates() -> None:
    """`max_done` copies were asked for by the producer, or by a person of whom the ledger knows."""
    changes = story("queued", "prepare", "dot", "queued", "prepare", "dot", "sent")
    copies, row = [copy(102.5), copy(105.5, 2)], row_after(changes, max_done=2)
    for mail in (replace(expected(), max_done=2), replace(expected(), asked=1)):
        findings = check([mail], [row], copies, changes)
        assert findings.breaches == ()
        assert findings.duplicates["resend_once"] == 0
    forced = check([expected()], [row], copies, changes)
    assert kinds(forced) == ["I3", "I3"]
    assert forced.duplicates["resend_once"] == 1
    # What a person asked for and the table does not show allows no copy.
    unused = check([replace(expected(), asked=1)], [row_after(changes)], copies, changes)
    assert unused.duplicates["resend_once"] == 1


def texts(findings: Findings) -> list[str]:
    return [f"{one.invariant}: {one.text.partition(' (')[0]}" for one in findings.breaches]


NOBODY = "I3: a person's doing, and no person did it"


@pytest.mark.parametrize(
    ("steps", "copies"),
    [
        ((*SENT[:3], "doubt", "held:doubt", "queued:operator", "prepare", "dot", "sent"), [copy(107.5, 3)]),
        ((*SENT[:3], "failed:stop", "queued:operator", "prepare", "dot", "sent"), [copy(106.5, 3)]),
        ((*SENT[:3], "doubt", "held:doubt", "sent:operator"), [copy(102.5)]),
    ],
    ids=["released", "retried", "confirmed"],
)
def test_a_person_is_known(steps: Sequence[str], copies: Sequence[Copy]) -> None:
    """Only what the ledger says was asked for may be released, retried or confirmed."""
    assert texts(judged(steps, copies, "hold")) == [NOBODY]
    assert judged(steps, copies, "hold", asked=1).breaches == ()


def test_a_person_lifts_the_expiry() -> None:
    """Nobody else does."""
    changes = story("queued", "expired:expires_at", "queued:operator", "prepare", "dot", "sent")
    for asked, late in ((0, 1), (1, 0)):
        mail = replace(expected(), asked=asked, expires_at=100.5)
        findings = check([mail], [row_after(changes)], [copy(104.5, 2)], changes)
        assert (findings.sent_after_expiry, len(findings.breaches)) == (late, 2 * late)


def test_what_nobody_released_is_a_duplicate() -> None:
    """A held mail that is sent again by itself counts as one, and one that is called sent by itself is lost."""
    again = (*SENT[:3], "doubt", "held:doubt", "queued:operator", "prepare", "dot", "sent")
    findings = judged(again, [copy(102.5), copy(107.5, 3)], "hold")
    assert (NOBODY in texts(findings), findings.duplicates["hold"]) == (True, 1)
    assert judged((*SENT[:3], "doubt", "held:doubt", "sent:operator"), [], "hold").lost == 1


@pytest.mark.parametrize(
    ("end", "reason"), [("failed", "stop"), ("held", "poison"), ("expired", "expires_at"), ("sent", None)]
)
def test_outcomes_are_true(end: str, reason: str | None) -> None:
    """Whoever is called accepted has a copy and whoever is called refused has none, however the mail has ended."""
    two = replace(expected(recipients=(ADA, BOB)), expires_at=103.0 if end == "expired" else None)
    changes = story(*SENT[:3], f"{end}:{reason or ''}")

    def told(outcomes: dict[str, str], *copies: Copy) -> Findings:
        return check([two], [row_after(changes, outcomes=outcomes)], copies, changes)

    mixed = {ADA: "accepted", BOB: "refused"}
    without, having = told(mixed), told(mixed, copy(102.5), copy(102.5, recipient=BOB))
    text = "I1: sent, and a recipient has no copy" if end == "sent" else "I1: accepted, and there is no copy"
    assert texts(without) == [text]
    assert without.lost == 1
    assert "I1: refused, and there is a copy" in texts(having)
    assert not [one for one in texts(told(mixed, copy(102.5))) if one.startswith("I1")]


def test_refused_after_a_doubt() -> None:
    """Who got the copy of a lost answer may be refused at the second try; who is refused for certain has none."""
    changes = story(*DOUBLED[:7], "failed:stop")
    row = row_after(changes, outcomes={ADA: "refused"})
    assert check([expected()], [row], [copy(102.5)], changes).breaches == ()
    assert check([expected()], [row], [copy(102.5, None)], changes, stamped=False).breaches == ()
    assert "I1: refused, and there is a copy" in texts(check([expected()], [row], [copy(106.5, 2)], changes))
    plain = story(*SENT[:3], "failed:stop")
    unstamped = check(
        [expected()], [row_after(plain, outcomes={ADA: "refused"})], [copy(102.5, None)], plain, stamped=False
    )
    assert texts(unstamped) == ["I1: refused, and there is a copy"]


def test_refused_after_a_copy() -> None:
    """Of many copies that are wanted, the second may be refused."""
    changes = story("queued", "prepare", "dot", "queued", "prepare", "failed:stop")
    row = row_after(changes, outcomes={ADA: "refused"}, max_done=2)
    findings = check([replace(expected(), max_done=2)], [row], [copy(102.5)], changes)
    assert findings.breaches == ()


def test_a_breach_is_one_of_its_kind() -> None:
    """Many mails with one fault are one breach that names them all."""
    many = [Expected(f"Mail {n}", n, (ADA,)) for n in range(1, 101)]
    findings = check(many, [], [], [])
    assert findings.breaches == (
        Breach(
            "I2",
            tuple(range(1, 101)),
            "committed, and there is no row (Mail 1; Mail 2; Mail 3; Mail 4; Mail 5)",
        ),
    )
    assert findings.lost == 100
