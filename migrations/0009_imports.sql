-- Hours say themselves whether imported flows are among theirs, and so for as long as anything is known of them: their totals
-- outlive their flows. Since when flows are recorded, and which are no longer kept, hours tell as well.
ALTER TABLE hours ADD COLUMN imported boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN hours.imported IS 'Whether another collector received flows of the hour; answers about it are never exact';
UPDATE hours SET imported = true WHERE hour IN (SELECT hour FROM imported_hours);
DROP TABLE imported_hours;
DROP TABLE imported_days;

-- What a capture holds for one UDP port is brought in by itself, so that other ports can follow. 0 for files of nfdump, and for
-- captures of which all ports that were asked for went in together.
ALTER TABLE imports ADD COLUMN port integer NOT NULL DEFAULT 0;
ALTER TABLE imports DROP CONSTRAINT imports_content_hash_key;
ALTER TABLE imports ADD UNIQUE (content_hash, port);

-- A file that is longer now than when it was brought in goes on where its shorter one ended.
ALTER TABLE imports ADD COLUMN begins_at bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN imports.begins_at IS 'Everything before this byte was brought in as a shorter file with the same beginning';
CREATE INDEX imports_continued ON imports (size) WHERE state <> 'done' OR format = 'capture';
