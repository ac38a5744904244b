"""A mail's HTML for its frame, and where its links lead."""

import time

import pytest

from mailfleet_workers.catcher_web.preview import framed, links

BASE = '<base target="_blank">'


def test_images_of_the_mail_are_found() -> None:
    """`cid:` addresses become those of the mail's parts, escaped or percent-encoded ones too; others stay."""
    document = (
        '<img src="cid:a@x"><img src=\'CID:b&amp;c%40x\'><td style="background:url(cid:a@x)"><img src=cid:no>'
    )

    assert framed(document, {"a@x": "/1?key=k", "b&c@x": "/2"}) == (
        f'{BASE}<img src="/1?key=k"><img src=\'/2\'><td style="background:url(/1?key=k)"><img src=cid:no>'
    )


@pytest.mark.parametrize(
    "begin",
    [
        "<!doctype html>",
        "\ufeff <!-- a --> <!DOCTYPE html PUBLIC 'x'>",
        '<?xml version="1.0"?>\n<!doctype html>',
        "",
    ],
)
def test_layout_mode_is_the_mails(begin: str) -> None:
    """What is put in comes after the mail's doctype, or first where there is none."""
    assert framed(f"{begin}<p>x", {}) == f"{begin}{BASE}<p>x"


def test_elements_that_connect_are_disarmed() -> None:
    """Elements for which browsers connect in spite of a policy are none any more; similar names are left."""
    document = "<link rel=preconnect href=//x><LINK\nrel=dns-prefetch href=//x><p>a</p></link><linker><IFRAME/src=//x>"

    assert framed(document, {}) == (
        f"{BASE}<x-link rel=preconnect href=//x><x-LINK\nrel=dns-prefetch href=//x><p>a</p></x-link><linker>"
        "<x-IFRAME/src=//x>"
    )


def test_links_are_listed() -> None:
    """Addresses and texts in their order, each once, and only what may be clicked on."""
    document = (
        '<a class=b href="https://x.test/?a=1&amp;b=2">Confirm <b>now</b></a><A HREF=mailto:a@x.test>write</A>'
        "<a href='javascript:alert(1)'>no</a><a href=' java\tscript:alert(1)'>no</a><a href='data:text/html,x'>no</a>"
        '<a href="/relative">no</a><a data-href="https://no.test">no</a><area href=http://y.test>'
        '<a class=b href="https://x.test/?a=1&amp;b=2">Confirm <b>now</b></a><a href="https://[broken">no</a>'
    )

    assert links(document) == (
        ("https://x.test/?a=1&b=2", "Confirm now"),
        ("mailto:a@x.test", "write"),
        ("http://y.test", ""),
    )


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<a href=",
        "<!-- -->",
        "<!--",
        "cid:",
        "<link",
        "<a href='",
        "<a href=http://x>",
        '<area href="http://x',
        "<" * 9,
    ],
)
def test_hostile_html_takes_little_time(piece: str) -> None:
    """Two megabytes of any beginning are read in a moment."""
    document = piece * (2_000_000 // len(piece))
    begin = time.process_time()

    framed(document, {"x": "/1"})
    links(document)

    assert time.process_time() - begin < 4
