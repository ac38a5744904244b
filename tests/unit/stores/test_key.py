"""Keys of stores: one way of writing each, and none that leads anywhere else."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.stores import InvalidKey, check_key

BAD = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    ".",
    "..",
    "./a",
    "a/.",
    "../a",
    "a/../../etc/passwd",
    "a/..",
    "..\\a",
    "a\\b",
    "C:\\a",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x9bb",
    "\udc80",
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 200] * 5),
    None,
    b"a",
    5,
    PurePosixPath("a"),
]


@pytest.mark.tinymail("48", "D33")
@pytest.mark.parametrize("key", BAD, ids=repr)
def test_a_key_that_is_none(key: object) -> None:
    """What is absolute, leads up, is written in two ways, or holds what some system takes for something else."""
    with pytest.raises(InvalidKey) as caught:
        check_key(key)

    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["a", "2026/17.pdf", "a b/c", "...", "..a/b..", "~root", "Rechnung ä愛.pdf", "http:/x", "x" * 255, "-rf"],
)
def test_a_key_is_taken_as_it_is(key: str) -> None:
    """Names of any script; what a shell or a browser would make of one is nobody's matter."""
    assert check_key(key) == key


@given(st.text(st.sampled_from("ab./\\\0\n é"), max_size=12))
def test_a_key_stays_below(key: str) -> None:
    """What passes is relative, has no step up, and is the one way of writing the path that it is."""
    try:
        checked = check_key(key)
    except InvalidKey:
        return
    path = PurePosixPath(checked)
    assert not path.is_absolute()
    assert str(path) == checked
    assert ".." not in path.parts
