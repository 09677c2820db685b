-- {schema} stands for the schema's name, quoted.

-- Events: append-only. Positions are the order of the log; versions the order of a stream.
CREATE TABLE {schema}.events (
    event_id       UUID         NOT NULL CONSTRAINT events_pkey PRIMARY KEY,
    aggregate_id   UUID         NOT NULL,
    aggregate_type VARCHAR(255) NOT NULL,
    event_type     VARCHAR(255) NOT NULL,
    event_version  INT          NOT NULL CHECK (event_version > 0),
    event_data     JSON         NOT NULL,
    created_at     TIMESTAMP    NOT NULL DEFAULT timezone('utc', clock_timestamp()),
    -- CACHE 1 and ALWAYS: positions must be drawn in the order of time, by the INSERT itself.
    position       BIGINT       NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
    schema_version INT          NOT NULL DEFAULT 1 CHECK (schema_version > 0),
    metadata       JSON,
    -- The index of this constraint serves reading a stream: one index, not two.
    CONSTRAINT idx_events_aggregate UNIQUE (aggregate_id, event_version),
    CONSTRAINT events_position UNIQUE (position)
);
CREATE INDEX idx_events_type ON {schema}.events (event_type, created_at);
CREATE INDEX idx_events_type_position ON {schema}.events (event_type, position);

CREATE FUNCTION {schema}.events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'events are append-only: % refused', TG_OP; END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.events_are_append_only();

CREATE TABLE {schema}.snapshots (
    snapshot_id    UUID         NOT NULL PRIMARY KEY,
    aggregate_id   UUID         NOT NULL,
    aggregate_type VARCHAR(255) NOT NULL,
    version        INT          NOT NULL CHECK (version > 0),
    created_at     TIMESTAMP    NOT NULL,
    state          JSON         NOT NULL,
    fingerprint    TEXT,
    UNIQUE (aggregate_id, version)
);

-- Where each projection stands, and who runs it.
CREATE TABLE {schema}.projection_shards (
    name            TEXT        NOT NULL,
    version         INT         NOT NULL,
    shard           INT         NOT NULL DEFAULT 0,
    shards          INT         NOT NULL DEFAULT 1,
    event_types     TEXT[]      NOT NULL,
    position        BIGINT      NOT NULL DEFAULT 0,
    anchor_position BIGINT,
    anchor_event_id UUID,
    epoch           BIGINT      NOT NULL DEFAULT 0,
    owner           UUID,
    lease_until     TIMESTAMPTZ NOT NULL DEFAULT 'epoch',
    status          TEXT        NOT NULL DEFAULT 'running',
    failure         JSONB,
    updated_at      TIMESTAMPTZ,
    PRIMARY KEY (name, version, shard)
);
