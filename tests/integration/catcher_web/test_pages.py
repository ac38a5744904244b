"""The pages: what people see of mails."""

import base64
import http.client
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.catcher_web.conftest import Site
from tests.integration.catcher_web.samples import PNG, plain, receipt, with_html


def rows(text: str) -> list[int]:
    return [int(number) for number in re.findall(r'class="mail" href="/mails/(\d+)"', text)]


def test_list_is_newest_first(site: Site) -> None:
    """The list has all mails, newest first, with names in every script, subject, app and size."""
    site.send(plain("first"))
    site.send(plain("声声慢", sender="李清照 <li@x.test>", app="poems"))

    text = site.get("/").text

    assert rows(text) == [2, 1]
    for shown in (
        "李清照 &lt;li@x.test&gt;",
        "声声慢",
        ">poems<",
        "first",
        "Grace &lt;grace@y.test&gt;",
        " B<",
    ):
        assert shown in text


def test_empty_list_says_where_to_send(site: Site) -> None:
    """Who has no mail yet reads where to send it."""
    assert f"<code>{site.service.smtp}</code>" in site.get("/").text


def test_pages_of_a_long_list(site: Site) -> None:
    """Following "Older" shows every mail once."""
    for number in range(120):
        site.service.store.add(receipt(plain(f"mail {number}")))
    seen: list[int] = []
    path: str | None = "/"
    while path:
        text = site.get(path).text
        seen += rows(text)
        onward = re.search(r'class="older" href="([^"]+)"', text)
        path = onward[1].replace("&amp;", "&") if onward else None

    assert seen == list(range(120, 0, -1))


def test_search(site: Site) -> None:
    """A search finds mails that have all its words, in any case and width, and shows the words again, escaped."""
    site.send(plain("Grüße aus KÖLN", app="billing"))
    site.send(plain("Other", sender="Ada <ada@köln.test>".replace("ö", "oe")))
    site.send(plain('"><b>'), sender="bounce@x.test")

    for query, found in {
        "köln": [1],
        "k%C3%96LN+GR%C3%9CSSE": [1],
        "ada": [3, 2, 1],
        "billing+ada": [1],
        "bounce": [3],
        "%": [],
        "_": [],
        "nothing": [],
    }.items():
        assert rows(site.get(f"/?q={query.replace('ö', '%C3%B6')}").text) == found, query
    assert 'value="&quot;&gt;&lt;b&gt;"' in site.get("/?q=%22%3E%3Cb%3E").text


def test_one_mail(site: Site) -> None:
    """A mail's page has its facts, its files, and a view of HTML, text, headers, links or source."""
    number = site.send(with_html('<a href="https://x.test/confirm">Confirm</a>'), to=("b@y.test", "c@y.test"))

    text = site.get(f"/mails/{number}").text
    assert f'<iframe class="preview" src="/mails/{number}/html"' in text
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in text
    assert "&lt;a@x.test&gt; to b@y.test, c@y.test" in text
    assert "evil.html" in text
    assert ">the text\n" in site.get(f"/mails/{number}?view=text").text
    assert "<dt>Content-Type</dt>" in site.get(f"/mails/{number}?view=headers").text
    assert 'href="https://x.test/confirm"' in site.get(f"/mails/{number}?view=links").text
    assert "&lt;script&gt;" in site.get(f"/mails/{number}?view=source").text
    assert "iframe" in site.get(f"/mails/{number}?view=nonsense").text


def test_neighbours(site: Site) -> None:
    """A mail's page leads to the newer and the older one, where there are any."""
    for subject in ("a", "b", "c"):
        site.send(plain(subject))
    # The list has waited until all are in.
    site.get("/")

    assert re.findall(r'<a href="/mails/(\d)">(\w+)', site.get("/mails/2").text) == [
        ("3", "Newer"),
        ("1", "Older"),
    ]
    assert re.findall(r'<a href="/mails/(\d)">(\w+)', site.get("/mails/3").text) == [("2", "Older")]


def test_images_of_the_mail(site: Site) -> None:
    """The frame's HTML shows the mail's images; without the key that it has, nobody else does."""
    number = site.send(with_html("<img src='cid:logo@x'>"))

    found = re.search(r"<img src='([^']+)'>", site.get(f"/mails/{number}/html").text)
    assert found is not None
    image = site.get(found[1])
    assert (image.body, image.fields["content-type"]) == (PNG, "image/png")
    assert image.fields["cross-origin-resource-policy"] == "cross-origin"
    site.get(found[1].partition("?")[0], 404)
    site.get(found[1][:-1] + "x", 404)
    # A key shows images only, and those of its mail.
    site.get(found[1].replace("inline/3", "inline/4"), 404)
    site.send(with_html("x"))
    site.get(found[1].replace(f"mails/{number}", f"mails/{number + 1}"), 404)


