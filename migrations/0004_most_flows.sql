-- The most flows that one datagram of this exporter and version ever held: by it, lost datagrams are converted into flows at
-- most. 0 until one with flows came.
ALTER TABLE exporter_activity ADD COLUMN most_flows bigint NOT NULL DEFAULT 0;
