//! A key distribution centre of MIT Kerberos, of our own.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::bind::free_port;

pub(crate) const REALM: &str = "TEST.EXAMPLE";
pub(crate) const PASSWORD: &str = "kerberos-secret";

#[derive(Debug)]
pub(crate) struct Kdc {
    pub(crate) port: u16,
    dir: TempDir,
    child: Child,
}

impl Kdc {
    /// It knows `main` with a password and a keytab, and a DNS server at `localhost`.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (at, port) = (dir.path().display().to_string(), free_port());
        let client = format!(
            "[libdefaults]\n default_realm = {REALM}\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        );
        fs::write(dir.path().join("krb5.conf"), client).unwrap();
        let server = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n {REALM} = {{\n  \
             database_name = {at}/principal\n  key_stash_file = {at}/stash\n  acl_file = {at}/acl\n }}\n"
        );
        fs::write(dir.path().join("kdc.conf"), server).unwrap();
        let run = |words: &[&str]| {
            let output = command(&dir, words)
                .output()
                .expect("MIT Kerberos is installed (scripts/prerequisites stores)");
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["kdb5_util", "create", "-s", "-P", "master", "-r", REALM]);
        for query in [
            format!("addprinc -pw {PASSWORD} main"),
            "addprinc -randkey DNS/localhost".into(),
            format!("ktadd -k {at}/named.keytab DNS/localhost"),
            format!("ktadd -norandkey -k {at}/main.keytab main"),
        ] {
            run(&["kadmin.local", "-r", REALM, "-q", &query]);
        }
        let child = command(&dir, &["krb5kdc", "-n", "-r", REALM])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("krb5kdc is installed");
        Self { port, dir, child }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &TempDir, words: &[&str]) -> Command {
    // Where Debian has them.
    let program = ["/usr/sbin", "/usr/bin"].map(|at| PathBuf::from(at).join(words[0]));
    let mut command = Command::new(program.iter().find(|path| path.exists()).unwrap_or(&program[0]));
    command.args(&words[1..]);
    command.env("KRB5_CONFIG", dir.path().join("krb5.conf"));
    command.env("KRB5_KDC_PROFILE", dir.path().join("kdc.conf"));
    command
}
