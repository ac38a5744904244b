"""A mail server that takes mail of whoever has a good access token (XOAUTH2), over TLS; any number of connections."""

import base64
import socket
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

from tests.integration.smtp.dialogue import AUTHORITY, Peer


class MailServer:
    """`good` are the tokens that it takes; `tried` are those it has heard, `bodies` the mails it took."""

    def __init__(self, good: Collection[str]) -> None:
        self.good = set(good)
        self.tried: list[str] = []
        self.bodies: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.port: int = self._listener.getsockname()[1]

    def account(self, **oauth: Any) -> dict[str, Any]:
        """The keys of an account here."""
        return {
            "host": "localhost",
            "port": self.port,
            "username": "tenant@example.com",
            "ca_file": AUTHORITY,
            "oauth": oauth,
        }

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        peer = Peer(sock, [])
        try:
            peer.encrypt()
            peer.greet("AUTH XOAUTH2")
            user, bearer, *_ = base64.b64decode(peer.hear("AUTH XOAUTH2 ").split()[2]).decode().split("\x01")
            assert user == "user=tenant@example.com"
            token = bearer.removeprefix("auth=Bearer ")
            self.tried.append(token)
            if token not in self.good:
                peer.say("334 e30=")
                peer.answer("\r\n", "535 5.7.3 Authentication unsuccessful")
                return
            peer.say("235 2.7.0 ok")
            while (line := peer.hear()).startswith("MAIL"):
                peer.say("250 ok")
                peer.answer("RCPT", "250 ok")
                peer.answer("DATA", "354 go")
                self.bodies.append(peer.body())
                peer.say("250 2.0.0 Ok: queued as ABC123")
            assert line == "QUIT"
            peer.say("221 bye")
        except (EOFError, OSError):
            pass
        finally:
            peer.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone does not wake a thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
