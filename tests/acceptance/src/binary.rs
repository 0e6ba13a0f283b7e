//! Where the programs are.

use std::{
    env,
    fs::File,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};

use crate::account::Account;

/// The binary under test, held open: a build that replaces it meanwhile changes nothing for this test, and the account of
/// the nodes need not be able to walk to where it lies.
static BINARY: OnceLock<File> = OnceLock::new();

/// The binary under test as a command of the nodes' account, without arguments.
pub fn bellwether(account: Account) -> Command {
    called("bellwether", account)
}

/// The same under another name, which makes it another program.
pub fn called(name: &str, account: Account) -> Command {
    let binary = BINARY.get_or_init(open);
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    command.arg0(name);
    without_our_settings(&mut command);
    account.apply(&mut command);
    command
}

/// Settings of whoever runs the tests are none of the nodes.
pub(crate) fn without_our_settings(command: &mut Command) {
    for (key, _) in env::vars_os() {
        if key.to_string_lossy().starts_with("PATRONI") || key.to_string_lossy().starts_with("PG") {
            command.env_remove(key);
        }
    }
}

fn open() -> File {
    let path = path();
    File::open(&path).unwrap_or_else(|error| {
        panic!("no binary to test at {} ({error}); build it: cargo build -p bellwether", path.display())
    })
}

/// The binary under test for a program that lies in `<target>/<profile>` itself.
pub fn beside_this_program() -> std::io::Result<PathBuf> {
    match env::var_os("BELLWETHER_BINARY") {
        Some(path) => Ok(path.into()),
        None => Ok(env::current_exe()?.with_file_name("bellwether")),
    }
}

fn path() -> PathBuf {
    if let Some(path) = env::var_os("BELLWETHER_BINARY") {
        return path.into();
    }
    // <target>/<profile>/deps/it-0123456789abcdef
    let test = env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(2).expect("tests lie in <target>/<profile>/deps").join("bellwether")
}

/// The directory of PostgreSQL's programs.
pub fn postgres_bin_dir() -> PathBuf {
    env::var_os("BELLWETHER_TEST_PG_BIN").unwrap_or_else(|| "/usr/lib/postgresql/15/bin".into()).into()
}

/// The major version of these programs.
pub fn postgres_major() -> u32 {
    let output = Command::new(postgres_bin_dir().join("postgres")).arg("--version").output();
    let text = String::from_utf8(output.expect("PostgreSQL is there").stdout).expect("it tells its version");
    let digits = text.split_whitespace().filter_map(|word| word.split('.').next()?.parse().ok());
    digits.into_iter().next().expect("a version has a number")
}

/// One of PostgreSQL's programs as a command of the nodes' account.
pub fn postgres_program(name: &str, account: Account) -> Command {
    let mut command = Command::new(postgres_bin_dir().join(name));
    account.apply(&mut command);
    command.current_dir("/");
    command
}
