"""What a template may do in the sandbox, and what is said of one that may not."""

from typing import Any

import pytest

from mailfleet_workers.template.fill import Faulty, compile_parts, fill

MOST = 1000
pytestmark = pytest.mark.tinymail("55")


def test_parts_are_filled_in() -> None:
    """Values are escaped in HTML, and nowhere else; a part that is None stays None."""
    sources = {"subject": "To {{ name }}", "text": "{{ name }}\n", "html": "<b>{{ name }}</b>"}
    assert fill(sources, {"name": "<Ada>"}, MOST) == {
        "subject": "To <Ada>",
        "text": "<Ada>\n",
        "html": "<b>&lt;Ada&gt;</b>",
    }
    assert fill({"text": "x"}, {}, MOST) == {"subject": None, "text": "x", "html": None}


@pytest.mark.parametrize(
    ("source", "data", "reason"),
    [
        ("\n{{ nobody }}", {}, "text, line 2: 'nobody' is undefined"),
        ("{{ d[d.key] }}", {"d": {"key": "secret"}}, "text, line 1: a value is undefined"),
        ("{{ ''.__class__.__mro__ }}", {}, "text, line 1: it may not do that (SecurityError)"),
        ("{{ d.append(1) }}", {"d": []}, "text, line 1: it may not do that (SecurityError)"),
        ("{{ ('{0.__class__}').format(1) }}", {}, "text, line 1: it may not do that (SecurityError)"),
        ("{% include '/etc/passwd' %}", {}, "text, line 1: TypeError"),
        ("{{ d|int + 'x' }}", {"d": "secret"}, "text, line 1: TypeError"),
        ("{% for i in range(10**9) %}{% endfor %}", {}, "text, line 1: OverflowError"),
        ("{{ 'x' * 2000 }}", {}, "text: more than 1000 characters"),
        ("{% for i in range(2000) %}x{% endfor %}", {}, "text: more than 1000 characters"),
        ("{% if %}", {}, "text, line 1: Expected an expression, got 'end of statement block'"),
        ("{{ 1 + ", {}, "text, line 1: unexpected 'end of template'"),
        ("{{ lipsum() }}", {}, "text, line 1: 'lipsum' is undefined"),
    ],
)
def test_what_is_refused(source: str, data: dict[str, Any], reason: str) -> None:
    """It is said by part and line, in the template's own words: values are what mails say."""
    with pytest.raises(Faulty) as refused:
        fill({"text": source}, data, MOST)
    assert refused.value.reason == reason


def test_compiling_fills_in_nothing() -> None:
    """A template whose names nobody knows yet compiles; one that is none does not, whichever part it is."""
    compile_parts({"subject": "{{ a }}", "text": None, "html": "{{ b.c }}"})
    with pytest.raises(Faulty, match=r"^html, line 1: "):
        compile_parts({"subject": "x", "html": "{% endif %}"})
