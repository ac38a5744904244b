"""Whether this thread sends mail: a thread that waits here for a verdict would wait for itself.

The worker side marks its threads; `send` and `post` ask. The mark belongs to one thread and ends with it.
"""

import threading


class _Mark(threading.local):
    marked = False


_mark = _Mark()


def mark_worker_thread() -> None:
    """Say that the calling thread is a sending thread, until it ends. Harmless when repeated."""
    _mark.marked = True


def in_worker_thread() -> bool:
    """Whether the calling thread was marked."""
    return _mark.marked
