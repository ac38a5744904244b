"""Which installation keeps its limits in a Redis, for those who cannot ask its database.

Keys of the limits begin with the installation's id, which stands in the database. Workers write it down in Redis beside
where their database is; `Notice` has the same settings and finds it there.
"""

from sqlalchemy import make_url

from mailfleet_workers.limits.redis_script import Script

#: A hash: where a database is → the id of the installation in it.
KEY = "mailfleet:installations"


def place_of(database_url: str) -> str:
    """Where the database of *database_url* is, without user and password: `db.example.com:5432/mailfleet`."""
    url = make_url(database_url)
    host = url.host or url.query.get("host") or "localhost"
    return f"{host if isinstance(host, str) else ','.join(host)}:{url.port or 5432}/{url.database or ''}"


def announce(script: Script, place: str, instance: str) -> None:
    """Write down that the database at *place* holds the installation *instance*. Raises LimiterUnavailable."""
    script.plain("HSET", KEY, place, instance)


def find(script: Script, place: str) -> str | None:
    """The installation whose database is at *place*, or the only one there is; None if nobody knows.

    Raises LimiterUnavailable.
    """
    words = [bytes(one).decode() for one in script.plain("HGETALL", KEY)]
    known = dict(zip(words[::2], words[1::2], strict=True))
    if place in known:
        return known[place]
    # Others may reach the same database by another name.
    return next(iter(known.values())) if len(set(known.values())) == 1 else None
