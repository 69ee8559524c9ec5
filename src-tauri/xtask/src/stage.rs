//! One step of the test command: its programs run one after the other, their output is passed on as it comes, and what cargo
//! says about tests is counted.

use crate::{machine::Machine, run::works};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// Asked only when its turn comes: it may install something.
    pub(crate) work: fn(Machine) -> Work,
}

pub(crate) enum Work {
    /// A check that passes or fails as a whole, and counts as one test.
    Check(Command),
    /// Several of these.
    Checks(Vec<Command>),
    /// What must be done first, and programs that say `test result:`.
    Tests { first: Vec<Command>, tests: Vec<Command> },
    /// With the reason: something optional is missing.
    NotRun(String),
    /// With the reason: what nobody can do without is missing.
    Impossible(String),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// Names of tests that failed, or what else did.
    pub(crate) failures: Vec<String>,
    pub(crate) not_run: Vec<String>,
    /// Lines worth repeating at the end.
    pub(crate) figures: Vec<String>,
    pub(crate) took: Duration,
}

impl Stage {
    pub(crate) fn run(self, machine: Machine) -> Outcome {
        let began = Instant::now();
        let mut outcome = Outcome::default();
        match (self.work)(machine) {
            Work::NotRun(reason) => outcome.not_run.push(reason),
            Work::Impossible(reason) => outcome.fail(reason),
            Work::Check(command) => outcome.check(command),
            Work::Checks(commands) => commands.into_iter().for_each(|command| outcome.check(command)),
            Work::Tests { first, tests } => {
                for mut command in first {
                    println!("`{}`", text(&command));
                    if !works(command.stdin(Stdio::null())) {
                        outcome.fail(format!("`{}`", text(&command)));
                    }
                }
                for command in tests {
                    outcome.test(command);
                }
            }
        }
        outcome.took = began.elapsed();
        outcome
    }
}

impl Outcome {
    fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }

    fn check(&mut self, mut command: Command) {
        if works(command.stdin(Stdio::null())) {
            self.passed += 1;
        } else {
            self.fail(format!("`{}`", text(&command)));
        }
    }

    fn test(&mut self, mut command: Command) {
        let name = format!("`{}`", text(&command));
        let before = self.failed;
        let mut results = 0;
        match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
            Err(error) => self.fail(format!("{name} does not start: {error}")),
            Ok(mut child) => {
                let output = child.stdout.take().expect("standard output is piped");
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line);
                    println!("{line}");
                    results += u32::from(self.hear(line.trim_end()));
                }
                let good = child.wait().is_ok_and(|status| status.success());
                // It did not build, or a test took its process down: no test is named then.
                if !good && self.failed == before {
                    self.fail(format!("{name} ended before its tests did"));
                } else if good && results == 0 {
                    self.fail(format!("{name} ran no tests"));
                }
            }
        }
    }

    /// Takes in one line of a test program; true if it was a sum.
    fn hear(&mut self, line: &str) -> bool {
        if let Some(sum) = line.strip_prefix("test result: ") {
            for part in sum.split([';', '.']).map(str::trim) {
                match part.split_once(' ').map(|(number, word)| (number.parse::<u32>(), word)) {
                    Some((Ok(number), "passed")) => self.passed += number,
                    Some((Ok(number), "failed")) => self.failed += number,
                    _ => {}
                }
            }
            return true;
        }
        // Without capture, a test may print on the line that names it.
        let mut said = line;
        if let Some((name, rest)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            said = rest;
            match rest.strip_prefix("ignored") {
                // A process of another test, in the shape of a test: it is not left out.
                Some(reason) if reason.starts_with(", started by") => {}
                Some(reason) => self.not_run.push(format!("{name}{reason}")),
                None if rest == "FAILED" => self.failures.push(name.to_owned()),
                None => {}
            }
        }
        let starts = ["seeds ", "faults: ", "checks: "];
        if starts.iter().any(|start| said.starts_with(start)) || said.contains(": found after ") {
            self.figures.push(said.to_owned());
        }
        false
    }
}

/// As a person would type it.
fn text(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy();
    let arguments = command.get_args().map(|argument| format!(" {}", argument.to_string_lossy()));
    std::iter::once(program.into_owned()).chain(arguments).collect()
}

pub(crate) fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    fn hear(lines: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for line in lines.lines() {
            outcome.hear(line);
        }
        outcome
    }

    #[test]
    fn sums_are_added_up_and_failures_named() {
        let outcome = hear(
            "test a::b ... ok\n\
             test c ... FAILED\n\
             test d ... ignored, needs a printer\n\
             test child ... ignored, started by the other tests\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.01s\n\
             test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        );
        assert_eq!((outcome.passed, outcome.failed), (31, 1));
        assert_eq!(outcome.failures, ["c"]);
        assert_eq!(outcome.not_run, ["d, needs a printer"]);
    }

    #[test]
    fn figures_are_kept_wherever_they_stand() {
        let outcome = hear("test worlds ... seeds 7, lost 0\nfaults: crash 3\nEcho: found after 2 seed(s): I9\nnoise");
        assert_eq!(outcome.figures, ["seeds 7, lost 0", "faults: crash 3", "Echo: found after 2 seed(s): I9"]);
    }
}
