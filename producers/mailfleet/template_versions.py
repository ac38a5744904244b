"""A mail by a template without a version gets the version that is the newest when it is emitted, and keeps it."""

from collections.abc import Sequence
from dataclasses import replace

from mailfleet.lazy_parameter import TemplateWish, WrongParameter, template_wish
from mailfleet.registry import TEMPLATES
from mailfleet_schema.dialects import Executor
from mailfleet_schema.statements.insert import NewMail
from mailfleet_schema.statements.mail_template import newest_versions


def with_versions(connection: Executor, app: str, mails: Sequence[NewMail]) -> list[NewMail]:
    """*mails* with the versions of their templates; one whose template is not there yet stays as it is."""
    wishes = {number: wish for number, mail in enumerate(mails) if (wish := _open_wish(mail)) is not None}
    if not wishes:
        return list(mails)
    newest = newest_versions(connection, app, sorted({wish.template for wish in wishes.values()}))
    done = list(mails)
    for number, wish in wishes.items():
        if (version := newest.get(wish.template)) is not None:
            parameter = {"template": wish.template, "version": version, "data": wish.data}
            done[number] = replace(mails[number], parameter=parameter)
    return done


def _open_wish(mail: NewMail) -> TemplateWish | None:
    if mail.renderer != TEMPLATES:
        return None
    try:
        wish = template_wish(mail.parameter)
    except WrongParameter:
        return None  # a row that was not checked here; the worker says what is wrong
    return wish if wish.version is None else None
