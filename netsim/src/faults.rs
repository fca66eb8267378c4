//! Faults of a running network. Each lasts as long as its value.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crate::carrier::NoCarrier;
use crate::cut::Cut;
use crate::host::Host;
use crate::link::{add_address, add_route, delete_address, parse, wait_until_heard};
use crate::network::Network;
use crate::pump::Wire;
use crate::topology::{HostId, LinkId};
use crate::wire::conditions::Conditions;
use crate::wire::course::{Course, Phase};
use crate::wire::fabric::Place;
use crate::wire::nanos;
use crate::wire::router::Prefix;
use crate::{Answer, Error};

/// Of a loose contact.
const SHORTEST_TURN: Duration = Duration::from_millis(1);

/// A fault. It is over when this is dropped; others go on.
#[derive(Debug)]
#[must_use = "the fault is over when this is dropped"]
pub struct Fault {
    wire: Arc<Wire>,
    number: u64,
    /// It is given back after the wire's part has ended.
    carrier: Option<NoCarrier>,
}

impl Fault {
    /// Ends the fault, as dropping it does, and tells whether that went well.
    ///
    /// # Errors
    /// When the wire has ended, or the kernel does not give a carrier back.
    pub fn heal(mut self) -> Result<(), Error> {
        let ended = self.end();
        ended.and(self.carrier.take().map_or(Ok(()), NoCarrier::end))
    }

    fn end(&self) -> Result<(), Error> {
        let number = self.number;
        self.wire.with(move |pump, _| pump.fabric.end(number))
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // A wire that has ended has no faults.
        let _ = self.end();
    }
}

impl Network {
    /// Cuts hosts off from one another.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn cut(&self, cut: &Cut) -> Result<Fault, Error> {
        self.begin(Place::Pairs(cut.pairs()), cut.course())
    }

    /// Pulls a cable: nothing at all passes, and the hosts at its ends have no carrier.
    ///
    /// # Errors
    /// When the kernel does not take the carrier, or the wire has ended.
    pub fn unplug(&self, link: LinkId) -> Result<Fault, Error> {
        let mut fault = self.begin(both(link), Course::constant(Phase::Cut(Answer::Silence)))?;
        fault.carrier = Some(NoCarrier::lasting(self.carriers(link))?);
        Ok(fault)
    }

    /// A cable with a loose contact: it is unplugged for `down`, then whole for `up`, and so on; for a millisecond each at
    /// least.
    ///
    /// # Errors
    /// When the kernel does not take the carrier, or the wire has ended.
    pub fn flap(&self, link: LinkId, down: Duration, up: Duration) -> Result<Fault, Error> {
        let [down, up] = [down, up].map(|turn| turn.max(SHORTEST_TURN));
        let cut = Phase::Cut(Answer::Silence);
        let mut fault = self.begin(both(link), Course::alternating((nanos(down), cut), (nanos(up), Phase::Fine)))?;
        fault.carrier = Some(NoCarrier::in_turns(self.carriers(link), down, up)?);
        Ok(fault)
    }

    /// Puts a link under other conditions, both ways.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn degrade(&self, link: LinkId, conditions: Conditions) -> Result<Fault, Error> {
        self.begin(both(link), Course::constant(Phase::Other(Arc::new(conditions))))
    }

    /// Puts the way that leads to a device along a link under other conditions: the one at the link's first end if
    /// `to_first`, otherwise that at its second.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn degrade_way(&self, link: LinkId, to_first: bool, conditions: Conditions) -> Result<Fault, Error> {
        let place = Place::Ways(vec![(link.0, usize::from(to_first))]);
        self.begin(place, Course::constant(Phase::Other(Arc::new(conditions))))
    }

    /// All links of a host are under these conditions for so long, and dead then: a machine that fails slowly.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn slow_then_dead(&self, host: HostId, slow: Conditions, lasts: Duration) -> Result<Fault, Error> {
        let links = self.topology().links.iter().enumerate();
        let own = links.filter(|(_, link)| link.ends.iter().any(|end| end.device == host.0));
        let ways = own.flat_map(|(number, _)| [(number, 0), (number, 1)]).collect();
        let course = Course::then(Phase::Other(Arc::new(slow)), nanos(lasts), Phase::Cut(Answer::Silence));
        self.begin(Place::Ways(ways), course)
    }

    /// Holds all packets where they are, as if time stood still on all links, until the value is dropped. Until then
    /// every other call that is about the wire waits, so that the thread that holds it must not make one.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn hold(&self) -> Result<Held, Error> {
        let (release, released) = sync_channel::<()>(0);
        let (tell, held) = sync_channel(1);
        self.wire.ask(move || {
            // Whoever asked waits for it; and the end of the value ends the wait.
            let _ = tell.send(());
            let _ = released.recv();
        })?;
        held.recv().map_err(|_| Error::Wire)?;
        Ok(Held { _release: release, _wire: self.wire.clone() })
    }

    /// Gives a host's interface other addresses than it has. Connections from and to the old ones stall.
    ///
    /// # Errors
    /// When an address does not parse, or the host has no such interface.
    pub fn readdress(&self, host: HostId, interface: &str, addresses: &[&str]) -> Result<Readdressed, Error> {
        let new = addresses.iter().map(|text| {
            let (ip, bits) = parse(text).ok_or_else(|| Error::Address((*text).to_owned()))?;
            Ok(Prefix { ip, bits })
        });
        let new = new.collect::<Result<Vec<_>, Error>>()?;
        let host = self.host(host).clone();
        let port = host.ports().iter().find(|port| port.interface == interface);
        let old = port.ok_or_else(|| Error::Interface(interface.to_owned()))?.addresses.clone();
        // From here on a failure gives the old addresses back.
        let changed = Readdressed { host, interface: interface.to_owned(), old, new };
        changed.exchange(&changed.old, &changed.new)?;
        Ok(changed)
    }

    /// Has a name stand for these addresses alone on some hosts, as after a change in the DNS: for programs that ask the
    /// system, which looks into `/etc/hosts`.
    ///
    /// # Errors
    /// When the machine has no `/etc/hosts` in whose place one could be.
    pub fn rename(&self, hosts: &[HostId], name: &str, addresses: &[IpAddr]) -> Result<Renamed, Error> {
        let mut renamed = Renamed { changes: Vec::new() };
        for host in hosts {
            let host = self.host(*host).clone();
            let number = host.rename(name, addresses).map_err(Error::kernel(format!("rename {name}")))?;
            renamed.changes.push((host, number));
        }
        Ok(renamed)
    }

    fn begin(&self, place: Place, course: Course) -> Result<Fault, Error> {
        let number = self.wire.with(move |pump, now| pump.fabric.begin(place, course, now))?;
        Ok(Fault { wire: self.wire.clone(), number, carrier: None })
    }
}

