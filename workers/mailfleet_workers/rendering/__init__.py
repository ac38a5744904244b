"""Rendering of lazy mail in a worker: by an application's function, or by a template in a process of its own."""

from mailfleet_workers.rendering.made import Made, NotNow, Rendering
from mailfleet_workers.rendering.renderers import Renderers

__all__ = ["Made", "NotNow", "Renderers", "Rendering"]
