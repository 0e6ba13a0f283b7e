//! Who reads what a command prints.

/// A reader that has seen enough (`| head`) ends the command without a word, as people expect it. Not for agents: they go on
/// without one.
pub(crate) fn may_leave() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // What `println!` says when nobody reads any more. There is no other way to hear of it.
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            end();
        }
        tell(panic);
    }));
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "a command that prints keeps nothing open that must be closed"
)]
fn end() -> ! {
    std::process::exit(1)
}
