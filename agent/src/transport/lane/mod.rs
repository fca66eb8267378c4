//! Lanes: TLS connections that carry one application stream at a time, made ahead of need and used again.

mod event;
pub mod link;
pub mod machine;
mod receive;
#[cfg(test)]
mod tests;
pub mod violation;
