-- An erasure may pass the trigger: of an event whose stream has ended with `$stream_erased`, only the
-- content and the metadata may go, and nothing may take their place.
DROP TRIGGER IF EXISTS events_no_update;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
WHEN NOT (
    NEW.event_data = '{"$erased":true}' AND NEW.metadata IS NULL
    AND OLD.event_type <> '$stream_erased'
    AND (SELECT event_type FROM events WHERE aggregate_id = OLD.aggregate_id
         ORDER BY event_version DESC LIMIT 1) = '$stream_erased'
    AND NEW.event_id IS OLD.event_id AND NEW.aggregate_id IS OLD.aggregate_id
    AND NEW.aggregate_type IS OLD.aggregate_type AND NEW.event_type IS OLD.event_type
    AND NEW.event_version IS OLD.event_version AND NEW.created_at IS OLD.created_at
    AND NEW.position IS OLD.position AND NEW.schema_version IS OLD.schema_version
    AND NEW.rowid IS OLD.rowid
) IS TRUE
BEGIN SELECT RAISE(ABORT, 'events are append-only: UPDATE refused'); END;

-- Each append asks which projections run inside it; mostly there is none.
CREATE INDEX idx_projections_inline ON projection_shards (name, version) WHERE status = 'inline';
