//! A terminal whose person has written down the answers.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use bellwether_cli::Terminal;

/// What was shown, and the answers that are left. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    out: String,
    err: String,
    answers: VecDeque<String>,
    input: String,
    is_terminal: bool,
}

impl Screen {
    pub(crate) fn with_answers(answers: &[&str]) -> Self {
        let shown = Shown {
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
            ..Shown::default()
        };
        Self(Arc::new(Mutex::new(shown)))
    }

    /// All of standard input, for commands that read it whole.
    pub(crate) fn with_input(input: &str) -> Self {
        Self(Arc::new(Mutex::new(Shown { input: input.to_owned(), ..Shown::default() })))
    }

    /// A person looks at it.
    pub(crate) fn of_a_terminal() -> Self {
        Self(Arc::new(Mutex::new(Shown { is_terminal: true, ..Shown::default() })))
    }

    pub(crate) fn out(&self) -> String {
        self.0.lock().unwrap().out.clone()
    }

    pub(crate) fn err(&self) -> String {
        self.0.lock().unwrap().err.clone()
    }
}

impl Terminal for Screen {
    fn out(&mut self, text: &str) {
        self.0.lock().unwrap().out.push_str(text);
    }

    fn err(&mut self, text: &str) {
        self.0.lock().unwrap().err.push_str(text);
    }

    fn read_line(&mut self) -> io::Result<Option<String>> {
        Ok(self.0.lock().unwrap().answers.pop_front())
    }

    fn read_secret(&mut self) -> io::Result<Option<String>> {
        self.read_line()
    }

    fn read_all(&mut self) -> io::Result<String> {
        Ok(self.0.lock().unwrap().input.clone())
    }

    fn is_interactive(&self) -> bool {
        self.0.lock().unwrap().is_terminal
    }
}
