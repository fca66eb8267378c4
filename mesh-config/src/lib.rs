//! Names, the mesh file, and the difference between two of them.

mod model;
mod name;

pub use model::{
    Address, AllowRule, Digest, Host, Listen, Mesh, MeshVersion, Node, Override, Protocol, Role, Service, Target,
    Transport,
};
pub use name::{GroupName, MAX_NAME, MeshName, NameError, NodeName, ServiceName};
