"""Access tokens for one process: kept until shortly before their end, and renewed once for the whole fleet.

Of all threads that need a new one, one per process looks at the row; of all processes, the one that has the lease asks the token
endpoint, and the others wait for what it writes. One that is killed meanwhile is replaced when its lease is over. What goes wrong is a
value with a reason, never an exception, and nothing of it was a login.
"""

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from sqlalchemy.exc import SQLAlchemyError

from mailfleet_workers.accounts.oauth import providers
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.decision import LAST_S, Await, Renew, Rest, Use, decide
from mailfleet_workers.accounts.oauth.issued import Issued, Refused, Unavailable
from mailfleet_workers.accounts.oauth.issuer import Issuer
from mailfleet_workers.accounts.oauth.rows import MemoryRows, Rows
from mailfleet_workers.accounts.oauth.seal import Seal
from mailfleet_workers.secret import Secret

log = logging.getLogger(__name__)

#: A token is renewed so many seconds before its end, at most a fifth of its life; each process a bit later than that, by chance.
EARLY_S = 300.0
#: Longer than a refresh by so many seconds is its lease.
MARGIN_S = 5.0
#: After a refresh that failed nobody asks for so long, or for as long as the endpoint said, at most `MOST_REST_S`.
REST_S, MOST_REST_S = 30.0, 900.0
#: After a refusal, where no token is left: the account waits by itself, and must be let when somebody opens it.
REFUSED_REST_S = 5.0
#: How often those who wait look at the row, in seconds.
LOOK_S = 0.25
#: A token that a server refused in its first seconds is not to blame.
FRESH_S = 60.0
#: How often it is tried to write a token that was got, and the pause between, in seconds: nobody else has it.
WRITES, WRITE_PAUSE_S = 4, 0.25

#: How errors begin of which the rules for silences know: a refusal needs somebody, the rest passes.
REFUSED, FAILED = "token refused: ", "token not renewed: "


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; `generation` tells it from others of its account. `age_s` is for how long it has been there."""

    value: Secret
    generation: int
    age_s: float


@dataclass(frozen=True, slots=True)
class NoToken:
    """Why there is none, in words that hold no secret; they begin with `REFUSED` or `FAILED`."""

    why: str


@dataclass(frozen=True, slots=True)
class _Held:
    """A token as it was read last, by the clock of this process; replaced as a whole."""

    value: Secret
    generation: int
    lifetime_s: float
    #: When it ends, and for how long before that it is to be renewed.
    expires: float
    early_s: float


@dataclass(slots=True)
class _Known:
    """What this process knows of one row; the lock is for whoever looks at it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    held: _Held | None = None
    rejected: int | None = None


