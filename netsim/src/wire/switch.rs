//! An Ethernet switch: it learns which address is behind which port.

use std::collections::HashMap;

use super::packet::{self, Mac};

/// Addresses that a switch remembers; one that knows no more sends to all ports.
const MOST_ADDRESSES: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct Switch {
    behind: HashMap<Mac, usize>,
}

/// Which way a frame goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Nowhere,
    Port(usize),
    /// Out of every port but the one through which it came.
    Everywhere,
}

impl Switch {
    pub(crate) fn forward(&mut self, from: usize, frame: &[u8]) -> Way {
        let (Some(source), Some(destination)) = (packet::source(frame), packet::destination(frame)) else {
            return Way::Nowhere;
        };
        if source[0] & 1 == 0 && (self.behind.len() < MOST_ADDRESSES || self.behind.contains_key(&source)) {
            self.behind.insert(source, from);
        }
        match self.behind.get(&destination) {
            Some(&port) if port == from => Way::Nowhere,
            Some(&port) => Way::Port(port),
            None => Way::Everywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_learns_where_addresses_are_and_floods_what_it_does_not_know() {
        let frame = |from: u8, to: u8| [[2, 0, 0, 0, 0, to], [2, 0, 0, 0, 0, from]].concat();
        let group = |from: u8| [[0xff; 6], [2, 0, 0, 0, 0, from]].concat();
        let mut switch = Switch::default();
        for (port, frame, way) in [
            (0, frame(1, 2), Way::Everywhere),
            (1, frame(2, 1), Way::Port(0)),
            (0, frame(1, 2), Way::Port(1)),
            (0, group(1), Way::Everywhere),
            (0, frame(3, 1), Way::Nowhere),
            (2, frame(1, 2), Way::Port(1)),
            (1, frame(2, 1), Way::Port(2)),
            (0, vec![0; 11], Way::Nowhere),
        ] {
            assert_eq!(switch.forward(port, &frame), way, "{port} {frame:?}");
        }
    }
}
