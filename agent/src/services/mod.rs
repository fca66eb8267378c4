//! Where applications meet the mesh: listeners on this node for what it reaches, targets for what it offers.

pub mod answered;
pub mod authz;
pub mod bench;
pub mod egress;
pub mod ingress;
pub mod live;
pub mod unsupported;