fn both(link: LinkId) -> Place {
    Place::Ways(vec![(link.0, 0), (link.0, 1)])
}

/// A wire that is held.
#[derive(Debug)]
#[must_use = "packets move on when this is dropped"]
pub struct Held {
    /// Its end is what the wire waits for.
    _release: SyncSender<()>,
    /// Ends after that, for its end waits for all that was asked of it.
    _wire: Arc<Wire>,
}

/// A name that stands for other addresses. It is as it was when this is dropped.
#[derive(Debug)]
#[must_use = "the name is as it was when this is dropped"]
pub struct Renamed {
    changes: Vec<(Host, u64)>,
}

impl Drop for Renamed {
    fn drop(&mut self) {
        for (host, number) in &self.changes {
            // What could be written before can be written again.
            let _ = host.rename_back(*number);
        }
    }
}

/// A host whose interface has other addresses. It gets its own ones back when this is dropped.
#[derive(Debug)]
#[must_use = "the addresses come back when this is dropped"]
pub struct Readdressed {
    host: Host,
    interface: String,
    old: Vec<Prefix>,
    new: Vec<Prefix>,
}

impl Readdressed {
    /// The address that the interface has now.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.new.first().map(|prefix| prefix.ip)
    }

    fn exchange(&self, from: &[Prefix], to: &[Prefix]) -> Result<(), Error> {
        self.host.run(|| {
            // What is not there any more was taken away by a program.
            from.iter().for_each(|prefix| drop(delete_address(&self.interface, prefix.ip, prefix.bits)));
            to.iter().try_for_each(|prefix| add_address(&self.interface, prefix.ip, prefix.bits))?;
            // Routes have gone with the last address of their network; those that led through another are there.
            self.host.routes().iter().for_each(|&(to, gateway)| drop(add_route(to.ip, to.bits, gateway)));
            to.iter().try_for_each(|prefix| wait_until_heard(&self.interface, prefix.ip))
        })?
    }
}

impl Drop for Readdressed {
    fn drop(&mut self) {
        // The host may have ended.
        let _ = self.exchange(&self.new, &self.old);
    }
}
