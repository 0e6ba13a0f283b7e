//! Our own connections to a server that insists on TLS.

use std::os::unix::fs::PermissionsExt;

use bellwether_postgres::{
    monitor::MonitorError,
    replication::{self, Target},
    settings::{HostPort, PgSettings},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::server_under_test::{TestServer, run, settings};

/// A server certificate for 127.0.0.1 under a new CA; returns the CA's file.
fn certify(settings: &mut PgSettings, root: &std::path::Path) -> String {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(ca, &ca_key))
        .unwrap();
    let write = |name: &str, text: String| {
        let path = root.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_string_lossy().into_owned()
    };
    let parameter = |name: &str, value: String| (name.to_owned(), value);
    settings.parameters.extend([
        parameter("ssl", "on".to_owned()),
        parameter("ssl_cert_file", write("server.pem", certificate.pem())),
        parameter("ssl_key_file", write("server.key", key.serialize_pem())),
    ]);
    write("ca.pem", ca_certificate.pem())
}

/// Some packaged servers of the version matrix are built without TLS.
fn is_built_with_tls(settings: &PgSettings) -> bool {
    let pg_config = settings.bin_dir.as_ref().unwrap().join("pg_config");
    let Ok(output) = std::process::Command::new(pg_config).arg("--configure").output() else { return true };
    let options = String::from_utf8_lossy(&output.stdout);
    options.contains("--with-ssl") || options.contains("--with-openssl")
}

fn secured(target: &Target, host: &str, options: &[(&str, &str)]) -> Target {
    let mut target = target.clone();
    target.address = HostPort { host: host.to_owned(), ..target.address };
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    target.credentials.options = options.collect();
    target
}

#[test]
fn sslmode_is_obeyed_on_our_own_connections() {
    run(async |root| {
        let mut settings = settings(&root, "pg1");
        if !is_built_with_tls(&settings) {
            return;
        }
        let ca = certify(&mut settings, &root);
        settings.use_unix_socket = false;
        settings.pg_hba = Some(
            [
                "hostssl all all 127.0.0.1/32 scram-sha-256",
                "hostssl replication all 127.0.0.1/32 scram-sha-256",
            ]
            .map(str::to_owned)
            .into(),
        );
        let mut primary = TestServer::primary(settings).await;
        primary.observe().await; // `prefer` is the default, and the server refuses anything else

        let target = primary.target();
        let roots = ("sslrootcert", ca.as_str());
        for (case, host, options, accepted) in [
            ("not encrypted", "127.0.0.1", vec![("sslmode", "disable")], false),
            ("encrypted, unchecked", "127.0.0.1", vec![("sslmode", "require")], true),
            ("name and chain", "127.0.0.1", vec![("sslmode", "verify-full"), roots], true),
            ("another name, chain only", "localhost", vec![("sslmode", "verify-ca"), roots], true),
            ("another name", "localhost", vec![("sslmode", "verify-full"), roots], false),
        ] {
            let answer = replication::identify_system(&secured(&target, host, &options)).await;
            assert_eq!(answer.is_ok(), accepted, "{case}: {answer:?}");
        }

        let postmaster = primary.postmaster().id().clone();
        primary.change(|settings| {
            settings.superuser.options.insert("sslmode".to_owned(), "verify-full".to_owned());
        });
        primary.monitor.disconnect();
        let error = primary.monitor.observe(&postmaster).await.unwrap_err();
        assert!(matches!(error, MonitorError::Connect(_)), "verification without roots is an error: {error}");
    });
}
