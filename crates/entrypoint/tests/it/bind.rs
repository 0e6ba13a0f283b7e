//! A BIND of our own on a port of the loopback.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const ZONE: &str = "z.example";

/// A server with a zone, and one that leads back from 10.0.0.0/24.
#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    policy: String,
    child: Option<Child>,
}

impl Bind {
    /// With a key `k` that may change everything.
    pub(crate) fn with_key() -> Self {
        let key = "key \"k\" { algorithm hmac-sha256; secret \"c2VjcmV0IG9mIHRoZSB0ZXN0cw==\"; };\n";
        let bind = Self::new("grant k zonesub ANY;", "", key);
        bind.write_key("k.key", key);
        bind
    }

    /// For whom this Kerberos knows as `main`.
    pub(crate) fn with_kerberos(realm: &str, keytab: &Path) -> Self {
        let option = format!("tkey-gssapi-keytab \"{}\";", keytab.display());
        Self::new(&format!("grant main\\@{realm} zonesub ANY;"), &option, "")
    }

    fn new(policy: &str, option: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = dir.path().display().to_string();
        // Its own name is what Kerberos knows it by.
        let zone = |name: &str| {
            let text = format!(
                "$ORIGIN {name}.\n$TTL 60\n@ IN SOA localhost. root.localhost. 1 3600 600 86400 60\n@ IN NS localhost.\n"
            );
            fs::write(dir.path().join(name), text).unwrap();
            format!(
                "zone \"{name}\" {{ type primary; file \"{at}/{name}\"; update-policy {{ {policy} }}; }};\n"
            )
        };
        let zones = zone(ZONE) + &zone("0.0.10.in-addr.arpa");
        let text = format!(
            "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none; \
             session-keyfile none; recursion no; dnssec-validation no; {option} }};\ncontrols {{ }};\n{key}{zones}"
        );
        fs::write(dir.path().join("named.conf"), text).unwrap();
        let mut bind = Self { dir, port, policy: policy.to_owned(), child: None };
        bind.start();
        bind
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.path().join("named.log")).unwrap();
        let child = Command::new("named")
            .args(["-g", "-c"])
            .arg(self.dir.path().join("named.conf"))
            .env("KRB5RCACHETYPE", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("named is installed (scripts/prerequisites stores)");
        self.child = Some(child);
        let began = Instant::now();
        while std::net::TcpStream::connect(self.address()).is_err() {
            assert!(began.elapsed() < PATIENCE, "{}: {}", self.policy, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("named.log")).unwrap_or_default()
    }

    /// A file that nobody else may read.
    pub(crate) fn write_key(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The records of a kind at a name, as a client sees them.
    pub(crate) fn records(&self, name: &str, kind: &str) -> Vec<String> {
        let output = Command::new("dig")
            .args([
                "+short",
                "+tcp",
                "+time=2",
                "+tries=1",
                "-p",
                &self.port.to_string(),
                "@127.0.0.1",
                name,
                kind,
            ])
            .output()
            .expect("dig is installed (scripts/prerequisites stores)");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Somebody else changes the zone with the key.
    pub(crate) fn change(&self, what: &str) {
        let script = format!("server 127.0.0.1 {}\nzone {ZONE}\n{what}\nsend\n", self.port);
        let file = self.dir.path().join("script");
        fs::write(&file, script).unwrap();
        let key = self.dir.path().join("k.key");
        let output = Command::new("nsupdate").arg("-k").arg(key).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
