"""Who may send a mail: as columns, and whose queue its hints go to."""

import pytest

from mailfleet_schema.senders import ANY, SHARED, Apps, apps_of, hinted, stored


@pytest.mark.parametrize(
    ("apps", "columns"),
    [
        (None, (None, None)),
        (("billing",), (None, None)),
        (("crm",), ("shared", " crm ")),
        (("billing", "crm"), ("shared", " billing crm ")),
        ((ANY,), ("shared", None)),
    ],
    ids=["its own", "its own by name", "another", "both", "everybody"],
)
def test_columns(apps: Apps, columns: tuple[str | None, str | None]) -> None:
    """What is stored is read again; a list of the mail's own app is none."""
    assert stored("billing", apps) == columns
    assert apps_of(*columns) == (None if columns[0] is None else apps)


def test_mail_of_no_application() -> None:
    """What belongs to the app `shared` is everybody's to look after, said or not."""
    assert stored(SHARED, None) == (SHARED, None)
    assert apps_of(*stored(SHARED, None)) == (ANY,)
    assert hinted(SHARED, (ANY,), turn=1) is None


def test_what_is_no_name_is_left_out() -> None:
    """Another producer's row names nobody by what is no name: a queue would be made of it."""
    assert apps_of("shared", " crm ../x UPPER  ") == ("crm",)
    assert apps_of("shared", "") == ()


def test_a_list_is_gone_through() -> None:
    """Every mail, and every look at it, asks another of the list; its own app is asked as for any mail."""
    asked = [hinted("billing", ("crm", "billing", "news"), turn=turn) for turn in range(4)]
    assert asked == ["crm", None, "news", "crm"]
    assert [hinted("billing", ("crm", "news"), turn=7, looks=n) for n in range(3)] == ["news", "crm", "news"]


def test_everybody() -> None:
    """Those that share are asked first, every other look its own app's workers, who may be the only ones."""
    assert [hinted("billing", (ANY,), turn=5, looks=n) for n in range(3)] == ["shared", None, "shared"]


def test_nobody() -> None:
    """A mail that names nobody, or has nobody but its app, is hinted to its app."""
    assert hinted("billing", (), turn=3) is None
    assert hinted("billing", None, turn=3) is None
