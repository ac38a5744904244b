"""An example application behind a real server, for tests: `python -m tests.integration.examples.serve NAME`.

Prints the port that it listens on, on 127.0.0.1. Failpoints are armed from the environment, as no application would do.
"""

import os
import socket
import sys
from wsgiref.simple_server import make_server

from mailfleet import failpoints
from tests.packaging.layout import ROOT

EXAMPLES = ROOT / "deploy" / "examples"


def billing() -> None:
    """The FastAPI application, in uvicorn."""
    import uvicorn

    sys.path.insert(0, str(EXAMPLES / "fastapi_billing"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # from now on clients wait instead of being refused
        server = uvicorn.Server(uvicorn.Config("billing_api:app", log_level="warning"))
        print(listening.getsockname()[1], flush=True)
        server.run(sockets=[listening])


def shop() -> None:
    """The Django application, in the standard library's server."""
    sys.path.insert(0, str(EXAMPLES / "django_shop"))
    os.environ["DJANGO_SETTINGS_MODULE"] = "orders.settings"
    import django
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    with make_server("127.0.0.1", 0, get_wsgi_application()) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    failpoints.arm_from(os.environ)
    {"billing": billing, "shop": shop}[sys.argv[1]]()
