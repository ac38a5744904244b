"""Fixtures by topic. Each plugin's docstring says what it offers; `tests/README.md` says how to run what."""

pytest_plugins = [
    "tests.fix_hypothesis",
    "tests.fix_pgbouncer",
    "tests.fix_postfix",
    "tests.fix_postgres",
    "tests.fix_rabbitmq",
    "tests.fix_redis",
    "tests.fix_schema",
]
