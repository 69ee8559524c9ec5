//! Synthetic clinic data.
