"""What strangers put into mails, and what strangers' pages try: nothing of it becomes part of a page of ours."""

import http.client
import re
import socket
from html.parser import HTMLParser

import pytest

from tests.integration.catcher_web.conftest import Site
from tests.integration.catcher_web.samples import plain, receipt, with_html
from tests.integration.catcher_web.vectors import VECTORS


class Markup(HTMLParser):
    """The tags and attributes that a page has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.seen |= {f"{tag}[{name}]" for name, _ in attrs}


def everywhere(vector: str) -> bytes:
    """A mail with *vector* in all that a page shows of it."""
    text = vector.replace("\0", "").encode()
    lines = [
        b"From: " + text,
        b"To: " + text,
        b"Cc: " + text,
        b"Subject: " + text,
        b"Message-ID: <" + text + b">",
    ]
    lines += [b"X-Mailfleet-App: " + text, b"Reply-To: " + text, b"Date: " + text, b"X-" + b"Other: " + text]
    lines += [b"Content-Type: multipart/mixed; boundary=b", b"", b"--b", b"", text, b"--b"]
    name = text.replace(b"\\", b"").replace(b'"', b'\\"')
    lines += [
        b'Content-Type: text/x"><script>; name="' + name + b'"',
        b"Content-ID: <" + text + b">",
        b"",
        b"x",
        b"--b--",
        b"",
    ]
    return b"\r\n".join(lines)


def test_no_value_becomes_markup(site: Site) -> None:
    """With hostile mails, list, search and every view have the tags and attributes they have with harmless ones."""
    views = ("text", "headers", "source")
    harmless = everywhere("harmless https://x.test/")
    number = site.send(harmless)
    listed = Markup(site.get("/?q=x").text + site.get("/").text).seen
    known = {view: Markup(site.get(f"/mails/{number}?view={view}").text).seen for view in views}
    numbers = [site.service.store.add(receipt(everywhere(vector))).number for vector in VECTORS.values()]

    for path in ("/", "/?before=30", "/?q=%22%3E%3Cscript%3E", "/?q=alert"):
        assert Markup(site.get(path).text).seen <= listed | {"a[class]"}
    for number in numbers:
        for view in views:
            seen = Markup(site.get(f"/mails/{number}?view={view}").text).seen
            assert seen <= known[view], (number, view)


@pytest.mark.parametrize("path", ["/", "/mails/1", "/mails/1?view=source", "/mails/7", "/?q=x"])
def test_our_pages_allow_no_foreign_content(site: Site, path: str) -> None:
    """A page of ours runs our script only, and stands in nobody's frame."""
    site.send(with_html("x"))

    fields = site.ask("GET", path).fields
    policy = fields["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["cross-origin-resource-policy"] == "same-origin"
    assert fields["cache-control"] == "no-store"


def test_html_of_a_mail_is_sandboxed(site: Site) -> None:
    """A mail's HTML may run nothing, send nothing, and load nothing but the mail's own images."""
    number = site.send(with_html("<p>x"))

    fields = site.get(f"/mails/{number}/html").fields
    assert fields["content-security-policy"] == (
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src 'self' data:;"
        " style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    )
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert fields["referrer-policy"] == "no-referrer"
    assert fields["x-dns-prefetch-control"] == "off"


def test_attachments_are_saved_never_shown(site: Site) -> None:
    """HTML and SVG that are attached, and the source, can do nothing when somebody opens their address."""
    number = site.send(with_html("x"))

    attached = site.get(f"/mails/{number}/parts/4")
    assert attached.body.rstrip() == b"<script>alert(1)</script>"
    assert attached.fields["content-type"] == "application/octet-stream"
    assert attached.fields["content-disposition"].startswith('attachment; filename="evil.html"')
    for path in ("parts/1", "parts/2", "parts/3", "parts/4", "raw", "mail.eml"):
        fields = site.get(f"/mails/{number}/{path}").fields
        assert fields["content-security-policy"].startswith("sandbox; default-src 'none'"), path
        assert fields["content-type"] in {"application/octet-stream", "text/plain; charset=utf-8"}
        assert fields["x-content-type-options"] == "nosniff"


def test_delete_needs_our_form(site: Site) -> None:
    """All mails go when our own form asks for it; without its token, or from another site, they stay."""
    for _ in range(3):
        site.send(plain())
    found = re.search(r'name="token" value="(\w+)"', site.get("/").text)
    assert found is not None
    form = f"token={found[1]}".encode()
    here = f"127.0.0.1:{site.service.http.port}"

    assert site.ask("POST", "/delete", b"").status == 403
    assert site.ask("POST", "/delete", b"token=x").status == 403
    assert site.ask("POST", "/delete", form, Origin="http://evil.test").status == 403
    assert site.ask("POST", "/delete", form, Origin="null").status == 403
    assert site.ask("DELETE", "/api/mails", Origin="http://evil.test").status == 403
    assert site.ask("DELETE", "/api/mails", Sec_Fetch_Site="cross-site").status == 403
    assert len(site.service.store) == 3
    done = site.ask("POST", "/delete", form, Origin=f"http://{here}")
    assert (done.status, done.fields["location"]) == (303, "/")
    assert len(site.service.store) == 0
    assert "No mail yet" in site.get("/").text
    assert list(site.service.store.directory.iterdir()) == []


def test_other_sites_cannot_read(site: Site) -> None:
    """A page under a name that was pointed here reads nothing, and no other site is allowed anything."""
    site.send(plain())

    assert site.ask("GET", "/", Host="evil.example.com").status == 421
    assert b"the text" not in site.ask("GET", "/api/mails/1", Host="evil.example.com:8025").body
    preflight = site.ask(
        "OPTIONS", "/api/mails", Origin="http://evil.test", Access_Control_Request_Method="DELETE"
    )
    assert preflight.status == 405
    assert not [name for name in preflight.fields if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(site: Site, method: str) -> None:
    """Nothing but reading and the two ways to delete is answered."""
    assert site.ask(method, "/", b"").status == 405


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /nothing\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[x/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"POST /delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /delete HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"<script>alert(1)</script> / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?" + b"a=1&" * 100 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_broken_requests(site: Site, request_bytes: bytes) -> None:
    """A request that is none gets an error in our words, and the next client its page."""
    with socket.create_connection(("127.0.0.1", site.service.http.port), timeout=10) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: client.recv(65536), b""))

    assert re.match(rb"HTTP/1\.1 (?:4\d\d|501) ", said), said[:200]
    assert b"<script>" not in said
    site.get("/")


def test_body_that_nobody_reads_is_no_request(site: Site) -> None:
    """What follows a request that should have no body is not taken for another request."""
    hidden = b"GET /mails/1/raw HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.service.http.port), timeout=10) as client:
        client.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden
        )
        said = b"".join(iter(lambda: client.recv(65536), b""))

    assert said.count(b"HTTP/1.1 ") == 1


def test_connections_are_kept(site: Site) -> None:
    """Several requests go over one connection, also after a reply in pieces."""
    site.send(with_html("x"))
    connection = http.client.HTTPConnection("127.0.0.1", site.service.http.port, timeout=10)
    try:
        for path in ("/", "/mails/1/parts/3", "/mails/1/raw", "/nothing", "/"):
            connection.request("GET", path)
            reply = connection.getresponse()
            reply.read()
            assert not reply.will_close, path
    finally:
        connection.close()