def test_source_and_download(site: Site) -> None:
    """The source is byte for byte what the client sent, to be read or to be saved; HEAD has its length."""
    message = b"Subject: \xff\r\n\r\n.dot\r\n" + bytes(range(1, 10)) + b"\r\n"
    number = site.send(message)

    raw = site.get(f"/mails/{number}/raw")
    assert (raw.body, raw.fields["content-type"]) == (message, "text/plain; charset=utf-8")
    saved = site.get(f"/mails/{number}/mail.eml")
    assert saved.body == message
    assert saved.fields["content-disposition"].startswith(f'attachment; filename="mail-{number}.eml"')
    head = site.ask("HEAD", f"/mails/{number}/raw")
    assert (head.body, head.fields["content-length"]) == (b"", str(len(message)))


@pytest.mark.parametrize(
    "path",
    ["/mails/7", "/mails/0", "/mails/999999999999999", "/mails/1/parts/9", "/mails/1/html", "/mails/1/parts/0", "/nothing",
     "/static/../reply.py", "/static/%2e%2e/reply.py", "/mails/1/x", "/mails/-1", "/api/mails/7", "/api/nothing"],
)  # fmt: skip
def test_what_is_not_there(site: Site, path: str) -> None:
    """What is not there is 404, on a page of ours."""
    site.send(plain())

    site.get(path, 404)


def test_wrong_numbers(site: Site) -> None:
    """A number that is none is said in a line."""
    assert site.get("/?before=x", 400).text == "before: expected a number, got 'x'\n"
    site.get("/api/mails?limit=-1", 400)
    site.get(f"/api/mails?after={'9' * 30}", 400)


@pytest.mark.parametrize(
    "message",
    [
        b"\r\n",
        b"no header at all\r\n",
        b"Subject: =?utf-8?b?////?=\r\nContent-Type: multipart/mixed; boundary=\r\n\r\n--\r\n",
        b"Content-Type: text/html; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n",
        b"Content-Type: text/html; charset=idna\r\n\r\n\xff\xfe\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 50 + b"\r\n",
        b"From: \0\x01\x1b[2J\xe2\x80\xae\r\nSubject: " + b"x" * 100_000 + b"\r\n\r\n\0\r\n",
        b'Content-Type: application/x; name="\\\\../../a\r\n\tb"\r\nContent-Disposition: attachment; filename*=x\'y\'%ff%00\r\n\r\nx\r\n',
    ],
)  # fmt: skip
def test_broken_mails_are_shown(site: Site, message: bytes) -> None:
    """A mail that follows no rule has a list line and all its views."""
    number = site.send(message)

    assert rows(site.get("/").text) == [number]
    for view in ("html", "text", "headers", "links", "source"):
        assert site.get(f"/mails/{number}?view={view}").status == 200
    document = site.json(f"/api/mails/{number}")
    for part in document["parts"]:
        assert len(site.get(part["url"]).body) == part["size"]


def fetch_length(site: Site, path: str) -> int:
    """How many bytes a reply has, read in pieces."""
    connection = http.client.HTTPConnection("127.0.0.1", site.service.http.port, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return sum(len(piece) for piece in iter(lambda: reply.read(100_000), b""))
    finally:
        connection.close()


def test_large_mail_needs_little_memory(site: Site) -> None:
    """A mail of 25 MiB is listed, shown and downloaded without being in memory whole."""
    content = bytes(range(256)) * 72_000
    message = (
        b"Subject: large\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(content).replace(b"\n", b"\r\n")
    )
    number = site.service.store.add(receipt(message)).number
    tracemalloc.start()
    try:
        site.get("/")
        assert "18.4 MB" in site.get(f"/mails/{number}").text
        site.get(f"/mails/{number}?view=source")
        length = fetch_length(site, f"/mails/{number}/parts/1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert length == len(content)
    assert peak < 12 * 1024 * 1024


def test_many_readers_at_once(site: Site) -> None:
    """Twenty readers get their pages while mail comes in."""
    site.send(with_html("<p>x"))

    def read(_: int) -> list[int]:
        return [site.get(path).status for path in ("/", "/mails/1", "/mails/1/html", "/api/mails")]

    with ThreadPoolExecutor(20) as pool:
        pending = [pool.submit(read, n) for n in range(20)]
        for _ in range(10):
            site.send(plain())
        assert {status for future in pending for status in future.result(30)} == {200}
