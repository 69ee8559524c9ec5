-- What the station remembers for itself: its pause, how its last Sync now ended, how the day went. Texts of its own making, under
-- names of its own choosing.
CREATE TABLE note (
    name TEXT NOT NULL PRIMARY KEY,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;
