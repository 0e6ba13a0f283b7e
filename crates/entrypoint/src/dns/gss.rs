//! Updates that are authenticated by Kerberos: by `kinit` and `nsupdate -g` of the system, which know what no library of ours does.
//!
//! No domain is joined: realm, key distribution centre, principal and keytab (or password) are in a configuration of our own, in a
//! directory of our own. Secrets are on no command line. Each program is run by `timeout`, so that none outlives us by more than that.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use bellwether_config::sections::dns::{GssSecret, GssTsig};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::update::Update;

/// What a program may take before it is ended, in seconds.
const KINIT_MAY_TAKE: u32 = 8;
const NSUPDATE_MAY_TAKE: u32 = 8;
/// What it may take to end it.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// The status of `timeout` for a program that it had to end.
const TOOK_TOO_LONG: i32 = 124;

/// Why an update did not happen.
#[derive(Debug, thiserror::Error)]
pub enum GssError {
    #[error("`{program}` cannot be run: {cause}; install {package}")]
    NoProgram { program: &'static str, package: &'static str, cause: io::Error },
    #[error("{path} cannot be used: {cause}; check that the agent's account may read it")]
    Files { path: String, cause: io::Error },
    #[error("Kerberos gives no ticket to {principal}: {why}")]
    NoTicket { principal: String, why: String },
    #[error("Kerberos says that our clocks are too far apart: check the time on both")]
    ClockSkew,
    #[error("the server says that somebody else has changed it meanwhile")]
    Prerequisite,
    #[error("the server takes no update from {principal}: {why}")]
    Refused { principal: String, why: String },
    #[error("`{program}` took longer than it may")]
    TooLong { program: &'static str },
}

/// Where the files are: a private directory, made anew for each update and removed after it.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn make(within: &Path) -> Result<Self, GssError> {
        let path = within.join("dns");
        let failed = |cause| GssError::Files { path: path.display().to_string(), cause };
        // What an agent before this one has left.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Gets a ticket and sends the update to this server.
pub async fn send(
    gss: &GssTsig,
    update: &Update,
    server: &str,
    port: u16,
    runtime_dir: &Path,
) -> Result<(), GssError> {
    let scratch = Scratch::make(runtime_dir)?;
    let configuration = scratch.0.join("krb5.conf");
    fs::write(&configuration, krb5_conf(gss))
        .map_err(|cause| GssError::Files { path: configuration.display().to_string(), cause })?;
    get_ticket(gss, &scratch, &configuration).await?;
    // `-t` ends it by itself when a server is silent.
    let mut nsupdate = program("nsupdate", NSUPDATE_MAY_TAKE, &scratch, &configuration);
    nsupdate.args(["-g", "-t", "5", "-u", "2", "-r", "1"]);
    let output =
        run(&mut nsupdate, "nsupdate", "bind9-dnsutils", update.script(server, port).as_bytes()).await?;
    judge_update(gss, &output)
}

async fn get_ticket(gss: &GssTsig, scratch: &Scratch, configuration: &Path) -> Result<(), GssError> {
    let principal = if gss.principal.contains('@') {
        gss.principal.clone()
    } else {
        format!("{}@{}", gss.principal, gss.realm)
    };
    let mut kinit = program("kinit", KINIT_MAY_TAKE, scratch, configuration);
    let mut password = Vec::new();
    match &gss.secret {
        GssSecret::Keytab(keytab) => drop(kinit.args(["-k", "-t"]).arg(keytab)),
        GssSecret::PasswordFile(path) => {
            password = fs::read(path)
                .map_err(|cause| GssError::Files { path: path.display().to_string(), cause })?;
            if password.last() != Some(&b'\n') {
                password.push(b'\n');
            }
        }
    }
    kinit.arg(&principal);
    let output = run(&mut kinit, "kinit", "krb5-user", &password).await?;
    if output.status.success() {
        return Ok(());
    }
    let why = last_line(&output.stderr);
    if why.to_ascii_lowercase().contains("clock skew") {
        return Err(GssError::ClockSkew);
    }
    Err(GssError::NoTicket { principal, why })
}

fn judge_update(gss: &GssTsig, output: &Output) -> Result<(), GssError> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("NXRRSET") || said.contains("YXRRSET") || said.contains("YXDOMAIN") {
        return Err(GssError::Prerequisite);
    }
    if said.to_ascii_lowercase().contains("clock skew") || said.contains("BADTIME") {
        return Err(GssError::ClockSkew);
    }
    Err(GssError::Refused { principal: gss.principal.clone(), why: last_line(&output.stderr) })
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing").to_owned()
}

/// Our own Kerberos, whatever the host's is.
fn krb5_conf(gss: &GssTsig) -> String {
    let realm = &gss.realm;
    let kdc: String = gss.kdc.iter().map(|kdc| format!("    kdc = {kdc}\n")).collect();
    let looks_up = gss.kdc.is_empty();
    format!(
        "[libdefaults]\n  default_realm = {realm}\n  dns_lookup_kdc = {looks_up}\n  dns_lookup_realm = false\n  \
         dns_canonicalize_hostname = false\n  rdns = false\n  udp_preference_limit = 1\n[realms]\n  {realm} = {{\n{kdc}  }}\n\
         [domain_realm]\n"
    )
}

fn program(name: &str, seconds: u32, scratch: &Scratch, configuration: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &seconds.to_string(), name]);
    command.env("KRB5_CONFIG", configuration);
    command.env("KRB5CCNAME", format!("FILE:{}", scratch.0.join("tickets").display()));
    command.env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(
    command: &mut Command,
    program: &'static str,
    package: &'static str,
    input: &[u8],
) -> Result<Output, GssError> {
    let failed = |cause| GssError::NoProgram { program, package, cause };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read everything says why.
        let _ = stdin.write_all(input).await;
    }
    let may_take = Duration::from_secs(u64::from(KINIT_MAY_TAKE.max(NSUPDATE_MAY_TAKE))) + ENDS_WITHIN;
    let output = tokio::time::timeout(may_take, child.wait_with_output()).await;
    let output = output.map_err(|_| GssError::TooLong { program })?.map_err(failed)?;
    match output.status.code() {
        Some(TOOK_TOO_LONG) => Err(GssError::TooLong { program }),
        // `timeout` itself has not found it.
        Some(126 | 127) => Err(failed(io::Error::from(io::ErrorKind::NotFound))),
        _ => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kerberos_is_told_what_it_needs_and_no_secret() {
        let gss = GssTsig {
            realm: "EXAMPLE.COM".into(),
            kdc: vec![bellwether_types::HostPort::new("10.0.0.9", 88)],
            principal: "main".into(),
            secret: GssSecret::PasswordFile("/p".into()),
        };
        let text = krb5_conf(&gss);
        assert!(
            text.contains("default_realm = EXAMPLE.COM\n") && text.contains("    kdc = 10.0.0.9:88\n"),
            "{text}"
        );
        assert!(text.contains("dns_lookup_kdc = false"), "{text}");
        assert!(krb5_conf(&GssTsig { kdc: vec![], ..gss }).contains("dns_lookup_kdc = true"));
    }
}
