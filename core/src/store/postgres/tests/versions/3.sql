-- Version 3, which took over from version 1 of one process.
CREATE TABLE migration (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now());
CREATE TABLE contact (
    own bytea NOT NULL,
    contact bytea NOT NULL,
    subscription smallint NOT NULL,
    show smallint,
    told_unavailable boolean,
    told_show smallint,
    told_status bytea,
    PRIMARY KEY (own, contact)
);
CREATE TABLE outbox (
    queue text COLLATE "C" NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    expires bigint NOT NULL,
    lengths bytea NOT NULL,
    heads bytea NOT NULL,
    tail bytea NOT NULL,
    PRIMARY KEY (queue, first)
);
CREATE TABLE outbox_done (
    queue text COLLATE "C" NOT NULL PRIMARY KEY,
    up_to bigint NOT NULL
);
CREATE TABLE inbox (
    queue text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    path text NOT NULL,
    stanza bytea NOT NULL,
    PRIMARY KEY (queue, id)
);
CREATE TABLE dead_letter (
    queue text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    path text NOT NULL,
    stanza bytea NOT NULL,
    given_up bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (queue, id)
);
CREATE TABLE count (
    queue text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    day bigint NOT NULL,
    value bigint NOT NULL,
    PRIMARY KEY (queue, name)
);
-- The processes that serve an app together, as long as they live. What waits for one of them
-- has the queue QUEUE/ID.
CREATE TABLE member (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    beat timestamptz NOT NULL,
    up boolean NOT NULL,
    heir bigint
);
-- Whose turn a delivery takes, and where it stands among those that do, whichever process they
-- wait for.
ALTER TABLE inbox ADD COLUMN lane bigint, ADD COLUMN turn bigint GENERATED ALWAYS AS IDENTITY;
ALTER TABLE dead_letter ADD COLUMN lane bigint;
CREATE INDEX inbox_lane ON inbox (lane, queue, turn);
INSERT INTO migration (version) VALUES (1), (2), (3);
