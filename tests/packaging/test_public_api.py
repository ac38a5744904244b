"""The names that applications may rely on."""

import types

import mailfleet


def order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, each by name: the order that ruff keeps in `__all__` (RUF022)."""
    if name.isupper():
        return (0, name)
    return (1 if name[:1].isupper() else 2, name)


def test_all_is_sorted() -> None:
    """`__all__` has one order, so that a new name has one place, and no name twice."""
    assert list(mailfleet.__all__) == sorted(set(mailfleet.__all__), key=order)


def test_all_is_complete() -> None:
    """Every name that the package shows without an underscore is in `__all__`; its modules are not names of the API."""
    shown = {
        name
        for name, value in vars(mailfleet).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    shown.discard("TYPE_CHECKING")  # the language's own, where a name has a type but is loaded late
    assert shown - set(mailfleet.__all__) == set()


def test_every_promised_name_is_there() -> None:
    """Names that are loaded late are found too."""
    assert [name for name in mailfleet.__all__ if not hasattr(mailfleet, name)] == []


def test_every_error_can_be_caught_by_applications() -> None:
    """All public exceptions are subclasses of one root, and all are exported."""
    import mailfleet.errors

    defined = {
        name: value
        for name, value in vars(mailfleet.errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    }
    assert {
        name for name, value in defined.items() if not issubclass(value, mailfleet.errors.MailfleetError)
    } == set()
    assert set(defined) - set(mailfleet.__all__) == set()
