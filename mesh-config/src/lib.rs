//! Names, the mesh file, and the difference between two of them.
//!
//! The mesh file is the shared TOML document that says which hosts belong to a mesh, which services they offer and who
//! may reach them. This crate turns its text into values that hold together, or into every reason why it does not:
//!
//! ```text
//!   file ──load──▶ text ──document──▶ spanned TOML ──raw──▶ right shapes ──check──▶ Mesh ──diff──▶ Diff, NodeDiff
//!                    │                     │                     │            │       │
//!                    └─────────────────────┴──────── problems ───┴────────────┘       └──write──▶ text
//! ```
//!
//! Every stage notes what it finds at its place and goes on, so that a person sees all [`Problem`]s of a file at once. A
//! [`Mesh`] comes out only if none of them is an error, so whoever holds one need not check anything again.
//!
//! The crate knows no clock, no network and no runtime, and touches the file system in [`load()`] and [`read_text`] alone.
//! Documents are hostile until checked: size, nesting, groups within groups, comparisons and the number of problems are
//! all bounded, and nothing of a document reaches a terminal unescaped. The reader in [`document`] is for any TOML
//! document, and the agent's own file is read by it too.
//!
//! ```
//! use mesh_config::{Diff, Mesh, NodeName};
//!
//! let text = r#"
//! [mesh]
//! name = "lab"
//! version = 1
//! [node.alpha]
//! address = "10.0.0.1:7443"
//! [node.beta]
//! [service.web]
//! on = ["alpha"]
//! target = "127.0.0.1:80"
//! listen = "127.0.0.1:8080"
//! allow = ["beta"]
//! "#;
//! let mesh = Mesh::check(text, "mesh.toml").expect("it holds together").mesh;
//! let beta = NodeName::new("beta")?;
//! let web = mesh.service("web").expect("it is there");
//! assert_eq!(web.listen_at(&beta).map(|l| l.to_string()).as_deref(), Some("127.0.0.1:8080"));
//! assert!(mesh.peers_of(&beta)["alpha"].reaches);
//!
//! let problems = Mesh::check(&text.replace("\"alpha\"]", "\"alhpa\"]"), "mesh.toml").unwrap_err();
//! assert_eq!(
//!     problems[0].to_string(),
//!     "mesh.toml:9:7: error: there is no node `alhpa`\n  |\n9 | on = [\"alhpa\"]\n  |       ^^^^^^^\n  \
//!      help: did you mean `alpha`?"
//! );
//!
//! let next = Mesh::check(&text.replace("version = 1", "version = 2").replace("allow = [\"beta\"]", ""), "mesh.toml");
//! let diff = Diff::between(&mesh, &next.expect("closed is fine").mesh);
//! assert_eq!(diff.to_string(), "version: 1 → 2\nservice web: may no more be reached by: beta\n");
//! # Ok::<(), mesh_config::NameError>(())
//! ```

mod address;
mod check;
mod diagnostic;
mod diff;
pub mod document;
mod duration;
mod edit;
mod fault;
pub mod gossip;
mod groups;
mod listeners;
mod load;
mod model;
mod name;
mod peers;
pub mod published;
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
pub use edit::{Editor, NewService};
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
