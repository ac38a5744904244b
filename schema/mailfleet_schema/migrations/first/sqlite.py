"""The first tables as SQLite makes them, in the order of their references."""

SQLITE = (
    """
    CREATE TABLE mailfleet_attachment (
        app TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        chunk INTEGER NOT NULL,
        content BLOB NOT NULL,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (app, sha256, chunk)
    )
    """,
    """
    CREATE TABLE mailfleet_gate (
        scope TEXT NOT NULL,
        "key" TEXT NOT NULL,
        until_at INTEGER NOT NULL,
        generation BIGINT DEFAULT '1' NOT NULL,
        reason TEXT NOT NULL,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (scope, "key"),
        CONSTRAINT gate_scope CHECK (scope IN ('account', 'host', 'recipient', 'app', 'all'))
    )
    """,
    """
    CREATE TABLE mailfleet_instance (
        id TEXT NOT NULL,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        home TEXT,
        confirmed_at INTEGER,
        PRIMARY KEY (id)
    )
    """,
    """
    INSERT INTO mailfleet_instance (id) VALUES (lower(hex(randomblob(16))))
    """,
    """
    CREATE TABLE mailfleet_limit_change (
        scope TEXT NOT NULL, "key" TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (scope, "key", name),
        CONSTRAINT limit_change_scope CHECK (scope IN ('account', 'host')),
        CONSTRAINT limit_change_name CHECK (name IN ('messages', 'recipients', 'connections', 'login_gap_ms', 'max_idle_ms'))
    )
    """,
    """
    CREATE TABLE mailfleet_mail (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL,
        account TEXT DEFAULT 'default' NOT NULL,
        priority TEXT DEFAULT 'normal' NOT NULL,
        state TEXT DEFAULT 'queued' NOT NULL,
        phase TEXT,
        reason TEXT,
        due_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        expires_at INTEGER,
        look_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        looks SMALLINT DEFAULT '0' NOT NULL,
        fence BIGINT DEFAULT '0' NOT NULL, version INTEGER DEFAULT '1' NOT NULL,
        worker_id BIGINT,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        wanted_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        sum_send INTEGER DEFAULT '0' NOT NULL,
        sum_fail INTEGER DEFAULT '0' NOT NULL,
        sum_done INTEGER DEFAULT '0' NOT NULL,
        waits INTEGER DEFAULT '0' NOT NULL,
        interruptions INTEGER DEFAULT '0' NOT NULL,
        doubts INTEGER DEFAULT '0' NOT NULL,
        max_fail INTEGER DEFAULT '3' NOT NULL,
        max_done INTEGER DEFAULT '1' NOT NULL,
        retry BOOLEAN DEFAULT true NOT NULL,
        on_doubt TEXT DEFAULT 'resend_once' NOT NULL,
        last_code SMALLINT,
        last_enhanced TEXT,
        last_text TEXT,
        queue_id TEXT,
        cost_ms INTEGER,
        sent_at INTEGER,
        pool TEXT,
        only_apps TEXT,
        CONSTRAINT mail_state CHECK (state IN ('draft', 'queued', 'sending', 'doubt', 'held', 'sent', 'failed', 'cancelled', 'expired')),
        CONSTRAINT mail_phase CHECK ((state = 'sending' AND phase IN ('prepare', 'dot')) OR (state <> 'sending' AND phase IS NULL)),
        CONSTRAINT mail_priority CHECK (priority IN ('high', 'normal', 'bulk')),
        CONSTRAINT mail_on_doubt CHECK (on_doubt IN ('resend_once', 'resend', 'hold')),
        CONSTRAINT mail_max CHECK (max_fail > 0 AND max_done > 0),
        CONSTRAINT mail_pool CHECK ((pool IS NULL AND only_apps IS NULL) OR (pool IS NOT NULL AND pool = 'shared'))
    )
    """,
    """
    CREATE INDEX mail_doubt ON mailfleet_mail (app, look_at) WHERE state = 'doubt'
    """,
    """
    CREATE INDEX mail_held ON mailfleet_mail (app, id) WHERE state = 'held'
    """,
    """
    CREATE INDEX mail_held_by ON mailfleet_mail (worker_id) WHERE state = 'sending'
    """,
    """
    CREATE INDEX mail_look ON mailfleet_mail (app, look_at) WHERE state = 'queued'
    """,
    """
    CREATE INDEX mail_shared_doubt ON mailfleet_mail (look_at) WHERE state = 'doubt' AND pool IS NOT NULL
    """,
    """
    CREATE INDEX mail_shared_look ON mailfleet_mail (look_at) WHERE state = 'queued' AND pool IS NOT NULL
    """,
    """
    CREATE TABLE mailfleet_mail_attempt (
        id INTEGER NOT NULL,
        mail_id BIGINT NOT NULL,
        fence BIGINT NOT NULL,
        worker_id BIGINT,
        account TEXT NOT NULL,
        host TEXT,
        phase TEXT,
        verdict TEXT NOT NULL,
        reason TEXT,
        code SMALLINT,
        enhanced TEXT,
        text TEXT,
        queue_id TEXT,
        duration_ms INTEGER,
        recipients SMALLINT DEFAULT '0' NOT NULL,
        dry_run BOOLEAN DEFAULT false NOT NULL,
        ended_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX mail_attempt_mail ON mailfleet_mail_attempt (mail_id)
    """,
    """
    CREATE INDEX mail_attempt_ended ON mailfleet_mail_attempt (ended_at)
    """,
    """
    CREATE TABLE mailfleet_mail_key (
        app TEXT NOT NULL,
        "key" TEXT NOT NULL,
        payload_hash TEXT NOT NULL,
        mail_id BIGINT,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (app, "key")
    )
    """,
    """
    CREATE TABLE mailfleet_worker (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        version TEXT NOT NULL,
        also TEXT DEFAULT '' NOT NULL,
        started_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        heartbeat_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL
    )
    """,
    """
    CREATE TABLE mailfleet_mail_content (
        mail_id BIGINT NOT NULL,
        message_id TEXT NOT NULL,
        sender TEXT,
        reply_to TEXT,
        "to" TEXT NOT NULL,
        cc TEXT,
        bcc TEXT,
        subject TEXT DEFAULT '' NOT NULL,
        text TEXT,
        html TEXT,
        headers TEXT,
        attachments TEXT,
        list_unsubscribe TEXT,
        receipt_to TEXT,
        dsn TEXT,
        renderer TEXT,
        parameter TEXT,
        run_modes TEXT,
        mark TEXT,
        ref_type TEXT,
        ref_key1 TEXT,
        ref_key2 TEXT,
        tags TEXT,
        content_policy TEXT,
        purged_at INTEGER,
        PRIMARY KEY (mail_id),
        CONSTRAINT mail_content_policy CHECK (content_policy IN ('keep', 'purge', 'render_only')),
        FOREIGN KEY(mail_id) REFERENCES mailfleet_mail (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX mail_content_files ON mailfleet_mail_content (mail_id) WHERE attachments IS NOT NULL
    """,
    """
    CREATE INDEX mail_content_left ON mailfleet_mail_content (mail_id) WHERE purged_at IS NOT NULL AND attachments IS NOT NULL
    """,
    """
    CREATE INDEX mail_content_message_id ON mailfleet_mail_content (message_id)
    """,
    """
    CREATE INDEX mail_content_ref ON mailfleet_mail_content (ref_type, ref_key1)
    """,
    """
    CREATE TABLE mailfleet_mail_recipient (
        mail_id BIGINT NOT NULL,
        address TEXT NOT NULL,
        outcome TEXT NOT NULL,
        code SMALLINT,
        text TEXT,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (mail_id, address),
        CONSTRAINT mail_recipient_outcome CHECK (outcome IN ('accepted', 'refused', 'open')),
        FOREIGN KEY(mail_id) REFERENCES mailfleet_mail (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE mailfleet_mail_template (
        app TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        subject TEXT NOT NULL,
        text TEXT,
        html TEXT,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (app, name, version),
        CONSTRAINT mail_template_version CHECK (version > 0)
    )
    """,
    """
    CREATE TABLE mailfleet_stored_account (
        name TEXT NOT NULL,
        version BIGINT DEFAULT '1' NOT NULL,
        settings TEXT NOT NULL,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE mailfleet_fleet_setting (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE mailfleet_webhook_event (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        app TEXT NOT NULL,
        mail_id BIGINT NOT NULL,
        type TEXT NOT NULL,
        payload TEXT NOT NULL,
        state TEXT DEFAULT 'open' NOT NULL,
        tries INTEGER DEFAULT '0' NOT NULL,
        due_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        last_code SMALLINT,
        last_error TEXT,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        ended_at INTEGER,
        CONSTRAINT webhook_event_state CHECK (state IN ('open', 'delivered', 'given_up'))
    )
    """,
    """
    CREATE UNIQUE INDEX webhook_event_once ON mailfleet_webhook_event (endpoint, event_id)
    """,
    """
    CREATE INDEX webhook_event_due ON mailfleet_webhook_event (endpoint, due_at) WHERE state = 'open'
    """,
    """
    CREATE INDEX webhook_event_ended ON mailfleet_webhook_event (ended_at) WHERE state <> 'open'
    """,
    """
    CREATE INDEX webhook_event_mail ON mailfleet_webhook_event (mail_id)
    """,
    """
    CREATE TABLE mailfleet_sent_copy (
        mail_id BIGINT NOT NULL,
        copy INTEGER NOT NULL,
        app TEXT NOT NULL,
        account TEXT NOT NULL,
        state TEXT DEFAULT 'open' NOT NULL,
        tries INTEGER DEFAULT '0' NOT NULL,
        due_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        dated_at INTEGER NOT NULL,
        folder TEXT,
        last_error TEXT,
        created_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        ended_at INTEGER,
        PRIMARY KEY (mail_id, copy),
        CONSTRAINT sent_copy_state CHECK (state IN ('open', 'stored', 'given_up')),
        FOREIGN KEY(mail_id) REFERENCES mailfleet_mail (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX sent_copy_due ON mailfleet_sent_copy (app, due_at) WHERE state = 'open'
    """,
    """
    CREATE TABLE mailfleet_oauth_token (
        name TEXT NOT NULL,
        sealed BLOB,
        expires_at INTEGER,
        generation BIGINT DEFAULT '0' NOT NULL,
        refreshing_until INTEGER,
        refreshing_by TEXT,
        failed_at INTEGER,
        reason TEXT,
        changed_at INTEGER DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) NOT NULL,
        PRIMARY KEY (name)
    )
    """,
)
