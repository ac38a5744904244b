"""Free ports for servers that cannot be told to take any port and say which."""

import secrets
import socket

# Below the range that Linux gives to outgoing connections (32768 and up): a port found free stays free of those.
FIRST, LAST = 20_000, 32_000


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on `host` that nothing listened on a moment ago; somebody else may take it before the caller does."""
    for _ in range(100):
        port = FIRST + secrets.randbelow(LAST - FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {FIRST} and {LAST} on {host} in 100 tries")
