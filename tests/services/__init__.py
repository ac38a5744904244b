"""Real services for tests: found or installed, started privately, ended for certain.

`install` is the command that `make test` runs first; `choose` decides where a service comes from and `opening` opens it
from there; `postgres`, `postfix`, `rabbitmq` and `pgbouncer` start private servers; `guard` and `processes` see to it that
none of them outlives the test run.
"""
