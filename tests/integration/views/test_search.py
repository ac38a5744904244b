"""TinyMail's searches: by mark, recipient, sender, subject and reference, in both databases."""

import string
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from mailfleet_schema.content import Address
from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.search import MOST_CHARACTERS, words_of_mark, words_of_subject
from mailfleet_schema.states import State
from mailfleet_schema.tables import tables_of
from mailfleet_workers.views import Filter, InvalidSearch, search, search_mails
from mailfleet_workers.views.conditions import Conditions
from tests.integration.views.rows import Rows, content

HOSTILE = [
    "'; DROP TABLE mail; --",
    "%",
    "_",
    "\\",
    "' & 'x",
    "a | b",
    "!a",
    "(a",
    ":*",
    "':*",
    "$$",
    "%s %(x)s :x",
    "{0}",
    ".*",
    "[[:alpha:]]+",
]


@pytest.fixture
def rows(engine: Engine) -> Rows:
    return Rows(engine)


def found(read: Connection, **wanted: Any) -> list[int]:
    """The ids of the mails, the oldest first."""
    return sorted(mail.id for mail in search_mails(read, Filter(**wanted)).mails)


@pytest.mark.tinymail("62", "56")
def test_by_mark(rows: Rows, read: Connection) -> None:
    """By its words in any order, by a phrase, by the beginning of a word; a word is what stands between blanks."""
    seven = rows.insert(mark="campaign-7 Spring sale")
    eight = rows.insert(mark="sale spring campaign-8")
    rows.insert(mark="7 campaign")
    rows.insert(content=content(subject="campaign-7 sale spring"))

    assert found(read, mark="campaign-7") == [seven]
    assert found(read, mark="spring SALE") == [seven, eight]
    assert found(read, mark='"spring sale"') == [seven]
    assert found(read, mark='campaign-8 "sale  spring"') == [eight]
    assert found(read, mark="campaign-*") == [seven, eight]
    assert found(read, mark="campaign-") == []
    assert found(read, mark="spring autumn") == []


@pytest.mark.tinymail("63", "U14")
def test_by_recipient(rows: Rows, read: Connection) -> None:
    """To, Cc and Bcc, whatever its case; an address is that one only, a domain is all of it and none below."""
    to = rows.insert(content=content(to=(Address("", "x@example.org"), Address("Ada", "Ada@example.net"))))
    cc = rows.insert(content=content(to=(), cc=(Address("", "ada@example.net"),)))
    bcc = rows.insert(content=content(to=(), bcc=(Address("", "ada@example.net"),)))
    other = rows.insert(content=content(to=(Address("ada@example.net", "nevada@example.net"),)))
    rows.insert(content=content(to=(Address("", "ada@sub.example.net"), Address("", "ada@example.net.uk"))))

    assert found(read, recipient="ADA@Example.NET") == [to, cc, bcc]
    assert found(read, recipient="@example.net") == [to, cc, bcc, other]
    assert found(read, recipient="@EXAMPLE.org") == [to]
    assert found(read, recipient="da@example.net") == []


@pytest.mark.tinymail("63")
def test_a_domain_is_searched_as_it_is_stored(rows: Rows, read: Connection) -> None:
    """In ASCII, however it is asked for."""
    mail_id = rows.insert(content=content(to=(Address("", "ada@xn--bcher-kva.example"),)))
    assert (
        found(read, recipient="@bücher.example") == found(read, recipient="ada@bücher.example") == [mail_id]
    )


@pytest.mark.tinymail("64", "U14")
def test_by_sender(rows: Rows, read: Connection) -> None:
    """The mail's own; or its account's, where it names none."""
    own = rows.insert(content=content(from_=Address("Billing", "Billing@example.com")))
    default = rows.insert(content=content(from_=None), account="default")
    rows.insert(content=content(from_=None), account="other")
    rows.insert(content=content(from_=Address("", "news@example.org")), account="default")

    assert found(read, sender="billing@example.com") == [own]
    assert found(read, sender="@example.com") == [own]
    asked = {"sender": "billing@example.com", "sender_accounts": ("default",)}
    assert found(read, **asked) == [own, default]
    assert found(read, **asked, recipient="ada@example.net") == [own, default]
    assert found(read, **asked, recipient="bob@example.net") == []


