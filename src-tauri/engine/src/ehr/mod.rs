//! Watching EHRs that announce nothing.

pub(crate) mod board;
mod classify;
mod records;

pub use self::{
    board::{KindWatched, Listed, Swept, Watching},
    classify::{Chosen, Class, Classes, Content},
    records::{DocumentWatch, EncounterWatch, Fate, Handed, Life, Why},
};
