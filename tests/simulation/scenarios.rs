//! Single situations that random worlds meet too seldom, or cannot judge.
