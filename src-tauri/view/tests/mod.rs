//! The views as tables: one picture of the engine in, what a person sees out.

mod both_sides;
mod lists;
mod menu;
mod notices;
mod picture;
mod precedence;
mod stage;
mod stations;
mod watching;
