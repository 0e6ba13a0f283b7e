//! Talking to the person in front of the terminal: output, questions, answers.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use crate::{error::CliError, manner::Manner};

/// Where text goes and answers come from. The commands know only this; tests give the answers themselves.
///
/// Reading blocks its thread until the person has answered; nothing else waits for it in an operator's command.
pub trait Terminal: Send {
    /// Writes to standard output as it is.
    fn out(&mut self, text: &str);
    /// Writes to standard error as it is.
    fn err(&mut self, text: &str);
    /// Reads a line without its end; `None` when there is no more input.
    fn read_line(&mut self) -> io::Result<Option<String>>;
    /// As [`Terminal::read_line`], without showing what is typed.
    fn read_secret(&mut self) -> io::Result<Option<String>>;
    /// Reads all of standard input.
    fn read_all(&mut self) -> io::Result<String>;
    /// Whether a person sees standard output.
    fn is_interactive(&self) -> bool;
}

/// The process's own streams.
#[derive(Debug, Default)]
pub struct Console;

impl Terminal for Console {
    fn out(&mut self, text: &str) {
        // A reader that went away (`| head`) has seen enough.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    fn err(&mut self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn read_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn read_secret(&mut self) -> io::Result<Option<String>> {
        if !io::stdin().is_terminal() {
            return self.read_line();
        }
        match dialoguer::Password::new().with_prompt("Password").allow_empty_password(true).interact() {
            Ok(password) => Ok(Some(password)),
            Err(dialoguer::Error::IO(error)) => Err(error),
        }
    }

    fn read_all(&mut self) -> io::Result<String> {
        io::read_to_string(io::stdin())
    }

    fn is_interactive(&self) -> bool {
        io::stdout().is_terminal()
    }
}

impl fmt::Debug for dyn Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

/// Asks and answers in a command's manner.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub(crate) terminal: Box<dyn Terminal>,
    manner: Manner,
}

impl Dialogue {
    pub(crate) fn new(terminal: Box<dyn Terminal>, manner: Manner) -> Self {
        Self { terminal, manner }
    }

    /// A line of data.
    pub(crate) fn line(&mut self, text: impl fmt::Display) {
        self.terminal.out(&format!("{text}\n"));
    }

    /// A line that is no data: what is going on. In Patroni's manner it goes to standard output, where its users look for it.
    pub(crate) fn note(&mut self, text: impl fmt::Display) {
        match self.manner {
            Manner::Patronictl => self.line(text),
            Manner::Bellwether => self.terminal.err(&format!("{text}\n")),
        }
    }

    /// A block that ends with its own line end, shown like a note.
    pub(crate) fn note_block(&mut self, text: &str) {
        match self.manner {
            Manner::Patronictl => self.terminal.out(text),
            Manner::Bellwether => self.terminal.err(text),
        }
    }

    /// A log line: always on standard error.
    pub(crate) fn warn(&mut self, text: impl fmt::Display) {
        let now = jiff::Zoned::now();
        let stamp = now.strftime("%Y-%m-%d %H:%M:%S");
        self.terminal.err(&format!("{stamp},{:03} - WARNING - {text}\n", now.millisecond()));
    }

    /// `question [default]: `; an empty answer is the default. The end of the input aborts.
    pub(crate) fn ask(&mut self, question: &str, default: Option<&str>) -> Result<String, CliError> {
        loop {
            match default {
                Some(default) => self.prompt(&format!("{question} [{default}]: ")),
                None => self.prompt(&format!("{question}: ")),
            }
            let answer = self.answer()?;
            match (answer.is_empty(), default) {
                (false, _) => return Ok(answer),
                (true, Some(default)) => return Ok(default.to_owned()),
                (true, None) => {}
            }
        }
    }

    /// `question [y/N]: `.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool, CliError> {
        loop {
            self.prompt(&format!("{question} [y/N]: "));
            match self.answer()?.to_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                _ => self.note("Error: invalid input"),
            }
        }
    }

    /// A password, unseen.
    pub(crate) fn ask_secret(&mut self) -> Result<String, CliError> {
        self.terminal.read_secret().ok().flatten().ok_or(CliError::Aborted)
    }

    fn prompt(&mut self, text: &str) {
        self.note_block(text);
    }

    fn answer(&mut self) -> Result<String, CliError> {
        // Ctrl-C ends the process; the end of the input (Ctrl-D, a pipe without answers) comes here.
        let answer = self.terminal.read_line().ok().flatten().ok_or(CliError::Aborted)?;
        Ok(answer.trim().to_owned())
    }
}
