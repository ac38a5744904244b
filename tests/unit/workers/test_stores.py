"""Stores as workers read them: for whom, in time, and what of an application's function is believed."""

import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailfleet.errors import SettingsError
from mailfleet.registry import registering
from mailfleet.stores import Away, Directory, Found, Missing, Refused, store
from mailfleet.stores.registered import forget
from mailfleet_schema.content import StoredRef
from mailfleet_workers.settings import Settings
from mailfleet_workers.stores import LEFT_ALONE_S, Stores, shelves_of


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def stores(now: list[float], **tables: dict[str, Any]) -> Stores:
    settings = Settings.model_validate(
        {"stores": {name: {"apps": ["billing"], **table} for name, table in tables.items()}}
    )
    return Stores(settings.stores, ["billing"], clock=lambda: now[0])


def ref(name: str, key: str = "a") -> StoredRef:
    return StoredRef(name, key, "a", "text/plain")


def test_a_directory(now: list[float], tmp_path: Path) -> None:
    """Its files are read for the apps that it is for."""
    (tmp_path / "a").write_bytes(b"x")
    known = stores(now, files={"path": str(tmp_path)})

    assert known("billing", ref("files"), 9) == Found(b"x")
    assert known("crm", ref("files"), 9) == Refused("is not for this app")
    assert known("billing", ref("others"), 9) == Missing("is not set up here")


@pytest.mark.tinymail("D33")
def test_a_row_of_another_language(now: list[float], tmp_path: Path) -> None:
    """A key that no application of ours could have written is refused, not raised."""
    assert isinstance(stores(now, files={"path": str(tmp_path)})("billing", ref("files", "../x"), 9), Refused)


@pytest.mark.parametrize(
    ("opened", "answer"),
    [
        (b"abc", Found(b"abc")),
        (io.BytesIO(b"abc"), Found(b"abc")),
        (None, Missing("has no such key")),
        (b"abcd", Refused("has more than 3 bytes")),
        ("abc", Away("failed (TypeError)")),
        (io.StringIO("abc"), Away("failed (TypeError)")),
    ],
    ids=["bytes", "file", "None", "too large", "text", "a text file"],
)
def test_a_function(now: list[float], opened: Any, answer: object) -> None:
    """Bytes, a binary file or None; anything else is a fault of the function, which may be mended."""
    seen: list[str] = []
    with registering("billing"):

        @store("scans")
        def scans(key: str) -> Any:
            seen.append(key)
            return opened

    assert stores(now, scans={"kind": "registered"})("billing", ref("scans", "x/y"), 3) == answer
    assert seen == ["x/y"]


def test_an_endless_file_is_given_up(now: list[float]) -> None:
    """No more is read than a mail may have, whatever the function goes on to say; and the file is closed."""

    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 256 * 1024
            self.given += size
            return bytes(size)

    endless = Endless()

    @store("scans")
    def scans(_key: str) -> Any:
        return endless

    assert stores(now, scans={"kind": "registered"})("billing", ref("scans"), 10**6) == Refused(
        "has more than 1000000 bytes"
    )
    assert endless.given == 10**6 + 1
    assert endless.closed


@pytest.mark.parametrize("error", [ValueError("hunter2"), SystemExit(3), MemoryError()], ids=repr)
def test_what_a_function_raises_passes(now: list[float], error: BaseException) -> None:
    """The store is away, and nobody hears what the error says."""

    @store("scans")
    def scans(_key: str) -> bytes:
        raise error

    answer = stores(now, scans={"kind": "registered"})("billing", ref("scans"), 9)
    assert answer == Away(f"failed ({type(error).__name__})")


def test_a_function_that_hangs(now: list[float]) -> None:
    """It is not waited for longer than it may take, and left alone for a moment, so that other mail goes on."""
    go, calls = threading.Event(), []

    @store("scans")
    def scans(key: str) -> bytes:
        calls.append(key)
        go.wait(60)
        return b"late"

    known = stores(now, scans={"kind": "registered", "timeout_s": 0.05})
    assert known("billing", ref("scans", "1"), 9) == Away("did not answer within 0.05 s")
    assert known("billing", ref("scans", "2"), 9) == Away("did not answer a moment ago")
    go.set()
    now[0] += LEFT_ALONE_S
    assert known("billing", ref("scans", "3"), 9) == Found(b"late")
    assert calls == ["1", "3"]
    known.close()


def test_a_function_of_another_app(now: list[float]) -> None:
    """What one app's module registers is nobody else's."""
    with registering("crm"):
        store("scans")(lambda _key: b"theirs")
    assert stores(now, scans={"kind": "registered"})("billing", ref("scans"), 9) == Missing(
        "is registered by no module of the app"
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An installed package that offers the kind `shelf-17`."""
    info = tmp_path / "shelf17-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf17\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mailfleet.stores]\nshelf-17 = shelf17:made\n")
    (tmp_path / "shelf17.py").write_text(
        "def made(location):\n"
        "    if location is None:\n        raise ValueError('hunter2')\n"
        "    return lambda key: f'{location}/{key}'.encode()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "shelf-17"
    sys.modules.pop("shelf17", None)


def test_what_a_package_offers(now: list[float], package: str) -> None:
    """It is made once, of what the settings say."""
    known = stores(now, archive={"kind": package, "location": "bucket"})
    assert known("billing", ref("archive", "x"), 99) == Found(b"bucket/x")


def test_what_no_package_offers_stops_the_start(now: list[float], package: str) -> None:
    """With key, expectation and value, and what there is; only for workers that need it."""
    with pytest.raises(SettingsError, match=r"stores\.archive\.kind: .*shelf-17.*'s3'"):
        stores(now, archive={"kind": "s3"})
    with pytest.raises(SettingsError, match=r"stores\.archive\.location: .*ValueError") as caught:
        stores(now, archive={"kind": package})
    assert "hunter2" not in str(caught.value)
    stores(now, archive={"kind": "s3", "apps": ["crm"]})


def test_what_applications_in_this_process_read_themselves(tmp_path: Path) -> None:
    """Directories of their own; of the rest only which are not for them."""
    path = {"path": str(tmp_path)}
    known = Settings.model_validate(
        {
            "stores": {
                "ours": path | {"apps": ["billing", "crm"]},
                "theirs": path | {"apps": ["crm"]},
                "scans": {"kind": "registered", "apps": ["billing"]},
            }
        }
    ).stores
    assert shelves_of(known, "billing") == {"ours": Directory(tmp_path), "theirs": None}
