//! The views as tables: one picture of the engine in, what a person sees out.

mod menu;
mod precedence;
mod stage;
