import pytest

from mailfleet.errors import InvalidMail
from mailfleet.validation import Limits
from mailfleet.validation.addresses import addr_spec, address, addresses
from mailfleet_schema.content import Address
from tests.unit.validation.checking import check, refused

# As given, as stored.
GOOD = [
    ("ada@example.net", "ada@example.net"),
    ("ada+invoices@example.net", "ada+invoices@example.net"),
    ("o'brien@example.net", "o'brien@example.net"),
    ("ada.lovelace@mail.eu.example.net", "ada.lovelace@mail.eu.example.net"),
    ("Ada@EXAMPLE.Net", "Ada@example.net"),
    ("a@b.example", "a@b.example"),
    ("root@localhost", "root@localhost"),
    ("0@0.example", "0@0.example"),
    ("_@example.net", "_@example.net"),
    ("ada-@example.net", "ada-@example.net"),
    ("ada=ref@example.net", "ada=ref@example.net"),
    ("a/b@example.net", "a/b@example.net"),
    ("#$&'*+=^?_`{}~@example.net", "#$&'*+=^?_`{}~@example.net"),
    ("ada@r3---sn-4g5e6nez.example", "ada@r3---sn-4g5e6nez.example"),
    ("x" * 64 + "@example.net", "x" * 64 + "@example.net"),
    ("ada@" + "x" * 63 + ".example", "ada@" + "x" * 63 + ".example"),
    (
        "x" * 64 + "@" + ".".join(["y" * 62] * 2 + ["z" * 51, "example"]),
        "x" * 64 + "@" + ".".join(["y" * 62] * 2 + ["z" * 51, "example"]),
    ),
    ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
    ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
    ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
    ("ada@straße.example", "ada@xn--strae-oqa.example"),
    ("ada@例え.テスト", "ada@xn--r8jz45g.xn--zckzah"),
    ("ada@почта.рф", "ada@xn--80a1acny.xn--p1ai"),
    ("ada@ελλάδα.example", "ada@xn--hxakic4aa.example"),
    ("ada@भारत.example", "ada@xn--h2brj9c.example"),
    ("ada@مصر.example", "ada@xn--wgbh1c.example"),
    ("ada@한국.example", "ada@xn--3e0b707e.example"),
    ("zoë@example.net", "zoë@example.net"),
    ("用户@例え.テスト", "用户@xn--r8jz45g.xn--zckzah"),
    ("иван.петров@example.net", "иван.петров@example.net"),
    ("ζωή@example.net", "ζωή@example.net"),
]

