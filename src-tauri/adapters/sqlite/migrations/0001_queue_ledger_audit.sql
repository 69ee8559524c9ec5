-- Times are microseconds since 1970 (wall clock) unless a column says otherwise; durations are microseconds.

-- The queue. `hidden_until` is elapsed time of the boot that has the database open; it is cleared whenever the database is
-- opened, so that what an earlier boot received is visible again. AUTOINCREMENT: a receipt names a `seq` for ever.
CREATE TABLE message (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL,
    body         TEXT    NOT NULL,
    first_sent   INTEGER NOT NULL,
    receives     INTEGER NOT NULL DEFAULT 0,
    hidden_until INTEGER
) STRICT;
CREATE INDEX message_hidden ON message (hidden_until) WHERE hidden_until IS NOT NULL;

-- The ledger. `key` is "firm kind Type id" with the kind's number; a space sorts below everything that an id may hold, so
-- the order of `key` is the order of its parts. `scope` is "firm kind".
CREATE TABLE record (
    seq        INTEGER PRIMARY KEY,
    key        TEXT    NOT NULL UNIQUE,
    scope      TEXT    NOT NULL GENERATED ALWAYS AS (substr(key, 1, instr(key, ' ') + 1)) VIRTUAL,
    state      TEXT    NOT NULL DEFAULT '',
    epoch      INTEGER NOT NULL DEFAULT 0,
    beat       INTEGER NOT NULL DEFAULT 0,
    station    TEXT,
    boot       TEXT,
    term       INTEGER,
    generation INTEGER NOT NULL DEFAULT 0,
    first_seen INTEGER,
    not_before INTEGER,
    waits_for  TEXT,
    attempts   INTEGER NOT NULL DEFAULT 0,
    dead       TEXT,
    dead_since INTEGER,
    set_aside  INTEGER NOT NULL DEFAULT 0,
    notice     TEXT,
    updated    INTEGER NOT NULL,
    CHECK ((station IS NULL) = (boot IS NULL) AND (station IS NULL) = (term IS NULL)),
    CHECK ((first_seen IS NULL) = (not_before IS NULL)),
    CHECK ((dead IS NULL) = (dead_since IS NULL))
) STRICT;
-- Small beside the table: they hold what is wanted, held, dead or remarked, never all that is known.
CREATE INDEX record_wanted ON record (scope, not_before, key, first_seen) WHERE first_seen IS NOT NULL AND dead IS NULL;
CREATE INDEX record_held ON record (key) WHERE station IS NOT NULL;
CREATE INDEX record_dead ON record (key, scope, set_aside) WHERE dead IS NOT NULL;
CREATE INDEX record_noticed ON record (key, scope) WHERE notice IS NOT NULL;

-- Counting a million rows takes too long to be asked every second.
CREATE TABLE tally (
    kind    TEXT    NOT NULL PRIMARY KEY,
    records INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER record_counted AFTER INSERT ON record BEGIN
    INSERT INTO tally (kind, records) VALUES (substr(new.scope, -1), 1)
    ON CONFLICT (kind) DO UPDATE SET records = records + 1;
END;
CREATE TRIGGER record_uncounted AFTER DELETE ON record BEGIN
    UPDATE tally SET records = records - 1 WHERE kind = substr(old.scope, -1);
END;

CREATE TABLE letter (
    seq         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    code        TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    sealed_body BLOB    NOT NULL,
    first_seen  INTEGER NOT NULL
) STRICT;

-- The audit log. `resolves` is the begun entry that an outcome belongs to. `mac` chains each row to the one before it.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY,
    resolves INTEGER REFERENCES audit (id),
    entry    TEXT    NOT NULL,
    mac      BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX audit_resolved_once ON audit (resolves) WHERE resolves IS NOT NULL;
CREATE TRIGGER audit_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_not_removed BEFORE DELETE ON audit BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;
-- Also keeps INSERT OR REPLACE, which fires no delete trigger, from overwriting an entry.
CREATE TRIGGER audit_only_appended BEFORE INSERT ON audit
WHEN new.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM audit) BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;
-- Begun and not resolved yet, so that nobody reads the whole log to find them.
CREATE TABLE audit_open (
    id INTEGER PRIMARY KEY REFERENCES audit (id)
) STRICT;
