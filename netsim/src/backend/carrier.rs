//! The carrier of a host's interface: what its kernel knows of whether a cable is plugged in.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::dropped_sending;
use crate::Error;
use crate::link::{set_interface_up, wait_until_running};
use crate::namespace::Namespace;

// <linux/if_tun.h>
const TUNSETCARRIER: Opcode = opcode::write::<i32>(b'T', 226);

/// The carrier of one interface. It is there unless somebody has taken it; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    host: Namespace,
    interface: String,
    switch: Switch,
    state: Mutex<State>,
}

/// What the carrier comes from.
#[derive(Debug)]
pub(super) enum Switch {
    /// The TAP device says so. It must not live longer for this.
    Device(Weak<OwnedFd>),
    /// The far end of a cable is up.
    FarEnd { hub: Namespace, interface: String },
}

#[derive(Debug, Default)]
struct State {
    /// How many have taken it.
    takers: u32,
    /// What the host had dropped when the first of them took it.
    before: u64,
    /// What the host has dropped because it had no carrier: no shortcoming of the wire.
    excused: u64,
}

impl Carrier {
    pub(super) fn new(host: Namespace, interface: String, switch: Switch) -> Self {
        Self { inner: Arc::new(Inner { host, interface, switch, state: Mutex::default() }) }
    }

    /// Takes it away. Each call wants one of [`Carrier::give_back`].
    pub(crate) fn take(&self) -> Result<(), Error> {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.takers == 0 {
            state.before = self.inner.dropped()?;
            self.inner.set(false)?;
        }
        state.takers += 1;
        Ok(())
    }

    /// Gives it back. It is there as soon as all who took it have done so.
    pub(crate) fn give_back(&self) -> Result<(), Error> {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.takers = state.takers.saturating_sub(1);
        if state.takers > 0 {
            return Ok(());
        }
        // A worker of the kernel lets packets pass again.
        let running = || self.inner.host.run(|| wait_until_running(&self.inner.interface))?;
        let back = self.inner.set(true).and_then(|()| running());
        // Whatever came of it: until now it was away.
        let dropped = self.inner.dropped().unwrap_or(state.before);
        state.excused += dropped.saturating_sub(state.before);
        back
    }

    /// How much the host has dropped so far for want of it.
    pub(crate) fn excused(&self) -> Result<u64, Error> {
        let state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = if state.takers == 0 { 0 } else { self.inner.dropped()?.saturating_sub(state.before) };
        Ok(state.excused + now)
    }
}

impl Inner {
    fn dropped(&self) -> Result<u64, Error> {
        dropped_sending(&self.host, &self.interface)
    }

    fn set(&self, there: bool) -> Result<(), Error> {
        match &self.switch {
            Switch::Device(device) => {
                // A device that is gone has no carrier, and nobody who would look for it.
                let Some(device) = device.upgrade() else { return Ok(()) };
                let wrong = Error::kernel(format!("set the carrier of {}", self.interface));
                set_carrier(&device, there).map_err(wrong)
            }
            Switch::FarEnd { hub, interface } => hub.run(|| set_interface_up(interface, there))?,
        }
    }
}

fn set_carrier(device: &OwnedFd, there: bool) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no call of its own for this ioctl")]
    // SAFETY: TUNSETCARRIER reads one `int`.
    unsafe {
        ioctl(device, Setter::<TUNSETCARRIER, i32>::new(i32::from(there))).map_err(Into::into)
    }
}
