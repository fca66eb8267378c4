//! The other agents: one control connection to each, and the way it runs.

pub mod machine;
pub mod path;
#[cfg(test)]
mod tests;
