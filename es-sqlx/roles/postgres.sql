-- {schema}, {reader}, {writer}, {projector} and {eraser} stand for names of yours.
-- The role that migrates owns the tables. The others hold what they need and no more.

-- Reads events, snapshots, and how projections are.
GRANT USAGE ON SCHEMA {schema} TO {reader}, {writer}, {projector}, {eraser};
GRANT SELECT ON {schema}.events, {schema}.snapshots, {schema}.es_migrations, {schema}.projection_shards,
    {schema}.projection_nodes, {schema}.projection_dead_letters
    TO {reader}, {writer}, {projector}, {eraser};

-- Appends, and keeps snapshots.
GRANT INSERT ON {schema}.events TO {writer}, {eraser};
GRANT INSERT, UPDATE ON {schema}.snapshots TO {writer};

-- Runs projections, whose tables it creates in the schema.
GRANT INSERT, UPDATE, DELETE ON {schema}.projection_shards, {schema}.projection_nodes,
    {schema}.projection_dead_letters TO {projector};
GRANT CREATE ON SCHEMA {schema} TO {projector};

-- Erases streams. The trigger lets this role, too, do nothing else to events.
GRANT UPDATE (event_data, metadata) ON {schema}.events TO {eraser};
GRANT DELETE ON {schema}.snapshots TO {eraser};
