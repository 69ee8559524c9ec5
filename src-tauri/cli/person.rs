//! Whoever sits at the command: what is asked of them and said to them. A trait, so that tests can be that person.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use crate::secrets::Secret;

pub trait Person: Send {
    /// Can questions be asked? (Standard input is a terminal.)
    fn can_answer(&self) -> bool;
    /// Does only a person see what is said? (Standard output is a terminal.)
    fn alone_reads(&self) -> bool;
    /// One line, not shown while it is typed.
    fn hidden(&mut self, prompt: &str) -> io::Result<Secret>;
    /// One line, shown.
    fn ask(&mut self, prompt: &str) -> io::Result<String>;
    /// All of standard input, at most `limit` bytes; more is an error.
    fn handed_in(&mut self, limit: usize) -> io::Result<Secret>;
    fn say(&mut self, text: &str);
    /// To standard error.
    fn complain(&mut self, text: &str);
}

/// The real one.
#[derive(Debug, Default)]
pub struct Console;

impl Person for Console {
    fn can_answer(&self) -> bool {
        io::stdin().is_terminal()
    }

    fn alone_reads(&self) -> bool {
        io::stdout().is_terminal()
    }

    fn hidden(&mut self, prompt: &str) -> io::Result<Secret> {
        rpassword::prompt_password(prompt).map(Secret::new)
    }

    fn ask(&mut self, prompt: &str) -> io::Result<String> {
        let mut err = io::stderr().lock();
        write!(err, "{prompt}")?;
        err.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn handed_in(&mut self, limit: usize) -> io::Result<Secret> {
        let mut text = Zeroizing::new(String::with_capacity(limit + 1));
        io::stdin().lock().take(limit as u64 + 1).read_to_string(&mut text)?;
        match text.len() {
            bytes if bytes > limit => Err(io::Error::other(format!("more than {limit} bytes"))),
            _ => Ok(Secret::new(text.as_str())),
        }
    }

    fn say(&mut self, text: &str) {
        // Nobody may be reading any more; that is no reason to fail.
        let _ = writeln!(io::stdout(), "{text}");
    }

    fn complain(&mut self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}
