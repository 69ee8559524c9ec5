//! The window's lock and its PIN.

use super::{Client, Problem};
use crate::desktop::pin;

impl Client {
    /// # Errors
    /// The window is locked.
    pub fn unlocked(&self) -> Result<(), Problem> {
        if self.state().lock.is_locked() {
            return Err(Problem::new("The window is locked. Unlock it first; nothing was done."));
        }
        Ok(())
    }

    pub fn lock(&self) {
        self.state().lock.lock();
    }

    pub fn active(&self) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        let after = state.settings.lock_after;
        state.lock.active(now, after);
    }

    /// True if nobody was there for so long that it locked just now.
    pub fn lock_if_idle(&self) -> bool {
        let now = self.clock.elapsed();
        let mut state = self.state();
        let after = state.settings.lock_after;
        state.lock.lock_if_idle(now, after)
    }

    pub(super) fn has_pin(&self) -> bool {
        let data = self.state().data.clone();
        data.is_some_and(|data| pin::is_set(&data))
    }

    /// False if the PIN is wrong.
    pub async fn unlock(&self, typed: String) -> Result<bool, Problem> {
        if let Err(wait) = self.state().lock.may_try(self.clock.elapsed()) {
            let wait = wait.as_secs() + 1;
            return Err(Problem::new(format!("That was wrong too often. Wait {wait} s and try again.")));
        }
        let right = !self.has_pin() || self.is_pin(typed).await?;
        self.state().lock.tried(right, self.clock.elapsed());
        self.at_once.notify_one();
        Ok(right)
    }

    async fn is_pin(&self, typed: String) -> Result<bool, Problem> {
        let unreadable = |error: &dyn std::fmt::Display| Problem::new(format!("The PIN cannot be checked: {error}."));
        let Some(place) = self.look().and_then(|found| found.place.ok()) else {
            return Err(unreadable(&"the configuration cannot be read"));
        };
        let secrets = place.secrets(true).map_err(|error| unreadable(&error))?;
        match pin::read(&*secrets).await.map_err(|error| unreadable(&error))? {
            // It was deleted where it is kept.
            None => Ok(true),
            // It is slow on purpose.
            Some(kept) => Ok(tokio::task::spawn_blocking(move || kept.fits(&typed)).await.unwrap_or(false)),
        }
    }
}
