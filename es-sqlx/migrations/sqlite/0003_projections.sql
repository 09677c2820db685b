-- A lease is a node's, no longer a shard's; and a row says what people have decided.
ALTER TABLE projection_shards DROP COLUMN lease_until;
ALTER TABLE projection_shards ADD COLUMN repeatable BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE projection_shards ADD COLUMN resume_to  TEXT    NOT NULL DEFAULT 'running';
ALTER TABLE projection_shards ADD COLUMN active     BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE projection_shards ADD COLUMN promote    BOOLEAN NOT NULL DEFAULT true;
-- Positions by earlier shards, as JSON.
ALTER TABLE projection_shards ADD COLUMN applied    TEXT;
ALTER TABLE projection_shards ADD COLUMN silent     TEXT;

-- No node is alive yet, so nobody owns anything. The newest version of each name is the one that is served.
UPDATE projection_shards AS s
   SET owner = NULL, epoch = epoch + 1,
       active = status <> 'retired' AND version = (
           SELECT max(version) FROM projection_shards AS n
            WHERE n.name = s.name AND n.status <> 'retired');

-- Who is alive to run projections. Times are milliseconds since 1970.
CREATE TABLE projection_nodes (
    node        BLOB    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    runs        TEXT    NOT NULL, -- [[name, version], …]
    alive_until INTEGER NOT NULL
);

-- Events that a projection has put aside.
CREATE TABLE projection_dead_letters (
    name           TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    event_id       BLOB    NOT NULL,
    position       INTEGER NOT NULL,
    aggregate_type TEXT    NOT NULL,
    aggregate_id   BLOB    NOT NULL,
    event_type     TEXT    NOT NULL,
    event_version  INTEGER NOT NULL,
    state          TEXT    NOT NULL,
    failure        TEXT    NOT NULL,
    attempts       INTEGER NOT NULL,
    retry          BOOLEAN NOT NULL DEFAULT false,
    owed           BOOLEAN NOT NULL DEFAULT false,
    since          INTEGER NOT NULL,
    tried          INTEGER NOT NULL,
    PRIMARY KEY (name, version, event_id)
);
CREATE INDEX idx_dead_letters_aggregate
    ON projection_dead_letters (name, version, aggregate_id, position);
CREATE INDEX idx_dead_letters_projection ON projection_dead_letters (name, version, position);
CREATE INDEX idx_dead_letters_position ON projection_dead_letters (position, name, version);
