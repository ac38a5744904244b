"""The modules of `apps.NAME.import`: an application's renderers and hooks, loaded where its mail is sent."""

import importlib
import sys
from collections.abc import Iterable

from mailfleet.errors import SettingsError
from mailfleet.lazy_parameter import check_schema_of
from mailfleet.registry import names_of, registering, share
from mailfleet_workers.settings import Settings


class BrokenModule(SettingsError):  # noqa: N818 - reads as the fact it states
    """A module of `apps.NAME.import` cannot be used; its cause, if there is one, is for the module's author."""


def load_modules(settings: Settings, apps: Iterable[str]) -> None:
    """Import the modules of *apps*; what they register is for mails of that app alone.

    Raises BrokenModule for the first that cannot be imported, whose cause is what it raised, or that registers what is
    there already or cannot be used. A module that several apps name is imported once.
    """
    for app in dict.fromkeys(apps):
        key = f"apps.{app}.import"
        for name in settings.app(app).import_:
            _load(key, app, name)
        for one in names_of(app).values():
            try:
                check_schema_of(one)
            except SettingsError as error:
                raise BrokenModule(key, "renderers that can be used", str(error)) from error


def _load(key: str, app: str, name: str) -> None:
    try:
        if name in sys.modules:
            share(app, name)
            return
        with registering(app):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _wrong(key, name, error) from error
        raise BrokenModule(key, "modules that are there", name) from None
    except (Exception, SystemExit) as error:
        raise _wrong(key, name, error) from error


def _wrong(key: str, name: str, error: BaseException) -> BrokenModule:
    said = " ".join(str(error).split())
    return BrokenModule(key, "modules that can be imported", f"{name}: {type(error).__name__}: {said}"[:500])
