"""A directory as a store: plain files below it, and nothing that a link, a device or a race makes of a key."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailfleet.stores import Away, Directory, Found, InvalidKey, Missing, Refused

PLENTY = 1_000_000
LINK = Refused("has a symbolic link there")
NO_FILE = Refused("has something there that is no plain file")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one file, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"SECRET")
    root = tmp_path / "store"
    (root / "2026").mkdir(parents=True)
    (root / "2026" / "17.pdf").write_bytes(b"%PDF")
    return root


@pytest.mark.tinymail("48")
def test_a_file_is_found(root: Path) -> None:
    """By the names on the way to it, whatever script they are in; an empty file is a file."""
    (root / "Ärger 愛").write_bytes(b"")
    store = Directory(root)

    assert store.read("2026/17.pdf", PLENTY) == Found(b"%PDF")
    assert store.read("Ärger 愛", 0) == Found(b"")


@pytest.mark.parametrize("key", ["18.pdf", "2027/17.pdf", "2026/17.pdf/x", "2026/" + "x" * 255])
def test_what_is_not_there_is_missing(root: Path, key: str) -> None:
    """The file, a directory on the way to it, a file that would have to be one."""
    assert Directory(root).read(key, PLENTY) == Missing("has no such key")


@pytest.mark.tinymail("D33")
@pytest.mark.parametrize("target", ["../secret", "2026/17.pdf", "/dev/zero", "loop", "nothing"])
def test_a_link_is_refused(root: Path, target: str) -> None:
    """Wherever it leads, as the file and on the way to it; what it leads to is not opened."""
    (root / "loop").symlink_to(target)
    (root / "up").symlink_to("..")
    (root / "in").symlink_to("2026")
    store = Directory(root)

    assert store.read("loop", PLENTY) == LINK
    assert store.read("up/secret", PLENTY) == LINK
    assert store.read("in/17.pdf", PLENTY) == LINK
    assert store.read("loop/17.pdf", PLENTY) == LINK


def test_the_directory_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """Its path is the word of whoever set it."""
    (tmp_path / "current").symlink_to(root)
    assert Directory(tmp_path / "current").read("2026/17.pdf", PLENTY) == Found(b"%PDF")


@pytest.mark.tinymail("D33")
def test_what_is_no_plain_file_is_refused(root: Path) -> None:
    """A directory, a pipe that nobody writes to, a socket, a device where one can be made; and none of them hangs."""
    os.mkfifo(root / "pipe")
    keys = ["2026", "pipe"]
    with socket.socket(socket.AF_UNIX) as ours:
        here = Path.cwd()
        os.chdir(root)  # the address of a socket is short
        ours.bind("socket")
        os.chdir(here)
        keys.append("socket")
        if os.geteuid() == 0:
            os.mknod(root / "zero", 0o600 | 0o020000, os.makedev(1, 5))
            keys.append("zero")
        assert {key: Directory(root).read(key, PLENTY) for key in keys} == dict.fromkeys(keys, NO_FILE)


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "2026/../../secret", "2026/17.pdf\0"])
def test_a_key_that_is_none_reaches_no_file(root: Path, key: str) -> None:
    """The store checks for itself."""
    with pytest.raises(InvalidKey):
        Directory(root).read(key, PLENTY)


def test_exactly_as_much_as_may_be(root: Path) -> None:
    """The most passes, one byte more does not."""
    (root / "big").write_bytes(bytes(300_000))

    assert Directory(root).read("big", 300_000) == Found(bytes(300_000))
    assert Directory(root).read("big", 299_999) == Refused("has more than 299999 bytes")


def test_a_store_that_is_not_there_is_away(tmp_path: Path) -> None:
    """No file is missing while nobody can look: it may be mounted in a moment."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        assert isinstance(Directory(path).read("a", PLENTY), Away)


def test_nothing_stays_open(root: Path) -> None:
    """Whatever the answer is."""
    (root / "link").symlink_to("2026")
    store, before = Directory(root), len(list(Path("/proc/self/fd").iterdir()))
    for key in ("2026/17.pdf", "2026/no", "link/17.pdf", "2026", "a/b/c"):
        store.read(key, PLENTY)
    store.read("2026/17.pdf", 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


_NAMES = st.sampled_from(["a", "b", "..", ".", "secret", "c"])
_TREES = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3), st.sampled_from(["file", "up", "in", "out"])
    ),
    max_size=6,
)


@pytest.mark.tinymail("D33")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(tree=_TREES, key=st.lists(_NAMES, min_size=1, max_size=5).map("/".join))
def test_no_tree_and_no_key_lead_out(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[list[str], str]], key: str
) -> None:
    """Whatever links somebody makes below it, and whatever key is asked for, the secret beside the store stays there."""
    top = tmp_path_factory.mktemp("tree")
    (top / "secret").write_bytes(b"SECRET")
    root = top / "store"
    root.mkdir()
    targets = {"up": "..", "in": ".", "out": str(top)}
    for parts, kind in tree:
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.write_bytes(b"ours")
            else:
                path.symlink_to(targets[kind])
        except OSError:
            continue  # something else stands there
    try:
        answer = Directory(root).read(key, PLENTY)
    except InvalidKey:
        return
    assert answer != Found(b"SECRET")