@pytest.mark.tinymail("65", "U14")
def test_by_subject(rows: Rows, read: Connection) -> None:
    """By its words, whatever stands between them, by a phrase, by the beginning of a word."""
    paid = rows.insert(content=content(subject="Re: Invoice 17, paid!"))
    due = rows.insert(content=content(subject="17 days: your invoice-18 is due"))

    assert found(read, subject="invoice 17") == [paid, due]
    assert found(read, subject='"invoice 17"') == [paid]
    assert found(read, subject="invoice-18") == found(read, subject="18 invoice") == [due]
    assert found(read, subject='"(invoice) 18"') == [due]
    assert found(read, subject="inv* pa*") == [paid]
    assert found(read, subject="nvoice") == []
    assert found(read, subject="17, paid!") == [paid]


@pytest.mark.tinymail("56")
def test_by_reference(rows: Rows, read: Connection) -> None:
    """By its type, and one key or two."""
    one = rows.insert(ref=("invoice", "17", None))
    two = rows.insert(ref=("invoice", "17", "b"))
    three = rows.insert(ref=("invoice", "18", None))
    rows.insert(ref=("order", "17", None))

    assert found(read, ref=("invoice",)) == [one, two, three]
    assert found(read, ref=("invoice", "17")) == [one, two]
    assert found(read, ref=("invoice", "17", "b")) == [two]
    assert found(read, ref=("invoice", "%")) == []


