//! A stand-in for Citus, for want of a package: PostgreSQL installed once more with an extension named `citus` that has the part
//! of the schema that an agent works with, and keeps Citus's rules about it.
//!
//! What the real one does with its metadata, it does not; a query that Citus would route is a session of the test's own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use crate::binary;

/// A library that does nothing without settings of its own, to be loaded under the other's name.
const HARMLESS: &str = "auth_delay.so";

const CONTROL: &str = "\
comment = 'stand-in for the metadata of Citus'
default_version = '1.0'
relocatable = false
schema = pg_catalog
";

/// Names, types and defaults are those of Citus. Nodes come and go only while all primaries have the metadata, which those that were
/// changed in the same transaction have not.
const SCHEMA: &str = "\
CREATE SCHEMA citus;
CREATE TYPE pg_catalog.noderole AS ENUM ('primary', 'secondary', 'unavailable');
CREATE SEQUENCE citus.pg_dist_node_nodeid_seq;
CREATE TABLE citus.pg_dist_node (
    nodeid int PRIMARY KEY DEFAULT nextval('citus.pg_dist_node_nodeid_seq'),
    groupid int NOT NULL,
    nodename text NOT NULL DEFAULT 'localhost',
    nodeport int NOT NULL DEFAULT 5432,
    noderole pg_catalog.noderole NOT NULL DEFAULT 'primary',
    nodecluster name NOT NULL DEFAULT 'default',
    changed_by bigint NOT NULL DEFAULT 0,
    UNIQUE (nodename, nodeport)
);
CREATE UNIQUE INDEX one_primary ON citus.pg_dist_node (groupid) WHERE noderole = 'primary';
CREATE TABLE citus.pg_dist_authinfo (nodeid int, rolename name, authinfo text, UNIQUE (rolename, nodeid));
ALTER TABLE citus.pg_dist_node SET SCHEMA pg_catalog;
ALTER TABLE citus.pg_dist_authinfo SET SCHEMA pg_catalog;

CREATE FUNCTION citus.only_while_synced() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE changed_by = txid_current()) THEN
        RAISE 'the metadata is not synced to all primaries';
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_add_node(
    host text, port int, grp int DEFAULT -1, nrole pg_catalog.noderole DEFAULT 'primary', cluster name DEFAULT 'default'
) RETURNS int LANGUAGE plpgsql AS $$
DECLARE id int;
BEGIN
    PERFORM citus.only_while_synced();
    INSERT INTO pg_catalog.pg_dist_node (groupid, nodename, nodeport, noderole, nodecluster)
        VALUES (grp, host, port, nrole, cluster) RETURNING nodeid INTO id;
    RETURN id;
END $$;

CREATE FUNCTION pg_catalog.citus_update_node(
    id int, host text, port int, force bool DEFAULT false, cooldown int DEFAULT 10000
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pg_catalog.pg_dist_node SET nodename = host, nodeport = port,
        changed_by = CASE noderole WHEN 'primary' THEN txid_current() ELSE changed_by END WHERE nodeid = id;
    IF NOT FOUND THEN
        RAISE 'node % not found', id;
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_remove_node(host text, port int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus.only_while_synced();
    DELETE FROM pg_catalog.pg_dist_node WHERE nodename = host AND nodeport = port;
    IF NOT FOUND THEN
        RAISE 'node at %:% does not exist', host, port;
    END IF;
END $$;

CREATE FUNCTION pg_catalog.citus_set_coordinator_host(
    host text, port int, nrole pg_catalog.noderole DEFAULT 'primary', cluster name DEFAULT 'default'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pg_catalog.pg_dist_node SET nodename = host, nodeport = port WHERE groupid = 0 AND noderole = nrole;
    IF NOT FOUND THEN
        INSERT INTO pg_catalog.pg_dist_node (groupid, nodename, nodeport, noderole, nodecluster)
            VALUES (0, host, port, nrole, cluster);
    END IF;
END $$;
";

/// Installs it below `dir` and returns the directory of its programs.
pub fn install(dir: &Path) -> PathBuf {
    let programs = binary::postgres_bin_dir();
    let share = shared_files(&programs);
    // PostgreSQL finds its files from where its program lies, by the way that it was built with.
    let common: PathBuf =
        programs.components().zip(share.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let within =
        |path: &Path| dir.join("usr").join(path.strip_prefix(&common).expect("they have it in common"));
    let (own_programs, own_share) = (within(&programs), within(&share));
    fs::create_dir_all(&own_programs).expect("a new directory");
    for program in files(&programs) {
        fs::copy(&program, own_programs.join(program.file_name().expect("a name")))
            .expect("room for programs");
    }
    let libraries = programs.with_file_name("lib");
    let own_libraries = own_programs.with_file_name("lib");
    link_all(&libraries, &own_libraries);
    let nested = libraries.join("postgresql");
    let plugins = if nested.is_dir() {
        fs::remove_file(own_libraries.join("postgresql")).expect("a link of ours");
        link_all(&nested, &own_libraries.join("postgresql"));
        own_libraries.join("postgresql")
    } else {
        own_libraries
    };
    symlink(plugins.join(HARMLESS), plugins.join("citus.so")).expect("a new link");
    link_all(&share, &own_share);
    let extensions = own_share.join("extension");
    fs::remove_file(&extensions).expect("a link of ours");
    link_all(&share.join("extension"), &extensions);
    fs::write(extensions.join("citus.control"), CONTROL).expect("room for a file");
    fs::write(extensions.join("citus--1.0.sql"), SCHEMA).expect("room for a file");
    open_for_all(dir);
    own_programs
}

fn shared_files(programs: &Path) -> PathBuf {
    let major = binary::postgres_major();
    let root = |levels: usize| programs.ancestors().nth(levels).expect("programs lie deeper");
    let places = [
        root(4).join(format!("share/postgresql/{major}")),
        root(1).join("share/postgresql"),
        root(1).join("share"),
    ];
    let has_extensions = |place: &&PathBuf| place.join("extension/plpgsql.control").exists();
    places.iter().find(has_extensions).cloned().expect("PostgreSQL's files lie where they usually do")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("a directory can be read").path()).collect()
}

/// A directory with a link to everything that is in another.
fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new directory");
    for file in files(from) {
        symlink(&file, to.join(file.file_name().expect("a name"))).expect("a new link");
    }
}

/// The nodes run as another user.
fn open_for_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
