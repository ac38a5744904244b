"""The processes of a fleet on one machine: `mailfleet worker` is the parent, each worker process is a child.

A child is a program of its own, not a fork: it loads the modules of one app only, and nothing of its parent's threads
and connections is in it. `supervisor` starts and replaces children, `worker` is what runs in each, `report` is
what a child tells its parent.
"""