class Tokens:
    """One process's, for all its accounts; thread-safe. *rows* None: they are shared with nobody.

    *clock* is monotonic, in seconds; *find* finds own providers; *pause* sleeps. A refresh that takes *margin_s* longer than its timeout
    is taken over by others.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        rows: Rows | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        find: providers.Find = providers.installed,
        pause: Callable[[float], object] = time.sleep,
        margin_s: float = MARGIN_S,
    ) -> None:
        self._environ = environ
        self._rows = MemoryRows(clock) if rows is None else rows
        self._clock = clock
        self._rng = rng or random.Random()
        self._issuer = Issuer(environ, find)
        self._pause = pause
        self._margin_s = margin_s
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def token(self, account: str, client: OAuthClient) -> Token | NoToken:
        """A token for *account*; waits while it is renewed, at most for a lease that lapses and a refresh of our own.

        Raises SettingsError where a secret is missing.
        """
        seal = Seal.of(account, client, self._environ)
        known = self._of(seal.name)
        patience_s = 2 * (client.timeout_s + self._margin_s)
        until = self._clock() + patience_s
        ours = known.lock.acquire(blocking=False)
        if not ours:
            # While another thread renews it early, the one that is there is still good.
            if (token := self._good(known)) is not None:
                return token
            if not known.lock.acquire(timeout=patience_s):
                return NoToken(f"{FAILED}another thread has not done it in time")
        try:
            if (token := self._good(known, early=True)) is not None:
                return token
            return self._look(account, client, seal, known, until)
        except SQLAlchemyError as error:
            log.warning("oauth_token_unread", extra={"account": account, "error": type(error).__name__})
            return self._good(known) or NoToken(f"{FAILED}the database did not answer")
        finally:
            known.lock.release()

    def rejected(self, account: str, client: OAuthClient, token: Token) -> bool:
        """A server refused *token*; whether another may do better: not where this one was new. Raises SettingsError."""
        known = self._of(Seal.of(account, client, self._environ).name)
        with known.lock:
            if known.held is not None and known.held.generation != token.generation:
                return True
            if token.age_s < FRESH_S:
                return False
            known.rejected = token.generation
            return True

    def close(self) -> None:
        """End the threads that wait for work."""
        self._issuer.close()

    def _of(self, name: str) -> _Known:
        with self._lock:
            return self._known.setdefault(name, _Known())

    def _good(self, known: _Known, *, early: bool = False) -> Token | None:
        """The token that is there, if it can be used; *early*: if it need not even be renewed."""
        held = known.held
        if held is None or known.rejected == held.generation:
            return None
        left_s = held.expires - self._clock()
        if left_s <= max(min(LAST_S, held.lifetime_s / 10), held.early_s if early else 0.0):
            return None
        return Token(held.value, held.generation, held.lifetime_s - left_s)

    def _look(
        self, account: str, client: OAuthClient, seal: Seal, known: _Known, until: float
    ) -> Token | NoToken:
        """Look at the row until it has a token, or says why not; renew it if nobody else does."""
        renewed = False
        while True:
            row = self._rows.read(seal.name)
            issued = None if row is None or row.sealed is None else seal.open(row.sealed)
            if row is not None and issued is not None:
                self._keep(known, issued, row.generation, row.left_s or 0.0)
            lifetime_s = None if issued is None else issued.lifetime_s
            early_s = 0.0 if known.held is None else known.held.early_s
            match decide(row, lifetime_s=lifetime_s, early_s=early_s, rejected=known.rejected):
                case Use():
                    if (token := self._good(known)) is not None:
                        return token
                case Rest(reason):
                    return NoToken(reason)
                case Await():
                    pass
                case Renew(good):
                    generation = 0 if row is None else row.generation
                    done = (
                        NoToken(f"{FAILED}the new one ended at once")
                        if renewed
                        else self._renew(account, client, seal, issued, generation, good=good)
                    )
                    if isinstance(done, NoToken):
                        return (self._good(known) if good else None) or done
                    if renewed := done:
                        continue
                case never:
                    assert_never(never)
            if self._clock() >= until:
                return NoToken(f"{FAILED}another process has not done it in time")
            self._pause(LOOK_S)

    def _keep(self, known: _Known, issued: Issued, generation: int, left_s: float) -> None:
        if known.held is not None and known.held.value == issued.access_token:
            early_s = known.held.early_s
        else:
            # Not all at the same moment: the first one to be there does it for all.
            early_s = min(EARLY_S, issued.lifetime_s / 5) * self._rng.uniform(0.5, 1.0)
        expires = self._clock() + left_s
        known.held = _Held(issued.access_token, generation, issued.lifetime_s, expires, early_s)

    def _renew(
        self,
        account: str,
        client: OAuthClient,
        seal: Seal,
        before: Issued | None,
        generation: int,
        *,
        good: bool,
    ) -> NoToken | bool:
        """Renew the token, True when that is done; False where somebody else does, or has since the row was read."""
        by, lease_s = uuid.uuid4().hex, client.timeout_s + self._margin_s
        if not self._rows.lease(seal.name, generation=generation, by=by, lease_s=lease_s):
            return False
        started = self._clock()
        match self._issuer.ask(account, client, None if before is None else before.refresh_token):
            case Issued() as issued:
                left_s = issued.lifetime_s - (self._clock() - started)
                if not self._write(seal, issued, by, left_s):
                    return False
                seconds = round(issued.lifetime_s)
                log.info("oauth_token_renewed", extra={"account": account, "seconds": seconds})
                return True
            case Refused(why):
                log.error("oauth_token_refused", extra={"account": account, "error": why})
                failed, rest_s = NoToken(f"{REFUSED}{why}"), REST_S if good else REFUSED_REST_S
            case Unavailable(why, retry_after_s):
                log.warning("oauth_token_unavailable", extra={"account": account, "error": why})
                failed, rest_s = (
                    NoToken(f"{FAILED}{why}"),
                    min(max(retry_after_s or 0.0, REST_S), MOST_REST_S),
                )
            case never:
                assert_never(never)
        self._rows.fail(seal.name, by=by, reason=failed.why, rest_s=rest_s)
        return failed

    def _write(self, seal: Seal, issued: Issued, by: str, left_s: float) -> bool:
        """Write what was got; False where the lease is somebody else's by now.

        It is tried again: nobody else has it, and a server that changes refresh tokens takes the old one no more.
        """
        sealed = seal.close(issued)
        for _ in range(WRITES - 1):
            try:
                return self._rows.store(seal.name, by=by, sealed=sealed, expires_s=left_s) is not None
            except SQLAlchemyError:
                self._pause(WRITE_PAUSE_S)
        return self._rows.store(seal.name, by=by, sealed=sealed, expires_s=left_s) is not None
