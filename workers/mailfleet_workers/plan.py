"""How a pool works: its threads, its room, its times, as the settings say it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.states import ContentPolicy
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers.backlog import WARN_BACKLOG
from mailfleet_workers.outcome import Policy
from mailfleet_workers.settings import Settings


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """How a pool works; times in seconds.

    `also` are apps whose rows it claims, sends and reconciles beside its own; one that `shares` also sends mail of other apps
    that is for everybody. `accounts` are those that each of its apps may use of those in the settings, and `may_use` says of
    every app and account whether it may. `content_policy` says of every app what becomes of contents; `alone` says that no
    other process uses the database. A quarter of `threads`, at least one
    where there are two, is kept for priority `high`. `endpoints` are told of what becomes of mails.
    """

    app: str
    threads: int
    heap_rows: int
    journal_dir: Path
    patience: Patience
    policy: Policy
    heartbeat_s: float = 5.0
    reconcile_s: float = 5.0
    prepare_s: float = 900.0
    drain_s: float = 25.0
    fixed_chunk: int | None = None
    chunk_s: float = 0.05
    run_mode: str = "local"
    also: tuple[str, ...] = ()
    shares: bool = False
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may_use: Callable[[str, str], bool] = lambda _app, _account: True
    #: Whether its apps use more than one account, or may.
    several_accounts: bool = False
    alone: bool = False
    lease_s: float = 15.0
    hook_timeout_s: float = 5.0
    content_policy: Callable[[str], ContentPolicy] = lambda _app: ContentPolicy.KEEP
    render_timeout_s: float = 30.0
    endpoints: tuple[Endpoint, ...] = ()
    warn_backlog: int = WARN_BACKLOG

    @classmethod
    def of(
        cls,
        settings: Settings,
        app: str,
        *,
        also: tuple[str, ...] = (),
        alone: bool = False,
        fixed_chunk: int | None = None,
    ) -> Self:
        """The plan for *app*'s pool by *settings*."""
        timing = settings.timing
        apps = (app, *also)
        names = {name for each in apps for name in settings.app(each).accounts}
        return cls(
            app=app,
            threads=settings.app(app).threads,
            heap_rows=settings.app(app).heap,
            journal_dir=settings.data_dir / "journal",
            patience=settings.patience(),
            policy=Policy(try_next_s=timing.try_next_s, settle_s=timing.settle_s),
            heartbeat_s=timing.heartbeat_s,
            reconcile_s=timing.reconcile_s,
            prepare_s=timing.prepare_s,
            drain_s=timing.drain_s,
            fixed_chunk=fixed_chunk,
            chunk_s=timing.chunk_ms / 1000,
            run_mode=settings.run_mode,
            also=also,
            accounts={each: settings.usable(each) for each in apps},
            may_use=lambda of, account: settings.app(of).may_use(account),
            several_accounts=len(names) > 1 or any("*" in name for name in names),
            shares=settings.shares(app),
            alone=alone,
            lease_s=settings.limits.lease_s,
            hook_timeout_s=timing.hook_timeout_s,
            content_policy=settings.content_policy,
            render_timeout_s=timing.render_timeout_s,
            endpoints=settings.endpoints(),
            warn_backlog=settings.app(app).warn_backlog,
        )
