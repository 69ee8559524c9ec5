//! Logs: JSON lines in rotating files, plain lines on standard error on request, and a panic hook.
//!
//! No log line holds patient data or secrets. Types that hold them cannot be printed; beyond that, this module lets only our own crates
//! speak below `warn`, because libraries write headers, paths with search terms and statements at `debug` and `trace`; and
//! of a panic it writes the place, never the message, which may hold a value.

mod rotation;

use std::{
    fmt, io,
    io::{IsTerminal, Write},
    panic::PanicHookInfo,
    path::PathBuf,
    sync::Arc,
};

use engine::ports::Clock;
use tracing::{Dispatch, Level, Metadata, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, Targets, filter_fn},
    fmt::{format::Writer, time::FormatTime},
    layer::SubscriberExt,
};

/// The variable that overrides the configured level: `debug`, or `info,chart_relay::adapters::fhir=debug`.
pub const VARIABLE: &str = "CHART_RELAY_LOG";

/// The crates that are ours: only these may be heard below `warn`.
const OURS: [&str; 4] = ["chart_relay", "engine", "simulators", "xtask"];

/// Lines that wait to be written. More are dropped and counted: a full disk must not stop the relay or fill its memory.
const WAITING_LINES: usize = 4096;

#[derive(Debug, Clone)]
pub struct Options {
    /// Where the files go; none are written without it.
    pub directory: Option<PathBuf>,
    /// As in [`VARIABLE`].
    pub level: String,
    /// How many files are kept, 1 or more. A new one begins each UTC day and when one is full.
    pub files: usize,
    /// When a file is full, in bytes; so `files * file_bytes` is the most the logs take, within one line.
    pub file_bytes: u64,
    /// Plain lines on standard error as well.
    pub stderr: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { directory: None, level: "info".to_owned(), files: 14, file_bytes: 10 * 1024 * 1024, stderr: false }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "the log level \"{0}\" is not understood: write error, warn, info, debug or trace, and after a comma \
         module=level for a part of it"
    )]
    Level(String),
    #[error(
        "the log level names \"{0}\"; only the parts of {ours} can be set, because other libraries log what they carry",
        ours = OURS.join(", ")
    )]
    NotOurs(String),
    #[error("the log directory cannot be written: {0}")]
    Directory(io::ErrorKind),
    #[error("logging was started twice")]
    Twice,
}

/// Writes what is waiting when it is dropped; keep it to the end of `main`.
#[derive(Debug)]
#[must_use]
pub struct Guard {
    _worker: Option<WorkerGuard>,
    dropped: Option<ErrorCounter>,
}

impl Guard {
    /// Lines that were not written because the disk did not keep up.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines)
    }
}

/// Starts logging for the whole process and takes over the panic hook.
pub fn start(options: &Options, clock: Arc<dyn Clock>) -> Result<Guard, LogError> {
    let (dispatch, guard) = build(options, clock)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::Twice)?;
    let directory = options.directory.clone();
    std::panic::set_hook(Box::new(move |info| report_panic(info, directory.as_deref())));
    Ok(guard)
}

/// The same without touching anything global.
pub fn build(options: &Options, clock: Arc<dyn Clock>) -> Result<(Dispatch, Guard), LogError> {
    let levels = levels(&options.level)?;
    let timer = Time(clock.clone());
    let (file, guard) = match &options.directory {
        None => (None, Guard { _worker: None, dropped: None }),
        Some(directory) => {
            let file = rotation::Files::open(directory, options.files, options.file_bytes, clock)
                .map_err(|error| LogError::Directory(error.kind()))?;
            let (writer, worker) =
                NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).thread_name("log").finish(file);
            let dropped = Some(writer.error_counter());
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_timer(timer.clone())
                .with_writer(writer)
                .with_filter(levels.clone().and(filter_fn(may_speak)));
            (Some(layer), Guard { _worker: Some(worker), dropped })
        }
    };
    let stderr = options.stderr.then(|| {
        tracing_subscriber::fmt::layer()
            .compact()
            .with_timer(timer)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .with_filter(levels.and(filter_fn(may_speak)))
    });
    Ok((Registry::default().with(file).with(stderr).into(), guard))
}

fn is_ours(target: &str) -> bool {
    let mut rests = OURS.iter().filter_map(|ours| target.strip_prefix(ours));
    rests.any(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Besides the levels: those of the whole count for our crates only.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN || is_ours(metadata.target())
}

fn levels(text: &str) -> Result<Targets, LogError> {
    let levels: Targets = text.parse().map_err(|_| LogError::Level(text.to_owned()))?;
    for (target, level) in &levels {
        if !is_ours(target) {
            // A word that is no level is read as a part's name, set to everything: most likely it was meant as a level.
            return Err(match level {
                LevelFilter::TRACE if !text.contains('=') => LogError::Level(text.to_owned()),
                _ => LogError::NotOurs(target.to_owned()),
            });
        }
    }
    Ok(levels)
}

/// The wall clock, which is injected like everywhere.
#[derive(Clone)]
struct Time(Arc<dyn Clock>);

impl FormatTime for Time {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", self.0.now())
    }
}

fn report_panic(info: &PanicHookInfo<'_>, directory: Option<&std::path::Path>) {
    let place = info.location().map(|place| format!("{}:{}:{}", place.file(), place.line(), place.column()));
    let place = place.as_deref().unwrap_or("an unknown place");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(
        place,
        thread,
        "a part of the program failed (panic); its message is not written, it may hold values"
    );
    let log = directory.map(|directory| format!(" The log is in {}.", directory.display())).unwrap_or_default();
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(io::stderr(), "Chart Relay: a part of the program failed at {place} (thread {thread}).{log}");
}
