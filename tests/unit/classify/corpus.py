"""Replies with their meaning, and how often the rules say the same."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailfleet_workers.classify import Rules, Ruling, rule_on
from mailfleet_workers.smtp.base import Phase, Reply

DATA = Path(__file__).parents[2] / "data"
#: When the replies that name a moment were said.
NOW = datetime(2025, 10, 5, 18, 22, 44, tzinfo=UTC)

Row = Mapping[str, Any]


def rows_of(name: str) -> list[Row]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def ruled(row: Row, rules: Rules, host: str | None = None) -> Ruling:
    reply = Reply(row["code"], row["text"])
    return rule_on(reply, Phase(row["phase"]), host=host or row["host"], rules=rules, now=NOW)


def alternatives(row: Row) -> set[str]:
    """The label, and what is right besides."""
    alt = row.get("alt") or []
    return {row["class"], *([alt] if isinstance(alt, str) else alt)}


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of all rows in percent, and the rows that would be lost: taken as stop, though no label allows it."""

    strict: float
    either: float
    lost: tuple[str, ...]
    scopes: float


def score(rows: Iterable[Row], rules: Rules, host: str | None = None) -> Score:
    strict = either = waits = scopes = number = 0
    lost = []
    for row in rows:
        ruling = ruled(row, rules, host)
        allowed = alternatives(row)
        number += 1
        strict += ruling.kind == row["class"]
        either += ruling.kind in allowed
        if ruling.kind == "stop" and "stop" not in allowed:
            lost.append(f"{row['host']} {row['phase']} {row['code']} {row['text']}")
        if ruling.kind == row["class"] == "wait":
            waits += 1
            scopes += ruling.scope == row["scope"]
    return Score(100 * strict / number, 100 * either / number, tuple(lost), 100 * scopes / waits)
