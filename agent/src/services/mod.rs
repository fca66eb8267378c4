//! Where applications meet the mesh: listeners on this node for what it reaches, targets for what it offers.

pub mod bench;
pub mod table;
