"""A model of a whole fleet in one thread: the product's own workers, reconcilers and undertakers on a real database, with
every pause, crash and lost commit in the hands of hypothesis.

Real are: all statements and the database, heap, journal, pulse, ledger, courier, reconciler, undertaker. The model's own
are: time (the database's clock too), the network, which strand goes on next, and the judgement of `promise`. Transactions
run whole; what happens between two that run at once is for `tests/conformance/statements/test_races.py`.
"""
