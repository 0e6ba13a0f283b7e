-- What of this database a replica may be asked for. Rows of (kind, name); see catalogue.rs.
WITH RECURSIVE
volatile_function AS (
    SELECT p.oid, p.proname
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.provolatile = 'v'
      -- Volatile, but without an effect that anybody could miss.
      AND NOT (n.nspname = 'pg_catalog' AND p.proname IN (
          'random', 'random_normal', 'clock_timestamp', 'timeofday', 'gen_random_uuid', 'uuidv4', 'uuidv7',
          'pg_sleep', 'pg_sleep_for', 'pg_sleep_until', 'bernoulli', 'system'))
    UNION
    -- Called stable, and yet they take a number that only a primary gives out.
    SELECT p.oid, p.proname
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('txid_current', 'pg_current_xact_id')
    UNION
    -- An aggregate is always called immutable; what it does is in its parts.
    SELECT p.oid, p.proname
    FROM pg_catalog.pg_aggregate a
    JOIN pg_catalog.pg_proc p ON p.oid = a.aggfnoid
    JOIN pg_catalog.pg_proc part ON part.oid IN (
        a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
        a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
    WHERE part.provolatile = 'v'
),
-- Stored expressions that run when a relation is read: of views, and of policies for its rows.
stored_expression AS (
    SELECT r.ev_class AS relation, r.ev_action::text AS tree
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE r.ev_type = '1' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL
    SELECT p.polrelid, p.polqual::text FROM pg_catalog.pg_policy p WHERE p.polqual IS NOT NULL
),
unsafe_relation (oid) AS (
    -- A replica has no unlogged tables; a sequence runs ahead there; a foreign table is another server's.
    SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.relpersistence <> 'p' OR c.relkind IN ('S', 'f')
    UNION
    SELECT s.relation
    FROM stored_expression s,
        pg_catalog.regexp_matches(s.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') AS found
    WHERE found[1]::oid IN (SELECT oid FROM volatile_function)
    UNION
    SELECT above.oid
    FROM unsafe_relation below,
        LATERAL (
            -- Who inherits from it, or is its partition.
            SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i WHERE i.inhrelid = below.oid
            UNION ALL
            -- The views that read it.
            SELECT r.ev_class
            FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
            JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
            WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass
              AND d.refclassid = 'pg_catalog.pg_class'::regclass
              AND d.refobjid = below.oid
        ) above
)
SELECT 'safe_function' AS kind, p.proname::text AS name
FROM pg_catalog.pg_proc p
WHERE p.prokind <> 'p' AND p.proname NOT IN (SELECT proname FROM volatile_function)
UNION
SELECT 'operator', o.oprname::text
FROM pg_catalog.pg_operator o
WHERE o.oprcode IN (SELECT oid FROM volatile_function)
UNION
SELECT 'relation', c.relname::text
FROM pg_catalog.pg_class c
WHERE c.oid IN (SELECT oid FROM unsafe_relation)
UNION
SELECT 'type', t.typname::text
FROM pg_catalog.pg_type t
WHERE t.oid >= 16384 AND t.typinput IN (SELECT oid FROM volatile_function)
UNION
SELECT 'type', t.typname::text
FROM pg_catalog.pg_cast k
JOIN pg_catalog.pg_type t ON t.oid IN (k.castsource, k.casttarget)
WHERE k.oid >= 16384 AND k.castfunc IN (SELECT oid FROM volatile_function)
UNION
-- A function with a row as its only argument may be written like one of its fields.
SELECT 'field', p.proname::text
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
WHERE p.pronargs = 1 AND t.typtype IN ('c', 'p') AND p.oid >= 16384
  AND p.oid IN (SELECT oid FROM volatile_function)
