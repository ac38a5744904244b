"""Where Redis is: the URL as people write it, looked at before anybody connects. No message shows its password."""

from urllib.parse import parse_qsl, urlsplit

from mailfleet_workers.settings.problems import NOT_SHOWN, wrong

EXPECTED = (
    "redis://user:password@host:6379/0, or rediss:// for TLS, or unix:///path/redis.sock?db=0, special characters of a"
    " part percent-encoded ('/' is %2F)"
)

#: What may stand after the `?`, by scheme. Other words would reach the client, among them one that verifies nothing.
_OPTIONS = {
    "redis": frozenset({"db"}),
    "rediss": frozenset({"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}),
    "unix": frozenset({"db", "username", "password"}),
}


def check_redis(value: str) -> str:
    """*value* if it is a URL of Redis; raises what a validator raises."""
    try:
        parts = urlsplit(value)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise wrong(("", EXPECTED, NOT_SHOWN)) from None
    known = _OPTIONS.get(parts.scheme, frozenset())
    database = options.get("db", "0")
    where = bool(parts.path.strip("/")) and port is None if parts.scheme == "unix" else bool(parts.hostname)
    if parts.scheme != "unix":
        # The client takes database 0 for a path that is no number, and says nothing.
        database = parts.path.removeprefix("/") or database
    number = database.isascii() and database.isdigit()
    if not known or not where or not number or port == 0 or parts.fragment or not known.issuperset(options):
        raise wrong(("", EXPECTED, NOT_SHOWN))
    return value
