"""Whose sender an address is: mail that names none is sent by that of its account."""

from mailfleet_workers.settings import Settings
from mailfleet_workers.views.filter import searched_address


def accounts_that_send_as(settings: Settings, sender: str) -> tuple[str, ...]:
    """The accounts whose own sender is *sender*, an address or `@domain` in any case: a filter's `sender_accounts`.

    Raises InvalidSearch.
    """
    wanted = searched_address("sender", sender).lower()
    own = {name: account.sender for name, account in settings.accounts.items()}
    addresses = {name: one.address.lower() for name, one in own.items() if one is not None}
    if wanted.startswith("@"):
        return tuple(name for name, address in addresses.items() if address.endswith(wanted))
    return tuple(name for name, address in addresses.items() if address == wanted)
