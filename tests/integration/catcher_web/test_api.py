"""What tests ask the catcher."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.integration.catcher_web.conftest import Site
from tests.integration.catcher_web.samples import plain, with_html


def test_a_mail_is_listed_when_its_client_knows(site: Site) -> None:
    """A mail whose client has read 250 is in the next answer, every time."""
    for number in range(1, 30):
        site.send(plain(f"mail {number}"))
        (found,) = site.json(f"/api/mails?query={number}&after={number - 1}")["mails"]
        assert found["subject"] == f"mail {number}"


def test_list(site: Site) -> None:
    """A list has envelope and headers of each mail, newest first, and says whether there are more."""
    site.send(plain("first", app="billing"), sender="bounce@x.test", to=("b@y.test", "c@y.test"))
    site.send(plain("second"))

    document = site.json("/api/mails?limit=1")
    assert (document["more"], document["count"], document["last"], document["behind"]) == (True, 2, 2, 0)
    (first,) = site.json("/api/mails?before=2")["mails"]
    assert first.pop("received_at").endswith("Z")
    assert first == {
        "id": 1,
        "size": len(plain("first", app="billing")),
        "from": "Ada <ada@x.test>",
        "to": "Grace <grace@y.test>",
        "subject": "first",
        "message_id": "",
        "app": "billing",
        "envelope": {"from": "bounce@x.test", "to": ["b@y.test", "c@y.test"]},
    }


def test_after_is_oldest_first(site: Site) -> None:
    """With `after` a reader goes on where it ended, in the order in which mails came."""
    for number in range(5):
        site.send(plain(str(number)))

    document = site.json("/api/mails?after=1&limit=2")
    assert [mail["id"] for mail in document["mails"]] == [2, 3]
    assert document["more"]
    assert [mail["id"] for mail in site.json("/api/mails?after=3")["mails"]] == [4, 5]


def test_waiting_for_a_mail(site: Site) -> None:
    """With `wait` the answer comes with the mail that is asked for, not with others, and without one at its end."""
    with ThreadPoolExecutor(1) as pool:
        asked = threading.Event()

        def ask() -> object:
            asked.set()
            return site.json("/api/mails?query=wanted&wait=30")

        answer = pool.submit(ask)
        assert asked.wait(10)
        site.send(plain("other"))
        site.send(plain("wanted"))
        found = answer.result(30)

    assert isinstance(found, dict)
    assert [mail["subject"] for mail in found["mails"]] == ["wanted"]
    assert site.json("/api/mails?query=nothing&wait=1")["mails"] == []


def test_one_mail(site: Site) -> None:
    """One mail has its headers decoded, both texts, and its parts with where to get them."""
    number = site.send(with_html("<p>ä</p>"))

    document = site.json(f"/api/mails/{number}")
    assert (document["text"], document["html"], document["cut"]) == ("the text\r\n", "<p>ä</p>\r\n", False)
    assert ["Subject", "HTML"] in document["headers"]
    assert document["envelope"]["to"] == ["b@y.test"]
    assert [(part["type"], part["filename"]) for part in document["parts"]] == [
        ("text/plain", None),
        ("text/html", None),
        ("image/png", None),
        ("text/html", "evil.html"),
    ]
    assert site.get(document["parts"][3]["url"]).body.rstrip() == b"<script>alert(1)</script>"
    assert site.get(document["raw"]).body.startswith(b"From: Ada")


def test_delete(site: Site) -> None:
    """After a DELETE there is nothing, and the next mail has a number of its own."""
    site.send(plain())
    assert site.ask("DELETE", "/api/mails").status == 200

    assert site.json("/api/mails")["mails"] == []
    assert site.json("/api/mails/1", 404) == {"error": "there is no such mail"}
    assert site.send(plain()) == 2
    assert [mail["id"] for mail in site.json("/api/mails")["mails"]] == [2]
