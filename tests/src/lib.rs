//! The harness of the black-box tests: real `adit` processes, real sockets, and load that can tell right bytes from
//! wrong ones. It knows the command line contract and nothing of the agent's inside.
//!
//! ```text
//!   suite    names → trials; skips, logs of what failed, "no log may say panicked"
//!     │
//!   mesh     directories by `adit init --bundle`, a mesh file, hosts on loopback or in network namespaces
//!     │
//!   agent    one `adit run` process: start, ask, kill, restart, weigh
//!     │
//!   changes  meshes that are changed under load, killed, cut in two: a few times or for hours
//!     │
//!   load     servers and clients whose content is checked      hostile   peers that deserve no link
//!                                                              quic      a QUIC client by hand, for the same
//!                                                              member    a lane of a member by hand
//!                                                              documents signed mesh documents, and a member that hands on lies
//!                                                              etcd, web  real servers that documents come from
//! ```

pub mod addresses;
pub mod agent;
pub mod binary;
pub mod calm;
pub mod changes;
pub mod dice;
pub mod documents;
pub mod etcd;
pub mod hostile;
pub mod layer;
pub mod load;
pub mod member;
pub mod mesh;
pub mod pki;
pub mod place;
pub mod quic;
pub mod scratch;
pub mod suite;
pub mod trend;
pub mod usage;
pub mod wait;
pub mod web;

pub use agent::Agent;
pub use calm::Calm;
pub use mesh::{Mesh, Service};
pub use place::Place;
pub use wait::eventually;
