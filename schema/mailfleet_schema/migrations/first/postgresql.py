"""The first tables as PostgreSQL makes them, in the order of their references."""

POSTGRESQL = (
    """
    CREATE TABLE mailfleet.attachment (
        app TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        chunk INTEGER NOT NULL,
        content BYTEA NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (app, sha256, chunk)
    )
    """,
    """
    CREATE TABLE mailfleet.gate (
        scope TEXT NOT NULL,
        key TEXT NOT NULL,
        until_at TIMESTAMP WITH TIME ZONE NOT NULL,
        generation BIGINT DEFAULT '1' NOT NULL,
        reason TEXT NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (scope, key),
        CONSTRAINT gate_scope CHECK (scope IN ('account', 'host', 'recipient', 'app', 'all'))
    )
    """,
    """
    CREATE TABLE mailfleet.instance (
        id TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        home TEXT,
        confirmed_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id)
    )
    """,
    """
    INSERT INTO mailfleet.instance (id) VALUES (CAST(gen_random_uuid() AS text))
    """,
    """
    CREATE TABLE mailfleet.limit_change (
        scope TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (scope, key, name),
        CONSTRAINT limit_change_scope CHECK (scope IN ('account', 'host')),
        CONSTRAINT limit_change_name CHECK (name IN ('messages', 'recipients', 'connections', 'login_gap_ms', 'max_idle_ms'))
    )
    """,
    """
    CREATE TABLE mailfleet.mail (
        id BIGSERIAL NOT NULL,
        app TEXT NOT NULL,
        account TEXT DEFAULT 'default' NOT NULL,
        priority TEXT DEFAULT 'normal' NOT NULL,
        state TEXT DEFAULT 'queued' NOT NULL,
        phase TEXT,
        reason TEXT,
        due_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE,
        look_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        looks SMALLINT DEFAULT '0' NOT NULL,
        fence BIGINT DEFAULT '0' NOT NULL, version INTEGER DEFAULT '1' NOT NULL,
        worker_id BIGINT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        wanted_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
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
        sent_at TIMESTAMP WITH TIME ZONE,
        pool TEXT,
        only_apps TEXT,
        PRIMARY KEY (id),
        CONSTRAINT mail_state CHECK (state IN ('draft', 'queued', 'sending', 'doubt', 'held', 'sent', 'failed', 'cancelled', 'expired')),
        CONSTRAINT mail_phase CHECK ((state = 'sending' AND phase IN ('prepare', 'dot')) OR (state <> 'sending' AND phase IS NULL)),
        CONSTRAINT mail_priority CHECK (priority IN ('high', 'normal', 'bulk')),
        CONSTRAINT mail_on_doubt CHECK (on_doubt IN ('resend_once', 'resend', 'hold')),
        CONSTRAINT mail_max CHECK (max_fail > 0 AND max_done > 0),
        CONSTRAINT mail_pool CHECK ((pool IS NULL AND only_apps IS NULL) OR (pool IS NOT NULL AND pool = 'shared'))
    )
     WITH (fillfactor = 70)
    """,
    """
    CREATE INDEX mail_doubt ON mailfleet.mail (app, look_at) WHERE state = 'doubt'
    """,
    """
    CREATE INDEX mail_held ON mailfleet.mail (app, id) WHERE state = 'held'
    """,
    """
    CREATE INDEX mail_held_by ON mailfleet.mail (worker_id) WHERE state = 'sending'
    """,
    """
    CREATE INDEX mail_look ON mailfleet.mail (app, look_at) WHERE state = 'queued'
    """,
    """
    CREATE INDEX mail_shared_doubt ON mailfleet.mail (look_at) WHERE state = 'doubt' AND pool IS NOT NULL
    """,
    """
    CREATE INDEX mail_shared_look ON mailfleet.mail (look_at) WHERE state = 'queued' AND pool IS NOT NULL
    """,
    """
    CREATE TABLE mailfleet.mail_attempt (
        id BIGSERIAL NOT NULL,
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
        ended_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX mail_attempt_mail ON mailfleet.mail_attempt (mail_id)
    """,
    """
    CREATE INDEX mail_attempt_ended ON mailfleet.mail_attempt USING brin (ended_at)
    """,
    """
    CREATE TABLE mailfleet.mail_key (
        app TEXT NOT NULL,
        key TEXT NOT NULL,
        payload_hash TEXT NOT NULL,
        mail_id BIGINT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (app, key)
    )
    """,
    """
    CREATE TABLE mailfleet.worker (
        id BIGSERIAL NOT NULL,
        app TEXT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        version TEXT NOT NULL,
        also TEXT DEFAULT '' NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        heartbeat_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE mailfleet.mail_content (
        mail_id BIGINT NOT NULL,
        message_id TEXT NOT NULL,
        sender JSONB,
        reply_to JSONB,
        "to" JSONB NOT NULL,
        cc JSONB,
        bcc JSONB,
        subject TEXT DEFAULT '' NOT NULL,
        text TEXT,
        html TEXT,
        headers JSONB,
        attachments JSONB,
        list_unsubscribe JSONB,
        receipt_to JSONB,
        dsn JSONB,
        renderer TEXT,
        parameter JSONB,
        run_modes JSONB,
        mark TEXT,
        ref_type TEXT,
        ref_key1 TEXT,
        ref_key2 TEXT,
        tags JSONB,
        content_policy TEXT,
        purged_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (mail_id),
        CONSTRAINT mail_content_policy CHECK (content_policy IN ('keep', 'purge', 'render_only')),
        FOREIGN KEY(mail_id) REFERENCES mailfleet.mail (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX mail_content_files ON mailfleet.mail_content USING gin (attachments jsonb_path_ops) WHERE attachments IS NOT NULL
    """,
    """
    CREATE INDEX mail_content_left ON mailfleet.mail_content (mail_id) WHERE purged_at IS NOT NULL AND attachments IS NOT NULL
    """,
    """
    CREATE INDEX mail_content_message_id ON mailfleet.mail_content (message_id)
    """,
    """
    CREATE INDEX mail_content_ref ON mailfleet.mail_content (ref_type, ref_key1)
    """,
    r"""
    CREATE INDEX mail_content_search ON mailfleet.mail_content USING gin (
    array_to_tsvector(array_remove(array_remove(string_to_array(
        't:' || lower(regexp_replace(left(subject, 500), '[\u0001-/:-@\[-`{-\u00a1\u00ab\u00b7\u00bb\u00bf\u1680\u2000-\u206f\u3000-\u303f]+', E'\nt:', 'g'))
        || E'\nr:' || replace(right(left(reverse(lower(CASE WHEN octet_length(CAST(jsonb_path_query_array("to" || coalesce(cc, '[]') || coalesce(bcc, '[]'), '$[*].address') AS text)) <= 1000 THEN CAST(jsonb_path_query_array("to" || coalesce(cc, '[]') || coalesce(bcc, '[]'), '$[*].address') AS text)
        ELSE regexp_replace(left(CAST(jsonb_path_query_array("to" || coalesce(cc, '[]') || coalesce(bcc, '[]'), '$[*].address') AS text), 200000), '("[^"]{255})[^"]+', '\1', 'g') END)), -2), -2), '" ,"', E'\nr:')
        || coalesce(E'\nm:' || replace(replace(lower(left(mark, 500)), E'\n', ' '), ' ', E'\nm:'), '')
        || coalesce(E'\ns:' || reverse(replace(lower(left(sender ->> 'address', 255)), E'\n', ' ')), ''),
        E'\n'), 't:'), 'm:'))
    ) WITH (gin_pending_list_limit = 256)
    """,
    """
    CREATE TABLE mailfleet.mail_recipient (
        mail_id BIGINT NOT NULL,
        address TEXT NOT NULL,
        outcome TEXT NOT NULL,
        code SMALLINT,
        text TEXT,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (mail_id, address),
        CONSTRAINT mail_recipient_outcome CHECK (outcome IN ('accepted', 'refused', 'open')),
        FOREIGN KEY(mail_id) REFERENCES mailfleet.mail (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE mailfleet.mail_template (
        app TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        subject TEXT NOT NULL,
        text TEXT,
        html TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (app, name, version),
        CONSTRAINT mail_template_version CHECK (version > 0)
    )
    """,
    """
    CREATE TABLE mailfleet.stored_account (
        name TEXT NOT NULL,
        version BIGINT DEFAULT '1' NOT NULL,
        settings JSONB NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE mailfleet.fleet_setting (
        name TEXT NOT NULL,
        value JSONB NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE mailfleet.webhook_event (
        id BIGSERIAL NOT NULL,
        event_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        app TEXT NOT NULL,
        mail_id BIGINT NOT NULL,
        type TEXT NOT NULL,
        payload JSONB NOT NULL,
        state TEXT DEFAULT 'open' NOT NULL,
        tries INTEGER DEFAULT '0' NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        last_code SMALLINT,
        last_error TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        CONSTRAINT webhook_event_state CHECK (state IN ('open', 'delivered', 'given_up'))
    )
    """,
    """
    CREATE UNIQUE INDEX webhook_event_once ON mailfleet.webhook_event (endpoint, event_id)
    """,
    """
    CREATE INDEX webhook_event_due ON mailfleet.webhook_event (endpoint, due_at) WHERE state = 'open'
    """,
    """
    CREATE INDEX webhook_event_ended ON mailfleet.webhook_event (ended_at) WHERE state <> 'open'
    """,
    """
    CREATE INDEX webhook_event_mail ON mailfleet.webhook_event (mail_id)
    """,
    """
    CREATE TABLE mailfleet.sent_copy (
        mail_id BIGINT NOT NULL,
        copy INTEGER NOT NULL,
        app TEXT NOT NULL,
        account TEXT NOT NULL,
        state TEXT DEFAULT 'open' NOT NULL,
        tries INTEGER DEFAULT '0' NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        dated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        folder TEXT,
        last_error TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (mail_id, copy),
        CONSTRAINT sent_copy_state CHECK (state IN ('open', 'stored', 'given_up')),
        FOREIGN KEY(mail_id) REFERENCES mailfleet.mail (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX sent_copy_due ON mailfleet.sent_copy (app, due_at) WHERE state = 'open'
    """,
    """
    CREATE TABLE mailfleet.oauth_token (
        name TEXT NOT NULL,
        sealed BYTEA,
        expires_at TIMESTAMP WITH TIME ZONE,
        generation BIGINT DEFAULT '0' NOT NULL,
        refreshing_until TIMESTAMP WITH TIME ZONE,
        refreshing_by TEXT,
        failed_at TIMESTAMP WITH TIME ZONE,
        reason TEXT,
        changed_at TIMESTAMP WITH TIME ZONE DEFAULT (clock_timestamp()) NOT NULL,
        PRIMARY KEY (name)
    )
    """,
)
