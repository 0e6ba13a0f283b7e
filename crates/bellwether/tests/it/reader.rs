//! A reader that leaves early ends a command quietly.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

#[test]
fn a_command_whose_reader_has_left_ends_without_a_word() {
    for (name, arguments, is_data) in [
        ("bellwether", &["config", "schema"][..], true),
        ("patroni", &["--validate-config", "/nowhere.yml"][..], false),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.arg0(name).args(arguments).stdin(Stdio::null());
        if is_data {
            command.stdout(writer).stderr(Stdio::piped());
        } else {
            command.stdout(Stdio::piped()).stderr(writer);
        }
        let output = command.spawn().expect("it starts").wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(1), ""), "{name} {arguments:?}");
    }
}
