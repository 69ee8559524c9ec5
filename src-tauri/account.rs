//! The account of the operating system that is signed in: the person, as the audit log names them.

/// As the system itself knows it, not as a variable claims. `None` where it cannot say.
pub fn name() -> Option<String> {
    whoami::username().ok().filter(|name| !name.trim().is_empty())
}
