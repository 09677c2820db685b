-- {schema} stands for the schema's name, quoted.

-- An event may lose its content if the last event of its stream is a tombstone, and nothing else may
-- change. Everything but that is still refused.
DROP TRIGGER events_append_only ON {schema}.events;
CREATE TRIGGER events_append_only BEFORE DELETE OR TRUNCATE ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.events_are_append_only();

CREATE FUNCTION {schema}.events_are_only_erased() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF NEW.event_data::text = '{"$erased":true}' AND NEW.metadata IS NULL
       AND OLD.event_type <> '$stream_erased'
       AND (NEW.event_id, NEW.aggregate_id, NEW.aggregate_type, NEW.event_type, NEW.event_version,
            NEW.created_at, NEW.position, NEW.schema_version)
         = (OLD.event_id, OLD.aggregate_id, OLD.aggregate_type, OLD.event_type, OLD.event_version,
            OLD.created_at, OLD.position, OLD.schema_version)
       AND (SELECT event_type = '$stream_erased' FROM {schema}.events
             WHERE aggregate_id = OLD.aggregate_id ORDER BY event_version DESC LIMIT 1)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'events are append-only: UPDATE refused';
END $$;
CREATE TRIGGER events_only_erased BEFORE UPDATE ON {schema}.events
    FOR EACH ROW EXECUTE FUNCTION {schema}.events_are_only_erased();

-- Each append asks which projections run inside it; mostly there is none.
CREATE INDEX idx_projections_inline ON {schema}.projection_shards (name, version)
    WHERE status = 'inline';
