"""What our dramatiq brokers share: several dramatiq workers in one process, each of which may be stopped.

A dramatiq worker follows the queues that its broker declares through a middleware of its own, which dramatiq never takes
away again, and of which it warns when there are two.
"""

from typing import Any

from dramatiq import Broker, Middleware


class WorkersBroker(Broker):
    """A base beside one of dramatiq's brokers, before it: `class Ours(WorkersBroker, StubBroker)`."""

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,  # noqa: ARG002 - dramatiq's signature; order means nothing here
        after: type[Middleware] | None = None,  # noqa: ARG002 - same
    ) -> None:
        """Take the middleware by which a Worker follows our queues, once for each worker.

        dramatiq would warn of the second one; here a process may have a worker for every app and priority.
        """
        self.middleware.append(middleware)
        for queue in self.get_declared_queues():
            middleware.after_declare_queue(self, queue)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """As dramatiq's; a worker that was shut down is forgotten, it must not consume queues declared later."""
        super().emit_after(signal, *args, **kwargs)
        if signal == "worker_shutdown":
            self.middleware = [m for m in self.middleware if getattr(m, "worker", None) is not args[0]]