# As given, a word of the reason.
HOSTILE = [
    ("", "empty"),
    ("ada", "no @"),
    ("@example.net", "before the @"),
    ("ada@", "empty label"),
    ("a@b", "needs a dot"),
    ("a@b.example, c@d.example", "one address per entry"),
    ("a@b.example,c@d.example", "one address per entry"),
    ("a@b.example;c@d.example", "one address per entry"),
    ("a@b.example c@d.example", "blank"),
    ("a@b ORCPT=rfc822;z", "one address"),
    ("a@b.example ORCPT=rfc822", "blank"),
    ("a@b.example> SIZE=1", "angle"),
    ("a@b.example>SIZE=1", "angle"),
    ("<a@b.example>", "angle brackets"),
    ("<<a@b.example>>", "name"),
    ("a@b.example>", "without <"),
    ("Ada <a@b.example> <c@d.example>", "one address"),
    ("Ada <a@b.example>, Eve <c@d.example>", "one address"),
    ("c@d.example <a@b.example>", "one address"),
    ("Lovelace, Ada <a@b.example>", "one address"),
    ("team: a@b.example;", "one address"),
    ("a@b.example (Ada)", "comments"),
    ("a(x)@b.example", "comments"),
    ("a@b.example\r\nRCPT TO:<c@d.example>", "one address"),
    ("a@b.example\nBcc: c@d.example", "U+000A"),
    ("a@b.example\r", "U+000D"),
    ("a@b.example\n", "U+000A"),
    ("Ada\r\nBcc: c@d.example <a@b.example>", "one address"),
    ('"Ada\nBcc: c" <a@b.example>', "U+000A"),
    ("a\0@b.example", "U+0000"),
    ("a@b.example\0", "U+0000"),
    ("a\v@b.example", "U+000B"),
    ("a\f@b.example", "U+000C"),
    ("a\t@b.example", "U+0009"),
    ("a\x1b[31m@b.example", "U+001B"),
    ("a\x7f@b.example", "U+007F"),
    ("a\x85@b.example", "U+0085"),
    ("a\u2028@b.example", "U+2028"),
    (" a@b.example", "blank"),
    ("a@b.example ", "blank"),
    ("a @b.example", "blank"),
    ("a\u00a0b@b.example", "U+00A0"),
    ("a\u3000@b.example", "U+3000"),
    ("|cmd@b.example", "begin with |"),
    ("|cmd", "no @"),
    ("-oQ/tmp@b.example", "begin with -"),
    ("-oQ", "no @"),
    ("/var/mail/root@b.example", "begin with /"),
    ('"a b"@c.example', "quoted"),
    ('"a"@c.example', "quoted"),
    ('"a@b.example"@c.example', "quoted"),
    ("a\\b@c.example", "'\\\\\\\\'"),
    ("a@[127.0.0.1]", "literals"),
    ("a@[IPv6:::1]", "literals"),
    ("a@127.0.0.1", "number"),
    ("a@b.1-1", "number"),
    ("a..b@c.example", "double dot"),
    (".a@c.example", "leading"),
    ("a.@c.example", "trailing"),
    ("a@b..example", "empty label"),
    ("a@.b.example", "empty label"),
    ("a@b.example.", "empty label"),
    ("a@-b.example", "inner hyphens"),
    ("a@b-.example", "inner hyphens"),
    ("a@b_c.example", "inner hyphens"),
    ("a@b:25.example", "inner hyphens"),
    ("a@b/c.example", "inner hyphens"),
    ("a@b@c.example", "more than one @"),
    ("@b.example:a@c.example", "more than one @"),
    ("@b.example,@c.example:a@d.example", "one address"),
    ("a%c.example@b.example", "routes"),
    ("c.example!a@b.example", "routes"),
    ("=?utf-8?q?eve=40evil.example=3E=20?=@example.net", "encoded"),
    ("=?x?b?ZXZlQGV2aWwuZXhhbXBsZQ==?=@example.net", "encoded"),
    ("=?utf-8?q?eve@example.net", "encoded"),
    ("ada?=@example.net", "encoded"),
    ("x" * 65 + "@example.net", "64 octets"),
    ("ё" * 33 + "@example.net", "64 octets"),
    ("a@" + "x" * 64 + ".example", "63"),
    ("a@" + ".".join(["x" * 60] * 5), "254"),
    ("a@" + "ü" * 59 + ".example", "IDNA"),
    ("a@" + ".".join(["ü" * 30] * 7) + ".example", "254"),
    ("a" * 100_000 + "@example.net", "254"),
    ("ada＠example.net", "no @"),
    ("ada＠evil.example@example.net", "U+FF20"),
    ("ada，eve@example.net", "U+FF0C"),
    ("ada@ｅｘａｍｐｌｅ.net", "IDNA"),
    ("ada@example。net", "IDNA"),
    ("ada@exam\u00adple.net", "U+00AD"),
    ("ada@ex\u200bample.net", "U+200B"),
    ("ad\u200da@example.net", "U+200D"),
    ("\u202eada@example.net", "U+202E"),
    ("ada@exam\u202eple.net", "U+202E"),
    ("a\ufeffda@example.net", "U+FEFF"),
    ("ada@p\u0430ypal.example", "mixes Cyrillic and Latin"),
    ("ada@xn--pypal-4ve.example", "mixes Cyrillic and Latin"),
    ("ada@xn--a.example", "IDNA"),
    ("ada@xn--.example", "IDNA"),
    ("ada@xn--bcher-kvb.example", "IDNA"),
    ("ada@aü--b.example", "IDNA"),
    ("ada@☃.example", "IDNA"),
    ("ada@١2.example", "IDNA"),
    ("zoe\u0308@example.net", "NFC"),
    ("\u0308zoe@example.net", "combining"),
    ("\ud800@example.net", "U+D800"),
    ("ada@\udc80.example", "U+DC80"),
    ("\ue000@example.net", "U+E000"),
]


@pytest.mark.tinymail("44")
@pytest.mark.smtplib(16)
@pytest.mark.parametrize(("given", "stored"), GOOD)
def test_good_address(given: str, stored: str) -> None:
    """An ordinary address is stored with its local part as given and its domain in lower-case ASCII."""
    assert check(to=[given]).content.to == (Address("", stored),)


@pytest.mark.parametrize(("given", "stored"), GOOD)
def test_stored_form_is_final(given: str, stored: str) -> None:
    """What is stored is itself an address, and its own stored form."""
    assert addr_spec(stored, "to") == stored


@pytest.mark.tinymail("44")
@pytest.mark.parametrize(("given", "reason"), HOSTILE)
def test_hostile_address(given: str, reason: str) -> None:
    """A hostile address is refused by entry and with its reason."""
    error = refused(to=["ada@example.net", given])
    assert error.field == "to[1]"
    assert reason.replace("\\\\", "\\") in error.reason


@pytest.mark.parametrize("given", [given for given, _ in HOSTILE])
@pytest.mark.parametrize("field", ["from_", "cc", "bcc", "reply_to"])
def test_hostile_address_in_every_field(field: str, given: str) -> None:
    """No address field is laxer than another."""
    assert refused(**{field: given}).field == field


