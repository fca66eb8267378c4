//! Who may sign mesh documents.

use std::time::Duration;

use mesh_config::NodeName;
use mesh_config::published::Generation;
use time::OffsetDateTime;

use crate::authority::{Authority, Issued, Source, life};
use crate::csr::PublicKey;
use crate::error::Error;
use crate::profile;

impl Authority {
    /// Certifies that the owner of `key`, a person or a node, may sign mesh documents of `generation`, and can be no
    /// peer by that. The root signs if its key is on this host. The intermediate can in the first generation alone, so
    /// that whoever steals its key cannot open the next one.
    ///
    /// It is valid for `validity` ([`profile::PUBLISHER_LIFE`] if not given) from `now`, but never longer than its
    /// issuer, and recorded, on the disk, before it is given out.
    ///
    /// # Errors
    /// Those of [`Authority::issue`]; [`Error::NoKey`] names the root's key if only that will do.
    pub fn delegate(
        &mut self,
        name: &NodeName,
        key: &PublicKey,
        generation: Generation,
        validity: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Issued, Error> {
        let root = self.root_key()?;
        let source = match &root {
            Some(key) => Source::Root(key),
            None if generation == Generation::FIRST => Source::Intermediate,
            None => return Err(Error::NoKey(self.root_key_path())),
        };
        let life = validity.map_or(profile::PUBLISHER_LIFE, life);
        self.certify(source, name, key, life, now, |mesh, serial, window| {
            profile::publisher(mesh, name, generation, serial, window)
        })
    }
}
