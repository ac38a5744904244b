"""What `import mailfleet` costs an application."""

import json

import pytest

from tests.packaging.layout import run_python

OPERATORS_ONLY = {
    "alembic",
    "fastapi",
    "jinja2",
    "jsonschema",
    "mailfleet_workers",
    "prometheus_client",
    "pydantic",
    "redis",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
}


@pytest.mark.parametrize("module", ["mailfleet", "mailfleet_schema"])
def test_what_applications_import_loads_nothing_of_the_operators(module: str) -> None:
    """None of the packages of the workers' extra, and none of its code, is loaded by an import."""
    done = run_python(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert module in loaded
    assert loaded & OPERATORS_ONLY == set()


def test_import_leaves_the_hosts_dramatiq_alone() -> None:
    """An application that uses dramatiq itself finds its broker and encoder untouched."""
    done = run_python(
        "import dramatiq.broker, dramatiq.encoder\n"
        "encoder = dramatiq.get_encoder()\n"
        "import mailfleet\n"
        "assert dramatiq.broker.global_broker is None\n"
        "assert dramatiq.get_encoder() is encoder\n"
    )
    assert done.returncode == 0, done.stderr


def test_import_asks_nothing_of_the_environment() -> None:
    """Settings are read when a mailer is made, so an import with wrong variables succeeds."""
    done = run_python(
        "import os\n"
        "os.environ.update(MAILFLEET_DATABASE_URL='nonsense', MAILFLEET_CONFIG='/nowhere', MAILFLEET_RUN_MODE='?')\n"
        "import mailfleet\n"
    )
    assert done.returncode == 0, done.stderr