def test_all_together(rows: Rows, read: Connection) -> None:
    """Every condition has to hold."""
    same: dict[str, Any] = {"mark": "campaign-7", "ref": ("invoice", "17", None)}
    draft = rows.insert(state=State.DRAFT, **same)
    queued = rows.insert(**same)
    rows.insert("news", **same)

    asked = {"mark": "campaign-7", "ref": ("invoice", "17"), "subject": "invoice", "apps": ("billing",)}
    assert found(read, **asked) == [draft, queued]
    assert found(read, **asked, states=(State.DRAFT,)) == [draft]
    assert found(read, **asked, from_id=queued) == [queued]
    assert found(read, **asked, outcome="undone") == [draft, queued]
    assert found(read, **asked, outcome="failed") == []


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "without the index"])
def test_what_many_have_is_gone_through(
    rows: Rows, engine: Engine, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    """Where the index knows too many rows, or is gone, the newest rows are looked at in pages, and a bound is told."""
    made = [rows.insert(mark="all" if n % 2 else "rare") for n in range(12)]
    if not indexed and engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP INDEX mailfleet.mail_content_search")
    monkeypatch.setattr(search, "FEW", 3)
    monkeypatch.setattr(search, "PAGE", 4)
    monkeypatch.setattr(search, "MOST_ROWS", 8)
    with engine.connect() as connection:
        first = search_mails(connection, Filter(mark="all"))
        assert [mail.id for mail in first.mails] == made[11:3:-2]
        assert first.next_before == made[4]
        second = search_mails(connection, Filter(mark="all", before_id=first.next_before))
        assert [mail.id for mail in second.mails] == made[3:0:-2]
        assert (second.next_before, second.bound) == (None, None)


def test_nothing_stays_set(postgres_engine: Engine) -> None:
    """The bounds of a search are not those of the transaction in which it was."""
    Rows(postgres_engine).insert(mark="x")
    names = ("statement_timeout", "enable_seqscan", "jit")
    with postgres_engine.connect() as connection:

        def shown() -> list[str]:
            return [str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in names]

        before = shown()
        assert len(search_mails(connection, Filter(mark="x")).mails) == 1
        assert shown() == before


def test_a_statement_that_takes_too_long(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, the answer says that it lacks something, and the transaction goes on."""
    mail_id = Rows(postgres_engine).insert(mark="x")
    monkeypatch.setattr(search, "STATEMENT_S", 0.05)
    quick = Conditions.between

    def between(self: Conditions, *ids: int) -> Any:
        return [*quick(self, *ids), text("pg_sleep(10) IS NOT NULL")]

    monkeypatch.setattr(Conditions, "between", between)
    with postgres_engine.connect() as connection:
        answer = search_mails(connection, Filter(apps=("billing",), before_id=mail_id + 1))
        assert (answer.mails, answer.next_before) == ((), mail_id + 1)
        assert answer.bound is not None
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


@pytest.mark.tinymail("D33")
@pytest.mark.parametrize("query", HOSTILE)
def test_hostile_words(rows: Rows, read: Connection, query: str) -> None:
    """They are words like others, found where they are and nowhere else, or are told to be none."""
    other = rows.insert(mark="x a b", content=content(subject="x a b"))
    same = rows.insert(mark=query, content=content(subject=query), ref=(query, query, None))

    assert found(read, mark=query) == [same]
    assert found(read, ref=(query, query)) == [same]
    if words_of_subject(query):
        assert same in found(read, subject=query)
    else:
        with pytest.raises(InvalidSearch, match="subject: expected a word"):
            found(read, subject=query)
    for name in ("recipient", "sender"):
        with pytest.raises(InvalidSearch, match=f"{name}: expected an address or @domain"):
            found(read, **{name: query})
    assert found(read, reason=query) == []
    assert found(read) == [other, same]


@pytest.mark.tinymail("D33")
@pytest.mark.parametrize(
    "name", ["mark", "subject", "recipient", "sender", "reason", "account", "ref", "apps"]
)
@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("x" * 1_000_000, "expected at most 500 characters, got 1000000"),
        ("a\0b", "character U\\+0000 is in no mail"),
        ("a\ud800b", "character U\\+D800 is in no mail"),
    ],
    ids=["1 MB", "NUL", "surrogate"],
)
def test_what_cannot_be_searched(read: Connection, name: str, query: str, problem: str) -> None:
    """It is refused before the database hears of it, by the field's name."""
    value = (query,) if name in {"ref", "apps"} else query
    with pytest.raises(InvalidSearch, match=f"{name.removesuffix('s')}: {problem}"):
        found(read, **{name: value})


@pytest.mark.tinymail("D33")
@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"mark": " "}, "mark: expected a word"),
        ({"mark": '""'}, "mark: expected a word"),
        ({"subject": "*"}, "subject: expected a word"),
        ({"subject": " ".join("abcdefghijklmnopqrstu")}, "subject: expected at most 20 words, got 21"),
        ({"recipient": "@"}, "recipient: expected an address or @domain"),
        ({"ref": ("",)}, "ref: expected a type"),
        ({"ref": ("a", "b", "c", "d")}, "ref: expected a type"),
        ({"before_id": 2**63}, "before_id: expected 0 to"),
    ],
)
def test_what_is_no_search(read: Connection, wanted: dict[str, Any], problem: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidSearch, match=problem):
        found(read, **wanted)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
