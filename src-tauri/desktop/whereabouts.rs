//! Where this desk works, as far as that can be known: also without a configuration there is one tray, one door and a window that says
//! what is to be done.

use std::path::{Path, PathBuf};

use crate::{
    cli::place::{Place, PlaceError},
    config::{self, Config, ConfigError},
    view::desk::Opening,
};

#[derive(Debug)]
pub struct Whereabouts {
    /// Of the configuration, or the platform's own.
    pub data: PathBuf,
    /// The configuration, or what there is to say instead.
    pub place: Result<Place, Opening>,
}

impl Whereabouts {
    /// # Errors
    /// The account has no home, and nothing was named.
    pub fn find(named: Option<&Path>) -> Result<Self, PlaceError> {
        let file = named.map(Path::to_owned).or_else(Config::usual_place).ok_or(PlaceError::Homeless)?;
        match Place::find(Some(file.clone())) {
            Ok(place) => Ok(Self { data: place.data.clone(), place: Ok(place) }),
            Err(error) => {
                let data = config::data_directory().ok_or(PlaceError::Homeless)?;
                Ok(Self { data, place: Err(opening(error)) })
            }
        }
    }
}

fn opening(error: PlaceError) -> Opening {
    match error {
        PlaceError::Config(ConfigError::Missing(file)) => Opening::Welcome { file: file.display().to_string() },
        PlaceError::Config(ConfigError::Mistaken { file, mistakes }) => Opening::Mistakes {
            file: file.display().to_string(),
            mistakes: mistakes.iter().map(ToString::to_string).collect(),
        },
        other => Opening::NotRunning { sentence: other.to_string() },
    }
}

/// Why the relay does not run, in a line for the tray; `None` if it does.
pub fn trouble(opening: &Opening) -> Option<String> {
    match opening {
        Opening::Ready | Opening::Locked { .. } => None,
        Opening::Welcome { .. } => Some("Not set up yet. Open the window to see what to do.".to_owned()),
        Opening::Mistakes { mistakes, .. } => Some(match mistakes.len() {
            1 => "The configuration has a mistake. Open the window to see it.".to_owned(),
            count => format!("The configuration has {count} mistakes. Open the window to see them."),
        }),
        Opening::NotRunning { sentence } => Some(sentence.clone()),
    }
}
