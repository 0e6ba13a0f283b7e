//! One run of the binary by itself, for behaviours that end a process.

use std::{
    io::{Read as _, Write as _},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Standard output and standard error, in this order.
    pub text: String,
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Panics, with everything that was said, unless it was said in this run.
    pub fn says(&self, words: &str) {
        assert!(self.text.contains(words), "`{words}` expected in:\n{}", self.text);
    }
}

/// Runs `command` to its end, and kills it if that does not come within `limit`.
pub fn to_the_end(command: Command, limit: Duration) -> Ended {
    answering(command, "", limit)
}

/// The same for a command that asks: `answers` are typed, one a line.
pub fn answering(mut command: Command, answers: &str, limit: Duration) -> Ended {
    let input = if answers.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    if let Some(mut keyboard) = child.stdin.take() {
        keyboard.write_all(answers.as_bytes()).expect("it reads what is typed");
    }
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = err.read_to_string(&mut text);
        text
    });
    let reading_out = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.read_to_string(&mut text);
        text
    });
    let began = Instant::now();
    let mut is_late = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if began.elapsed() > limit && !is_late {
            is_late = true;
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = reading_out.join().unwrap_or_default() + &reading.join().unwrap_or_default();
    assert!(!is_late, "{command:?} did not end within {} s:\n{text}", limit.as_secs());
    Ended { status, text }
}