marks = texts.map(lambda one: " ".join(one.replace('"', "").split()))
addresses = st.builds(
    lambda local, domain: f"{local}@{domain}.example",
    st.text(
        string.ascii_letters + string.digits + "+'#$&=?^`{}~ß\N{LATIN SMALL LETTER E WITH ACUTE}",
        min_size=1,
        max_size=12,
    ),
    st.text(string.ascii_lowercase, min_size=1, max_size=8),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(subject="ΟΔΟΣ İstanbul ǅ", mark="ΟΔΟΣ. \U0001f389", to=["a@b.example"], other="Σ")
@example(subject="\U0001f468\u200d\U0001f469 ﬁ", mark="\t' \\ ''", to=["o'x@b.example"], other="x")
@example(subject="字" * 600, mark="字" * 600, to=["a@b.example"], other="字")
@given(subject=texts, mark=marks, to=st.lists(addresses, min_size=1, max_size=4), other=marks)
def test_any_text_is_found(engine: Engine, subject: str, mark: str, to: list[str], other: str) -> None:
    """A mail is found by every word and address that it has, and by no word and address that it lacks."""
    with engine.connect() as connection:
        # Never committed: the next example begins with an empty table.
        row = {"mark": mark or None, "subject": subject, "to": [{"name": "", "address": one} for one in to]}
        mail_id = _written(connection, row)
        for name, words in (("subject", words_of_subject(subject)), ("mark", words_of_mark(mark))):
            for word in words[:20]:
                if (
                    not word.endswith("*")
                    and (name == "subject" or not word.isspace())
                    and word.split() == [word]
                ):
                    assert found(connection, **{name: word}) == [mail_id], (name, word)
            for word in words_of_mark(other)[:5] if name == "mark" else words_of_subject(other)[:5]:
                if word.split() == [word] and not word.endswith("*"):
                    folded = {one.lower() for one in words} | {one.upper() for one in words} | set(words)
                    if not {word, word.lower(), word.upper()} & folded:
                        assert found(connection, **{name: word}) == [], (name, word)
        for address in to:
            assert found(connection, recipient=address) == [mail_id]
            assert found(connection, recipient=address[address.index("@") :]) == [mail_id]
            if f"x{address}" not in to:
                assert found(connection, recipient=f"x{address}") == []
        connection.rollback()


def test_only_the_beginning_of_a_long_text(rows: Rows, read: Connection) -> None:
    """A subject and a mark are searched as far as they are indexed; any length is stored."""
    long = " ".join(f"word{n}" for n in range(200))
    mail_id = rows.insert(content=content(subject=long), mark=long)
    inside = long[:MOST_CHARACTERS].split()[-2]
    assert found(read, subject=inside) == found(read, mark=inside) == [mail_id]
    assert found(read, subject="word199") == found(read, mark="word199") == []


@pytest.mark.parametrize(
    "row",
    [
        {"to": [{"name": "", "address": "ö" * 3000}]},
        {"to": [{"name": "", "address": f"user{n}@example.net"} for n in range(5000)]},
        {"to": "nobody", "cc": {"address": "x"}, "bcc": 7, "sender": [1]},
        {"to": [], "sender": {"address": "x" * 9000}},
        {"to": [{"address": None}, {"address": ["a\nb"]}, {"address": 'a", "b'}, 1, None]},
        {"to": [], "subject": "\U00010400" * 20000, "mark": "Ⱥ" * 20000},
        {"to": [], "subject": "a" * 2_000_000, "mark": " " * 2_000_000},
    ],
    ids=["long address", "many", "no lists", "long sender", "odd addresses", "long words", "huge"],
)
def test_whatever_another_program_writes_is_stored(engine: Engine, row: dict[str, Any]) -> None:
    """The index never refuses a row, and the search goes on."""
    with engine.begin() as connection:
        mail_id = _written(connection, row)
    with engine.connect() as connection:
        assert found(connection) == [mail_id]
        for wanted in (
            {"subject": "b"},
            {"mark": "b"},
            {"recipient": "b@example.com"},
            {"sender": "@example.com"},
        ):
            assert found(connection, **wanted) == []


def _written(connection: Connection, row: dict[str, Any]) -> int:
    """A mail as a program that knows the tables only writes it."""
    tables = tables_of(dialect_of(connection))
    mail_id = connection.execute(
        tables.mail.insert().values(app="billing").returning(tables.mail.c.id)
    ).scalar_one()
    connection.execute(
        tables.mail_content.insert().values(mail_id=mail_id, message_id="<1@example.net>", **row)
    )
    return int(mail_id)
