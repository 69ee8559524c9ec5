//! Benchmark 4: tray and window on a desk of their own (a display in memory, so pixels are drawn by the processor): how long until they are
//! there, what they take, and what is given back.
//!
//! `cargo bench --features desktop --bench desktop`; exit code 1 if a target is missed. Linux only, with what `tests/desktop` needs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that fails has nothing to print")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/desktop/desk.rs"]
mod desk;
#[cfg(target_os = "linux")]
#[path = "../tests/desktop/display.rs"]
mod display;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/system/installation.rs"]
mod installation;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/desktop/panel.rs"]
mod panel;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/system/rig.rs"]
mod rig;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/desktop/window.rs"]
mod window;
#[cfg(target_os = "linux")]
#[path = "../tests/desktop/x11.rs"]
mod x11;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("Benchmark 4: not run, it needs Xvfb and reads /proc");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs,
        path::Path,
        process::{Command, ExitCode, Stdio},
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use crate::{
        desk::{Desk, children},
        installation::Installation,
    };

    const ROUNDS: usize = 5;
    /// What a start or an end needs is given back within this.
    const SETTLES: Duration = Duration::from_secs(10);
    const MEASURED: Duration = Duration::from_secs(20);

    /// Figures beside their targets.
    #[derive(Default)]
    struct Table {
        missed: Vec<String>,
    }

    impl Table {
        /// `most`: no more than this, if that is a target.
        fn line(&mut self, what: &str, figure: f64, unit: &str, most: Option<f64>) {
            let target = match most {
                None => String::new(),
                Some(most) if figure <= most => format!("target <= {most} {unit}: met"),
                Some(most) => {
                    self.missed.push(what.to_owned());
                    format!("target <= {most} {unit}: MISSED")
                }
            };
            println!("{what:<58}{figure:>9.1} {unit:<5} {target}");
        }
    }

    #[tokio::main]
    pub(super) async fn main() -> ExitCode {
        println!("Benchmark 4: tray and window, drawn without a graphics card\n");
        let mut table = Table::default();
        bundle(&mut table);
        let installation = Installation::ready(20, 71, "").await;
        let desk = Desk::at(&installation).await;
        times(&mut table, &desk).await;
        let mut desk = Desk::at(&installation).await;
        desk.driven = false;
        memory(&mut table, &desk).await;
        match table.missed.as_slice() {
            [] => ExitCode::SUCCESS,
            missed => {
                println!("missed: {}", missed.join("; "));
                ExitCode::FAILURE
            }
        }
    }

    /// The window's pages as they would travel.
    fn bundle(table: &mut Table) {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/dist/assets");
        for (end, most) in [("js", 120.0), ("css", 20.0)] {
            let files = fs::read_dir(&assets).unwrap().flatten().map(|entry| entry.path());
            let packed: usize = files
                .filter(|path| path.extension().is_some_and(|found| found == end))
                .map(|path| Command::new("gzip").args(["-9", "-c"]).arg(path).output().unwrap().stdout.len())
                .sum();
            table.line(&format!("pages: {end}, packed"), packed as f64 / 1000.0, "kB", Some(most));
        }
    }

    fn milliseconds(time: Duration) -> f64 {
        time.as_secs_f64() * 1000.0
    }

    fn median(mut times: Vec<Duration>) -> f64 {
        times.sort();
        milliseconds(times[times.len() / 2])
    }

    fn now() -> f64 {
        milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
    }

    async fn times(table: &mut Table, desk: &Desk) {
        // The program in the least that it can do: what the system and its linker take.
        let mut least = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let ended = desk.command(&["--version"]).stdout(Stdio::null()).status().await.unwrap();
            assert!(ended.success());
            least.push(begun.elapsed());
        }
        table.line("baseline: `chart-relay --version`", median(least), "ms", None);

        let (mut icon, mut content, mut usable, mut pixels) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut tray = desk.tray().await;
            icon.push(begun.elapsed());
            tray.item.shows("up-to-date").await;
            let opened = now();
            let clicked = Instant::now();
            tray.item.choose("Open").await;
            let window = desk.window().await;
            window.sees("Sync now").await;
            usable.push(clicked.elapsed());
            // By the page's own clock: the driver takes its time.
            let painted = "const [paint] = performance.getEntriesByName('first-contentful-paint');
                return performance.timeOrigin + (paint?.startTime ?? NaN);";
            let at = window.run(painted, &[]).await.as_f64().unwrap_or(f64::NAN);
            content.push(Duration::from_secs_f64(((at - opened) / 1000.0).max(0.0)));

            // From what changes in the relay to what is painted.
            let watch = "window.seen = new Promise((done) => {
                const look = () => {
                    if (!document.body.innerText.includes('Paused until')) return;
                    watcher.disconnect();
                    requestAnimationFrame(() => requestAnimationFrame(() => done(Date.now())));
                };
                const watcher = new MutationObserver(look);
                watcher.observe(document.body, { subtree: true, childList: true, characterData: true });
            });";
            window.run(watch, &[]).await;
            let changed = now();
            tray.item.choose("15 minutes").await;
            let seen = window.run_async("window.seen.then(arguments[0])", &[]).await.as_f64().unwrap();
            pixels.push(Duration::from_secs_f64(((seen - changed) / 1000.0).max(0.0)));
            tray.item.choose("Resume").await;
            tray.item.shows("up-to-date").await;
            assert!(tray.quit().await.success());
        }
        table.line("start of the program to the icon in the panel", median(icon), "ms", None);
        table.line("\"Open\" to the first content of the window", median(content), "ms", None);
        table.line("\"Open\" to a window that can be used (driver included)", median(usable), "ms", Some(1500.0));
        table.line("a pause is chosen to its pixels (pictures: one a second)", median(pixels), "ms", Some(2500.0));
    }

    async fn memory(table: &mut Table, desk: &Desk) {
        let mut tray = desk.tray().await;
        tray.item.shows("up-to-date").await;
        tokio::time::sleep(SETTLES).await;
        print_memory(table, "tray, never opened", &[tray.id()], Some(75.0));
        cpu(table, "tray at rest", &[tray.id()]).await;

        tray.item.choose("Open").await;
        crate::rig::until("the window is there", async || {
            desk.titles().await.iter().any(|(_, title)| title == "Chart Relay").then_some(())
        })
        .await;
        tokio::time::sleep(SETTLES).await;
        let window: Vec<u32> = tray.windows().into_iter().flat_map(tree).collect();
        print_memory(table, "window open: the tray", &[tray.id()], None);
        for process in &window {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            print_memory(table, &format!("window open: {}", name.trim()), &[*process], None);
        }
        let all: Vec<u32> = window.iter().copied().chain([tray.id()]).collect();
        print_memory(table, "window open: all", &all, None);
        cpu(table, "window open, at rest", &all).await;

        desk.close_window().await;
        desk.no_window(&tray).await;
        tokio::time::sleep(SETTLES).await;
        print_memory(table, "after closing", &tree(tray.id()), Some(220.0));
        cpu(table, "after closing", &tree(tray.id())).await;
        assert!(tray.quit().await.success());
    }

    /// A process and all that came of it.
    fn tree(process: u32) -> Vec<u32> {
        let mut all = vec![process];
        all.extend(children(process).into_iter().flat_map(tree));
        all
    }

    /// Resident, and with what is shared counted in parts.
    fn print_memory(table: &mut Table, what: &str, processes: &[u32], most: Option<f64>) {
        let (mut resident, mut proportional) = (0.0, 0.0);
        for process in processes {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            let field = |name: &str| -> f64 {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0) / 1024.0
            };
            resident += field("Rss:");
            proportional += field("Pss:");
        }
        table.line(&format!("{what} (proportional: {proportional:.0} MiB)"), resident, "MiB", most);
    }

    async fn cpu(table: &mut Table, what: &str, processes: &[u32]) {
        let (before, begun) = (used(processes), Instant::now());
        tokio::time::sleep(MEASURED).await;
        let share = 100.0 * (used(processes) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
        table.line(&format!("{what}: of one processor"), share, "%", None);
    }

    fn used(processes: &[u32]) -> Duration {
        let ticks = |process: &u32| -> u64 {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
            // User and system time, behind the state and ten others.
            [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
        };
        Duration::from_millis(processes.iter().map(ticks).sum::<u64>() * 10)
    }
}
