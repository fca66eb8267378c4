//! What is said and heard on the control channels, in pieces and in whole.

use mesh_config::gossip::{MAX_DOCUMENT, Message};
use mesh_config::{Digest, NodeName};

use super::neighbours::{Linked, Neighbours};
use super::refuse;
use super::transfer::{Fetch, Serving, Taken};
use crate::identity::published::Refused;
use crate::peers::control::{Order, Said};
use crate::transport::message::{Frame, Gossip as Words};

impl Neighbours {
    /// Follows which peers are linked, and over which connection.
    pub(super) fn relink(&mut self) {
        let lines = self.host.gossip.all();
        let snapshot = self.host.snapshot.load_full();
        let is_member = |peer: &NodeName| snapshot.mesh.node(peer.as_str()).is_some();
        self.linked.retain(|peer, linked| {
            let stays = lines.get(peer) == Some(&linked.line);
            match (stays, is_member(peer)) {
                (true, _) => {}
                (false, true) => self.gossip.disconnected(peer),
                (false, false) => self.gossip.forget(peer),
            }
            stays
        });
        let now = self.now();
        for (peer, line) in lines {
            if self.linked.contains_key(&peer) {
                continue;
            }
            self.gossip.connected(&peer, now);
            let early = self.early.remove(&peer).filter(|(channel, _)| *channel == line.channel);
            let offers = early.map(|(_, ranks)| ranks).unwrap_or_default();
            self.gossip.received(&peer, Message::Summary(offers.clone()), now);
            self.linked.insert(peer, Linked { line, offers, fetch: None, serving: None });
        }
        self.early.retain(|peer, _| is_member(peer));
    }

    pub(super) fn send(&mut self, to: &NodeName, message: Message) {
        let Some(linked) = self.linked.get_mut(to) else { return };
        let words = match message {
            Message::Summary(ranks) => vec![Words::Summary(ranks)],
            Message::Ask(id) => {
                linked.fetch = Some(Fetch::new(id));
                vec![Words::Ask { id, offset: 0 }]
            }
            Message::Hand { id, document: None } => vec![Words::Hand { id, total: 0, offset: 0, piece: Vec::new() }],
            Message::Hand { id, document: Some(document) } => {
                linked.serving.insert(Serving::new(id, document)).window()
            }
        };
        self.say(to, words);
    }

    pub(super) fn say(&mut self, to: &NodeName, words: Vec<Words>) {
        let Some(linked) = self.linked.get(to) else { return };
        let mut frames = Vec::new();
        words.into_iter().for_each(|words| Frame::Gossip(words).encode(&mut frames));
        if linked.line.orders.try_send(Order::Say(frames)).is_err() {
            // A channel too busy to take it has lost it.
            self.busy.insert(to.clone());
        }
    }

    pub(super) fn hear(&mut self, Said { peer, channel, gossip }: Said) {
        if self.linked.get(&peer).is_none_or(|linked| linked.line.channel != channel) {
            // It may have come up just now.
            self.relink();
        }
        let now = self.now();
        let Some(linked) = self.linked.get_mut(&peer).filter(|linked| linked.line.channel == channel) else {
            if let Words::Summary(ranks) = gossip {
                self.early.insert(peer, (channel, ranks));
            }
            return;
        };
        match gossip {
            Words::Summary(ranks) => {
                linked.offers.clone_from(&ranks);
                self.gossip.received(&peer, Message::Summary(ranks), now);
            }
            Words::Ask { id, offset: 0 } => self.gossip.received(&peer, Message::Ask(id), now),
            Words::Ask { id, offset } => {
                if let Some(serving) = linked.serving.as_mut().filter(|serving| serving.is_next(id, offset)) {
                    let words = serving.window();
                    self.say(&peer, words);
                }
            }
            Words::Hand { id, total, offset, piece } => self.handed(&peer, id, (total, offset, &piece)),
        }
    }

    pub(super) fn handed(&mut self, peer: &NodeName, id: Digest, (total, offset, piece): (u64, u64, &[u8])) {
        let now = self.now();
        let nothing = Message::Hand { id, document: None };
        let Some(linked) = self.linked.get_mut(peer) else { return };
        let asked = linked.fetch.as_mut().filter(|fetch| fetch.id() == id);
        let (Some(fetch), true) = (asked, total > 0) else {
            // The sender has it no more, or nobody has asked.
            linked.fetch = None;
            return self.gossip.received(peer, nothing, now);
        };
        let length = usize::try_from(total).unwrap_or(usize::MAX);
        if !self.gossip.expects(peer, id, length) {
            linked.fetch = None;
            if length > MAX_DOCUMENT {
                refuse(
                    &self.host,
                    Some(peer),
                    None,
                    &Refused::TooLarge { what: "it", bytes: length, most: MAX_DOCUMENT },
                );
            }
            return self.gossip.received(peer, nothing, now);
        }
        match fetch.take(total, offset, piece) {
            Taken::More => {}
            Taken::Ask(ask) => self.say(peer, vec![ask]),
            Taken::Whole(document) => {
                linked.fetch = None;
                self.gossip.received(peer, Message::Hand { id, document: Some(document.into()) }, now);
            }
            Taken::Broken => {
                linked.fetch = None;
                refuse(&self.host, Some(peer), None, &Refused::Malformed("its pieces do not fit together"));
                self.gossip.received(peer, nothing, now);
            }
        }
    }
}
