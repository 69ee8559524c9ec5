//! The icon of each state: shape first, colour second. One set for dark panels, one for light ones, and one without colour for macOS, which
//! colours it itself. Each picture is named in full: `include_image!` takes nothing but a literal.

use tauri::{image::Image, include_image};

use crate::view::desk::State;

/// macOS takes the shape and colours it.
#[cfg(target_os = "macos")]
pub fn of(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/template/needs-attention-44.png"),
        State::CannotReach => include_image!("./icons/tray/template/cannot-reach-44.png"),
        State::NoNews => include_image!("./icons/tray/template/no-news-44.png"),
        State::Paused => include_image!("./icons/tray/template/paused-44.png"),
        State::Working => include_image!("./icons/tray/template/working-44.png"),
        State::Starting => include_image!("./icons/tray/template/starting-44.png"),
        State::UpToDate => include_image!("./icons/tray/template/up-to-date-44.png"),
    }
}

/// Linux does not say whether its panel is dark; those of GNOME and Ubuntu, the most common ones, always are.
#[cfg(target_os = "linux")]
pub fn of(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/dark/needs-attention-24.png"),
        State::CannotReach => include_image!("./icons/tray/dark/cannot-reach-24.png"),
        State::NoNews => include_image!("./icons/tray/dark/no-news-24.png"),
        State::Paused => include_image!("./icons/tray/dark/paused-24.png"),
        State::Working => include_image!("./icons/tray/dark/working-24.png"),
        State::Starting => include_image!("./icons/tray/dark/starting-24.png"),
        State::UpToDate => include_image!("./icons/tray/dark/up-to-date-24.png"),
    }
}

/// Windows has a theme and a scale, and both may change while we run.
#[cfg(windows)]
pub fn of(state: State, look: Look) -> Image<'static> {
    match (look.light, look.size) {
        (false, 16) => dark_16(state),
        (false, 20) => dark_20(state),
        (false, 24) => dark_24(state),
        (false, _) => dark_32(state),
        (true, 16) => light_16(state),
        (true, 20) => light_20(state),
        (true, 24) => light_24(state),
        (true, _) => light_32(state),
    }
}

#[cfg(windows)]
fn dark_16(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/dark/needs-attention-16.png"),
        State::CannotReach => include_image!("./icons/tray/dark/cannot-reach-16.png"),
        State::NoNews => include_image!("./icons/tray/dark/no-news-16.png"),
        State::Paused => include_image!("./icons/tray/dark/paused-16.png"),
        State::Working => include_image!("./icons/tray/dark/working-16.png"),
        State::Starting => include_image!("./icons/tray/dark/starting-16.png"),
        State::UpToDate => include_image!("./icons/tray/dark/up-to-date-16.png"),
    }
}

#[cfg(windows)]
fn dark_20(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/dark/needs-attention-20.png"),
        State::CannotReach => include_image!("./icons/tray/dark/cannot-reach-20.png"),
        State::NoNews => include_image!("./icons/tray/dark/no-news-20.png"),
        State::Paused => include_image!("./icons/tray/dark/paused-20.png"),
        State::Working => include_image!("./icons/tray/dark/working-20.png"),
        State::Starting => include_image!("./icons/tray/dark/starting-20.png"),
        State::UpToDate => include_image!("./icons/tray/dark/up-to-date-20.png"),
    }
}

#[cfg(windows)]
fn dark_24(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/dark/needs-attention-24.png"),
        State::CannotReach => include_image!("./icons/tray/dark/cannot-reach-24.png"),
        State::NoNews => include_image!("./icons/tray/dark/no-news-24.png"),
        State::Paused => include_image!("./icons/tray/dark/paused-24.png"),
        State::Working => include_image!("./icons/tray/dark/working-24.png"),
        State::Starting => include_image!("./icons/tray/dark/starting-24.png"),
        State::UpToDate => include_image!("./icons/tray/dark/up-to-date-24.png"),
    }
}

#[cfg(windows)]
fn dark_32(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/dark/needs-attention-32.png"),
        State::CannotReach => include_image!("./icons/tray/dark/cannot-reach-32.png"),
        State::NoNews => include_image!("./icons/tray/dark/no-news-32.png"),
        State::Paused => include_image!("./icons/tray/dark/paused-32.png"),
        State::Working => include_image!("./icons/tray/dark/working-32.png"),
        State::Starting => include_image!("./icons/tray/dark/starting-32.png"),
        State::UpToDate => include_image!("./icons/tray/dark/up-to-date-32.png"),
    }
}

#[cfg(windows)]
fn light_16(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/light/needs-attention-16.png"),
        State::CannotReach => include_image!("./icons/tray/light/cannot-reach-16.png"),
        State::NoNews => include_image!("./icons/tray/light/no-news-16.png"),
        State::Paused => include_image!("./icons/tray/light/paused-16.png"),
        State::Working => include_image!("./icons/tray/light/working-16.png"),
        State::Starting => include_image!("./icons/tray/light/starting-16.png"),
        State::UpToDate => include_image!("./icons/tray/light/up-to-date-16.png"),
    }
}

#[cfg(windows)]
fn light_20(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/light/needs-attention-20.png"),
        State::CannotReach => include_image!("./icons/tray/light/cannot-reach-20.png"),
        State::NoNews => include_image!("./icons/tray/light/no-news-20.png"),
        State::Paused => include_image!("./icons/tray/light/paused-20.png"),
        State::Working => include_image!("./icons/tray/light/working-20.png"),
        State::Starting => include_image!("./icons/tray/light/starting-20.png"),
        State::UpToDate => include_image!("./icons/tray/light/up-to-date-20.png"),
    }
}

#[cfg(windows)]
fn light_24(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/light/needs-attention-24.png"),
        State::CannotReach => include_image!("./icons/tray/light/cannot-reach-24.png"),
        State::NoNews => include_image!("./icons/tray/light/no-news-24.png"),
        State::Paused => include_image!("./icons/tray/light/paused-24.png"),
        State::Working => include_image!("./icons/tray/light/working-24.png"),
        State::Starting => include_image!("./icons/tray/light/starting-24.png"),
        State::UpToDate => include_image!("./icons/tray/light/up-to-date-24.png"),
    }
}

#[cfg(windows)]
fn light_32(state: State) -> Image<'static> {
    match state {
        State::NeedsAttention => include_image!("./icons/tray/light/needs-attention-32.png"),
        State::CannotReach => include_image!("./icons/tray/light/cannot-reach-32.png"),
        State::NoNews => include_image!("./icons/tray/light/no-news-32.png"),
        State::Paused => include_image!("./icons/tray/light/paused-32.png"),
        State::Working => include_image!("./icons/tray/light/working-32.png"),
        State::Starting => include_image!("./icons/tray/light/starting-32.png"),
        State::UpToDate => include_image!("./icons/tray/light/up-to-date-32.png"),
    }
}

/// What the icon stands on, under Windows.
#[cfg(windows)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    light: bool,
    size: u32,
}

#[cfg(windows)]
impl Look {
    /// Asks the system. Not run on Windows so far.
    pub fn now(scale: f64) -> Self {
        use std::os::windows::process::CommandExt as _;

        const KEY: &str = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Themes\Personalize";
        let asked = std::process::Command::new("reg")
            .args(["query", KEY, "/v", "SystemUsesLightTheme"])
            .creation_flags(super::CREATE_NO_WINDOW)
            .output();
        let light = asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("0x1"));
        let size = match scale {
            scale if scale < 1.25 => 16,
            scale if scale < 1.5 => 20,
            scale if scale < 2.0 => 24,
            _ => 32,
        };
        Self { light, size }
    }
}
