//! Names, the mesh file, and the difference between two of them.

mod address;
mod check;
mod diagnostic;
mod diff;
pub mod document;
mod duration;
mod fault;
mod groups;
mod listeners;
mod load;
mod model;
mod name;
mod peers;
mod raw;
mod scan;
mod source;
mod suggest;
mod version;
mod view;
mod write;

pub use address::parse_listener;
pub use check::Checked;
pub use diagnostic::{Problem, Severity, Snippet, quote};
pub use diff::{Change, Diff, NodeChange, PermitChange, ServiceChange};
pub use fault::Fault;
pub use load::{MAX_FILE, decode, load, read_text};
pub use model::{
    Address, AllowRule, Digest, Host, Listen, Mesh, MeshVersion, Node, Override, Protocol, Role, Service, Target,
    Transport,
};
pub use name::{GroupName, MAX_NAME, MeshName, NameError, NodeName, ServiceName};
pub use peers::Business;
pub use version::{Succession, VersionRefused, version_follows};
pub use view::{Listener, NodeDiff};
pub use write::template;
