"""Which request gets which reply.

Pages: `/?q=WORDS&before=ID`, `/mails/ID?view=html|text|headers|links|source`. Content: `/mails/ID/html`, `/raw`, `/mail.eml`,
`/parts/N`, `/inline/N?key=KEY`. `POST /delete`. `/healthz` is 200 while mail is taken. For tests:

- `GET /api/mails?query=WORDS&after=ID&before=ID&limit=N&wait=SECONDS`: newest first; with `after` the mails that came after
  that one, oldest first. `wait` (at most 30) holds the reply until there is one. A mail whose SMTP client has read 250 is in it.
- `GET /api/mails/ID`, `DELETE /api/mails`, `GET /api/stand`.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import get_args

from mailfleet_workers.catcher import DirectoryStore
from mailfleet_workers.catcher_web import api, caught, pages, reply, transfer
from mailfleet_workers.catcher_web.caught import MAX_HTML, Caught
from mailfleet_workers.catcher_web.index import Index
from mailfleet_workers.catcher_web.markup import asset
from mailfleet_workers.catcher_web.parts import Part
from mailfleet_workers.catcher_web.preview import framed
from mailfleet_workers.catcher_web.reply import Reply
from mailfleet_workers.catcher_web.request import Request, known_host

_STATIC = {
    "/static/style.css": "text/css; charset=utf-8",
    "/static/page.js": "text/javascript; charset=utf-8",
    "/static/icon.svg": "image/svg+xml",
}
_MAIL = re.compile(r"/mails/([0-9]{1,15})(?:/(html|raw|mail\.eml|(?:parts|inline)/([0-9]{1,5})))?")
_API_MAIL = re.compile(r"/api/mails/([0-9]{1,15})")
#: Shown inside a mail; everything else is only saved.
_IMAGES = re.compile(r"image/(?:png|jpe?g|gif|webp|avif|bmp|svg\+xml|x-icon|vnd\.microsoft\.icon)")
_PAGE = 50
_API_PAGE = 500
_MAX_WAIT_S = 30
#: How long a reply waits for the index to take in what came before it.
_CATCH_UP_S = 3.0


class Routes:
    """Answers requests about *store*; any thread may call.

    *smtp* says where mail is taken, *limit* how many mails are kept, *alive* whether mail is taken now. *names* are host
    names, beside the harmless ones, under which we may be asked.
    """

    def __init__(
        self,
        store: DirectoryStore,
        index: Index,
        *,
        smtp: str,
        limit: int | None = None,
        alive: Callable[[], bool] = lambda: True,
        names: frozenset[str] = frozenset(),
    ) -> None:
        self._store = store
        self._index = index
        self._smtp = smtp
        self._limit = limit
        self._alive = alive
        self._names = names
        self._secret = secrets.token_bytes(32)

    def answer(self, request: Request) -> Reply:
        """The reply to *request*."""
        if request.path == "/healthz":
            return reply.plain("ok") if self._alive() else reply.plain("no mail is taken", 503)
        if not known_host(request.fields.get("host"), self._names):
            return reply.plain("This host name is not known here; --name makes it known.", 421)
        try:
            match request.method:
                case "GET":
                    return self._get(request)
                case "POST" if request.path == "/delete":
                    return self._delete(request, self._token_matches(request), reply.see("/"))
                case "DELETE" if request.path == "/api/mails":
                    # Browsers ask before they send this for another site, and we never say yes.
                    return self._delete(request, True, reply.as_json({"deleted": True}))
                case _:
                    return reply.plain("Only GET here.", 405, {"Allow": "GET, HEAD"})
        except ValueError as error:
            return reply.plain(str(error), 400)
        except KeyError:
            if request.path.startswith("/api/"):
                return reply.as_json({"error": "there is no such mail"}, 404)
            return reply.page(pages.problem("There is no such mail, or not any more.", self._stand()), 404)

    def _get(self, request: Request) -> Reply:
        if request.path == "/":
            return self._list(request)
        if request.path in _STATIC:
            kind = _STATIC[request.path]
            fields = {"Content-Type": kind, "Cache-Control": "max-age=300"}
            return Reply(200, fields, asset(request.path.rpartition("/")[2]).encode())
        if request.path == "/api/mails":
            return self._api_list(request)
        if request.path == "/api/stand":
            stand = self._stand()
            behind = self._index.page(limit=0).behind
            return reply.as_json({"stand": f"{stand.count}-{stand.last}", "behind": behind})
        if found := _API_MAIL.fullmatch(request.path):
            with caught.opened(self._store, int(found[1])) as mail:
                return reply.as_json(api.mail(mail))
        if found := _MAIL.fullmatch(request.path):
            return self._mail(request, int(found[1]), found[2] or "", int(found[3] or 0))
        raise KeyError(request.path)

    def _list(self, request: Request) -> Reply:
        self._index.catch_up(_CATCH_UP_S)
        query, before = request.text("q")[:500], request.number("before")
        found = self._index.page(query, before=before, limit=_PAGE)
        return reply.page(pages.listing(found, self._stand(), query=query, before=before))

    def _api_list(self, request: Request) -> Reply:
        until = time.monotonic() + min(request.number("wait") or 0, _MAX_WAIT_S)
        limit = min(request.number("limit") or _PAGE, _API_PAGE)
        query, after, before = request.text("query")[:500], request.number("after"), request.number("before")
        self._index.catch_up(_CATCH_UP_S)
        while True:
            changes = self._index.changes
            found = self._index.page(query, after=after, before=before, limit=limit)
            left = until - time.monotonic()
            if found.mails or left <= 0 or self._index.stopped:
                return reply.as_json(api.mails(found, count=len(self._store), last=self._store.last))
            self._index.wait_for_change(changes, left)

    def _mail(self, request: Request, number: int, what: str, index: int) -> Reply:
        with ExitStack() as stack:
            mail = stack.enter_context(caught.opened(self._store, number))
            if not what:
                view = next((v for v in get_args(pages.View) if v == request.text("view")), None)
                around = self._index.neighbours(number)
                return reply.page(pages.mail(mail, self._stand(), view=view, around=around))
            if what == "html":
                return self._html(mail)
            if what in {"raw", "mail.eml"}:
                content = transfer.blocks(mail.data, 0, mail.size)
                made = _source(number, mail.size, saved=what == "mail.eml")
            else:
                part = mail.part(index)
                if part is None:
                    raise KeyError(index)
                content = mail.content(part)
                if what.startswith("parts/"):
                    made = reply.download(part.filename or f"mail-{number}-part-{index}")
                elif self._may_show(request, number, part):
                    # The frame has an origin of its own, so that its images come from another one.
                    made = reply.foreign(part.kind, {"Cross-Origin-Resource-Policy": "cross-origin"})
                else:
                    raise KeyError(index)
            return Reply(made.status, made.fields, _held(content, stack.pop_all()))

    def _may_show(self, request: Request, number: int, part: Part) -> bool:
        key = request.text("key").encode()
        return bool(_IMAGES.fullmatch(part.kind)) and hmac.compare_digest(key, self._key(number).encode())

    def _html(self, mail: Caught) -> Reply:
        part = mail.html_part
        if part is None:
            raise KeyError(mail.number)
        key = self._key(mail.number)
        inline = {
            image.content_id: f"/mails/{mail.number}/inline/{image.index}?key={key}"
            for image in mail.structure.parts
            if image.content_id and _IMAGES.fullmatch(image.kind)
        }
        return reply.mail_html(framed(mail.text(part, MAX_HTML).text, inline))

    def _delete(self, request: Request, proven: bool, done: Reply) -> Reply:
        if not proven or request.foreign_origin:
            return reply.plain(
                "This request does not come from a page of this server; load the page anew.", 403
            )
        self._store.clear()
        return done

    def _token_matches(self, request: Request) -> bool:
        return hmac.compare_digest(request.form("token").encode(), self._key(0).encode())

    def _key(self, number: int) -> str:
        """What only our own pages know: the right to delete (0), and to see the images of a mail."""
        return hmac.new(self._secret, str(number).encode(), hashlib.sha256).hexdigest()[:32]

    def _stand(self) -> pages.Stand:
        return pages.Stand(len(self._store), self._store.last, self._limit, self._smtp, self._key(0))


def _source(number: int, size: int, *, saved: bool) -> Reply:
    """How a whole mail is sent, to be looked at or to be saved."""
    length = {"Content-Length": str(size)}
    if saved:
        return reply.download(f"mail-{number}.eml", length)
    return reply.foreign("text/plain; charset=utf-8", length)


def _held(content: Iterator[bytes], stack: ExitStack) -> Iterator[bytes]:
    """*content*, and *stack* closed after it."""
    with stack:
        yield from content
