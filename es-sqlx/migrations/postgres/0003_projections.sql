-- {schema} stands for the schema's name, quoted.

-- A lease is a node's, no longer a shard's; and a row says what people have decided.
ALTER TABLE {schema}.projection_shards
    DROP COLUMN lease_until,
    -- JSON, not JSONB: a message may hold U+0000.
    ALTER COLUMN failure TYPE JSON USING failure::json,
    ADD COLUMN repeatable BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN resume_to  TEXT    NOT NULL DEFAULT 'running',
    ADD COLUMN active     BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN promote    BOOLEAN NOT NULL DEFAULT true,
    -- Positions by earlier shards.
    ADD COLUMN applied    JSON,
    ADD COLUMN silent     JSON;

-- No node is alive yet, so nobody owns anything. The newest version of each name is the one that is served.
UPDATE {schema}.projection_shards s
   SET owner = NULL, epoch = epoch + 1,
       active = status <> 'retired' AND version = (
           SELECT max(version) FROM {schema}.projection_shards n
            WHERE n.name = s.name AND n.status <> 'retired');

-- Who is alive to run projections.
CREATE TABLE {schema}.projection_nodes (
    node        UUID        NOT NULL PRIMARY KEY,
    name        TEXT        NOT NULL,
    -- [[name, version], …]
    runs        JSON        NOT NULL,
    alive_until TIMESTAMPTZ NOT NULL
);

-- Events that a projection has put aside.
CREATE TABLE {schema}.projection_dead_letters (
    name           TEXT        NOT NULL,
    version        INT         NOT NULL,
    event_id       UUID        NOT NULL,
    position       BIGINT      NOT NULL,
    aggregate_type TEXT        NOT NULL,
    aggregate_id   UUID        NOT NULL,
    event_type     TEXT        NOT NULL,
    event_version  INT         NOT NULL,
    state          TEXT        NOT NULL,
    failure        JSON        NOT NULL,
    attempts       INT         NOT NULL,
    retry          BOOLEAN     NOT NULL DEFAULT false,
    owed           BOOLEAN     NOT NULL DEFAULT false,
    since          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    tried          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version, event_id)
);
CREATE INDEX idx_dead_letters_aggregate
    ON {schema}.projection_dead_letters (name, version, aggregate_id, position);
CREATE INDEX idx_dead_letters_projection
    ON {schema}.projection_dead_letters (name, version, position);
CREATE INDEX idx_dead_letters_position ON {schema}.projection_dead_letters (position);
