//! Log files that begin anew each UTC day and when they are full; the oldest go. `chart-relay.2026-05-03.0001.jsonl`: in order of
//! name is in order of time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use engine::ports::Clock;
use jiff::{civil::Date, tz::TimeZone};

const PREFIX: &str = "chart-relay.";
const SUFFIX: &str = ".jsonl";
/// Of the running number within a day.
const LAST: u32 = 9999;

pub(super) struct Files {
    directory: PathBuf,
    keep: usize,
    file_bytes: u64,
    clock: Arc<dyn Clock>,
    current: Option<Current>,
}

struct Current {
    file: File,
    day: Date,
    number: u32,
    bytes: u64,
}

impl Files {
    pub(super) fn open(directory: &Path, keep: usize, file_bytes: u64, clock: Arc<dyn Clock>) -> io::Result<Self> {
        create_private(directory)?;
        let mut files = Self { directory: directory.to_owned(), keep: keep.max(1), file_bytes, clock, current: None };
        files.turn_to(0)?;
        Ok(files)
    }

    fn today(&self) -> Date {
        self.clock.now().to_zoned(TimeZone::UTC).date()
    }

    /// Makes `current` a file of today with room for `more` bytes.
    fn turn_to(&mut self, more: u64) -> io::Result<()> {
        let today = self.today();
        let number = match &self.current {
            Some(current) if current.day == today => {
                if current.bytes == 0 || current.bytes + more <= self.file_bytes || current.number == LAST {
                    return Ok(());
                }
                current.number + 1
            }
            // At start, or a new day: go on with the day's last file if there is one.
            _ => self.last_of(today)?,
        };
        self.current = None;
        let file = private().create(true).append(true).open(self.directory.join(name(today, number)))?;
        let bytes = file.metadata()?.len();
        self.current = Some(Current { file, day: today, number, bytes });
        self.prune()?;
        // The day's last file was full already.
        if bytes > 0 && bytes + more > self.file_bytes && number < LAST {
            return self.turn_to(more);
        }
        Ok(())
    }

    fn last_of(&self, day: Date) -> io::Result<u32> {
        let start = format!("{PREFIX}{day}.");
        let numbers = self.names()?.into_iter().filter_map(|name| {
            name.strip_prefix(&start)?.strip_suffix(SUFFIX)?.parse::<u32>().ok().filter(|number| *number <= LAST)
        });
        Ok(numbers.max().unwrap_or(0))
    }

    /// Of log files, oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(&self.directory)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
            .collect();
        names.sort();
        Ok(names)
    }

    fn prune(&self) -> io::Result<()> {
        let names = self.names()?;
        let current = self.current.as_ref().map(|current| name(current.day, current.number));
        for name in names.iter().take(names.len().saturating_sub(self.keep)) {
            // After a clock that was wrong the current one may not be the newest by name.
            if Some(name) != current.as_ref() {
                fs::remove_file(self.directory.join(name))?;
            }
        }
        Ok(())
    }
}

/// One call is one line: lines are never torn between files.
impl Write for Files {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.turn_to(line.len() as u64)?;
        let current = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        current.file.write_all(line)?;
        current.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), |current| current.file.flush())
    }
}

fn name(day: Date, number: u32) -> String {
    format!("{PREFIX}{day}.{number:04}{SUFFIX}")
}

fn private() -> OpenOptions {
    #[allow(unused_mut, reason = "the mode exists on Unix only")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create_private(directory: &Path) -> io::Result<()> {
    #[allow(unused_mut, reason = "the mode exists on Unix only")]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)
}
