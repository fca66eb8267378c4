//! Whether a plain, unsigned mesh file may take the place of the running one.

use crate::model::{Mesh, MeshVersion};
use crate::name::MeshName;

/// How a document that may be applied relates to the running one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// The same bytes: there is nothing to do.
    Same,
    /// A higher version.
    Newer,
    /// The same version with other content. It is applied, with a warning: on other hosts the same number may mean
    /// something else.
    ChangedWithoutVersion,
}

/// Why a document may not take the place of the running one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionRefused {
    /// Its version is lower.
    #[error("version {new} is lower than version {running}, which is running: raise it above {running}")]
    Lower {
        /// The running version.
        running: MeshVersion,
        /// The version that was offered.
        new: MeshVersion,
    },
    /// It describes another mesh.
    #[error("the document is of mesh `{new}`, and mesh `{running}` is running")]
    OtherMesh {
        /// The running mesh.
        running: MeshName,
        /// The mesh that was offered.
        new: MeshName,
    },
}

/// Whether `new` may take the place of `running`: versions only ever grow.
///
/// # Errors
/// [`VersionRefused`] names both versions, or both meshes.
pub fn version_follows(running: &Mesh, new: &Mesh) -> Result<Succession, VersionRefused> {
    if running.name != new.name {
        return Err(VersionRefused::OtherMesh { running: running.name.clone(), new: new.name.clone() });
    }
    match new.version.cmp(&running.version) {
        std::cmp::Ordering::Less => Err(VersionRefused::Lower { running: running.version, new: new.version }),
        std::cmp::Ordering::Greater => Ok(Succession::Newer),
        std::cmp::Ordering::Equal if new.digest == running.digest => Ok(Succession::Same),
        std::cmp::Ordering::Equal => Ok(Succession::ChangedWithoutVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(name: &str, version: u64, extra: &str) -> Mesh {
        let text = format!("{extra}[mesh]\nname = \"{name}\"\nversion = {version}\n[node.alpha]\n");
        Mesh::check(&text, "mesh.toml").unwrap().mesh
    }

    #[test]
    fn versions_only_ever_grow() {
        let running = mesh("lab", 12, "");
        assert_eq!(version_follows(&running, &mesh("lab", 12, "")), Ok(Succession::Same));
        assert_eq!(version_follows(&running, &mesh("lab", 13, "")), Ok(Succession::Newer));
        assert_eq!(version_follows(&running, &mesh("lab", 12, "# other\n")), Ok(Succession::ChangedWithoutVersion));
        assert_eq!(
            version_follows(&running, &mesh("lab", 11, "")).unwrap_err().to_string(),
            "version 11 is lower than version 12, which is running: raise it above 12"
        );
        assert_eq!(
            version_follows(&running, &mesh("dev", 13, "")).unwrap_err().to_string(),
            "the document is of mesh `dev`, and mesh `lab` is running"
        );
    }
}
