"""The modules of `apps.NAME.import`: whose renderers they are, and what stops the start."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet import SettingsError, registry
from mailfleet.registry import names_of
from mailfleet_workers.modules import load_modules
from mailfleet_workers.settings import Settings

pytestmark = pytest.mark.tinymail("55")

RENDERER = "from mailfleet import Rendered, renderer\n@renderer({name!r})\ndef render(_): return Rendered(text='x')\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of modules, and a process that has loaded none."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget()
    before = set(sys.modules)
    yield tmp_path
    registry.forget()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def settings(directory: Path, **modules: list[str]) -> Settings:
    apps = {app: {"import": names} for app, names in modules.items()}
    return Settings.model_validate({"data_dir": directory, "apps": apps})


def test_each_app_has_its_own(modules: Path) -> None:
    """What a module registers is for the app that names it."""
    (modules / "first_mails.py").write_text(RENDERER.format(name="bill"))
    (modules / "second_mails.py").write_text(RENDERER.format(name="bill"))
    load_modules(settings(modules, billing=["first_mails"], crm=["second_mails"]), ["billing", "crm"])
    assert names_of("billing")["bill"].render.__module__ == "first_mails"
    assert names_of("crm")["bill"].render.__module__ == "second_mails"
    assert dict(names_of("news")) == {}


def test_a_module_of_two_apps(modules: Path) -> None:
    """It is imported once, and both have what it registered, also what a module below it did."""
    (modules / "shared_mails").mkdir()
    (modules / "shared_mails" / "__init__.py").write_text("from shared_mails import bills\n")
    (modules / "shared_mails" / "bills.py").write_text(RENDERER.format(name="bill"))
    load_modules(settings(modules, billing=["shared_mails"], crm=["shared_mails"]), ["billing", "crm"])
    assert [set(names_of(app)) for app in ("billing", "crm", "news")] == [{"bill"}, {"bill"}, set()]


def test_what_the_application_imported_itself(modules: Path) -> None:
    """Then it is everybody's of this process."""
    (modules / "own_mails.py").write_text(RENDERER.format(name="bill"))
    __import__("own_mails")
    load_modules(settings(modules, billing=["own_mails"]), ["billing"])
    assert set(names_of("billing")) == {"bill"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "expected modules that are there, got 'bad_mails'"),
        (
            "import nowhere_at_all",
            'expected modules that can be imported, got "bad_mails: ModuleNotFoundError: ',
        ),
        (
            "1 / 0",
            "expected modules that can be imported, got 'bad_mails: ZeroDivisionError: division by zero'",
        ),
        ("raise SystemExit(3)", "expected modules that can be imported, got 'bad_mails: SystemExit: 3'"),
        (
            RENDERER.format(name="bill") + RENDERER.format(name="bill").replace("def render", "def other"),
            "expected modules that can be imported, got \"bad_mails: ValueError: renderer: 'bill' is registered",
        ),
        (
            RENDERER.format(name="bill").replace("'bill'", "'bill', schema={'type': 'nonsense'}"),
            "expected renderers that can be used, got 'renderer bill: schema: expected a JSON schema",
        ),
    ],
    ids=["missing", "needs another", "raises", "exits", "two of one name", "schema"],
)
def test_what_stops_the_start(modules: Path, source: str | None, said: str) -> None:
    """The error names the setting, the module, and what is wrong with it."""
    if source is not None:
        (modules / "bad_mails.py").write_text(source)
    with pytest.raises(SettingsError) as refused:
        load_modules(settings(modules, billing=["bad_mails"]), ["billing"])
    assert str(refused.value).startswith(f"apps.billing.import: {said}")