@pytest.mark.parametrize("given", [given for given, _ in HOSTILE])
def test_hostile_address_in_a_pair(given: str) -> None:
    """A name beside it makes no address acceptable."""
    assert refused(to=[("Ada", given)]).field == "to[0]"
    assert refused(to=[Address("Ada", given)]).field == "to[0]"


def test_reasons_do_not_repeat_the_address() -> None:
    """A reason names characters and positions, not the address: it ends up in logs."""
    for given, _ in HOSTILE:
        if "evil" in given or "paypal" in given:
            assert given not in str(refused(to=[given]))


@pytest.mark.tinymail("D31")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Ada Lovelace <ada@example.net>", "Ada Lovelace"),
        ("Ada B. Lovelace <ada@example.net>", "Ada B. Lovelace"),
        ('"Lovelace, Ada" <ada@example.net>', "Lovelace, Ada"),
        (r'"Ada \"the Countess\" \\ L." <ada@example.net>', r'Ada "the Countess" \ L.'),
        ('"a < b" <ada@example.net>', "a < b"),
        ("Ada<ada@example.net>", "Ada"),
        ("  Ada  <ada@example.net>", "Ada"),
        ("Zoë Łukasz <ada@example.net>", "Zoë Łukasz"),
        ("愛 <ada@example.net>", "愛"),
        ('"" <ada@example.net>', ""),
        (("Lovelace, Ada <x@y.example>", "ada@example.net"), "Lovelace, Ada <x@y.example>"),
        (("", "ada@example.net"), ""),
        (Address("Адa", "ada@example.net"), "Адa"),
        (("نور\u200c الهدى\u200f", "ada@example.net"), "نور\u200c الهدى\u200f"),
        (("x" * 256, "ada@example.net"), "x" * 256),
    ],
)
def test_display_name(given: object, name: str) -> None:
    """A display name may be in any script, quoted in a string, or anything in a pair."""
    assert check(to=[given]).content.to == (Address(name, "ada@example.net"),)


@pytest.mark.parametrize(
    "name",
    [
        "Ada\r\nBcc: eve@example.net",
        "Ada\0",
        "=?utf-8?q?Ada=0ABcc:_eve?=",
        "x" * 257,
        "\u202eadA",
        "\ud800",
        1,
        None,
    ],
)
def test_hostile_display_name(name: object) -> None:
    """A display name is one line of at most 256 characters that shows what it says."""
    error = refused(cc=[(name, "ada@example.net")])
    assert error.field == "cc[0]"
    assert error.reason.startswith("display name: ")


def test_one_entry_or_a_list() -> None:
    """An address field takes one mailbox, or a list or tuple of them."""
    ada, bob = Address("", "ada@example.net"), Address("Bob", "bob@example.net")
    assert check(to="ada@example.net").content.to == (ada,)
    assert check(to=("Bob", "bob@example.net")).content.to == (bob,)
    assert check(to=ada).content.to == (ada,)
    assert check(to=("ada@example.net", bob)).content.to == (ada, bob)
    assert check(to=["ada@example.net", ("Bob", "bob@example.net")]).content.to == (ada, bob)


def test_a_name_never_becomes_a_recipient() -> None:
    """Two strings in a tuple with an @ in the first are refused: a name, or two addresses, nobody knows."""
    error = refused(to=("eve@example.net", "ada@example.net"))
    assert error.field == "to"
    assert "list" in error.reason


@pytest.mark.parametrize(
    "value", [None, 1, b"ada@example.net", {"ada@example.net"}, {"a": "b"}, object(), iter("")]
)
def test_wrong_types(value: object) -> None:
    """What is neither an address nor a list of them is refused by field or entry."""
    assert refused(to=value).field == "to"
    assert refused(to=["ada@example.net", value]).field == "to[1]"


@pytest.mark.parametrize("value", [(), [], ("a", "b", "c"), ("Ada", None), ("Ada", 5)])
def test_wrong_entries(value: object) -> None:
    """A tuple in a list is a name and an address, both text."""
    assert refused(to=[value]).field == "to[0]"


def test_subclasses_of_str() -> None:
    """A str subclass is taken for its text, whatever it prints as."""

    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "eve@example.net"

    stored = address(Odd("ada@example.net"), "to", Limits()).address
    assert stored == "ada@example.net"
    assert type(stored) is str


def test_long_input_is_refused_quickly() -> None:
    """Long hostile text costs no more than its length."""
    for text in ("Ada" + " " * 500_000 + "x", '"' + "\\" * 500_000 + '" <a@b.example>', "<" * 500_000 + ">"):
        with pytest.raises(InvalidMail):
            addresses([text], "to", Limits())
