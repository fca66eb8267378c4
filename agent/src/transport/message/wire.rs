//! The protobuf messages as they travel. Fields are added, never renumbered; unknown ones are ignored.
//!
//! No field is repeated, so that decoding never takes more memory than a small multiple of the frame.

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(super) version_min: u32,
    #[prost(uint32, tag = "2")]
    pub(super) version_max: u32,
    #[prost(fixed64, tag = "3")]
    pub(super) incarnation: u64,
    #[prost(sint64, tag = "4")]
    pub(super) wall_time: i64,
    #[prost(string, tag = "5")]
    pub(super) mesh: String,
    #[prost(uint64, tag = "6")]
    pub(super) mesh_version: u64,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) mesh_digest: Vec<u8>,
    #[prost(uint32, tag = "8")]
    pub(super) role: u32,
    #[prost(uint64, tag = "9")]
    pub(super) features: u64,
    #[prost(string, tag = "10")]
    pub(super) capabilities: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Open {
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    #[prost(string, tag = "2")]
    pub(super) service: String,
    #[prost(string, tag = "3")]
    pub(super) relay: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) client_ip: Vec<u8>,
    #[prost(uint32, tag = "5")]
    pub(super) client_port: u32,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) trace: Vec<u8>,
    #[prost(uint64, tag = "7")]
    pub(super) credit: u64,
    #[prost(uint32, tag = "8")]
    pub(super) bench: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Opened {
    #[prost(uint64, tag = "1")]
    pub(super) credit: u64,
    #[prost(string, tag = "2")]
    pub(super) target: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refused {
    #[prost(uint32, tag = "1")]
    pub(super) reason: u32,
    #[prost(string, tag = "2")]
    pub(super) detail: String,
}

/// RESET and BYE.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Because {
    #[prost(uint32, tag = "1")]
    pub(super) reason: u32,
}

/// PING and PONG; a PING has no wall time.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Probe {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(sint64, optional, tag = "2")]
    pub(super) wall_time: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Credit {
    #[prost(uint64, tag = "1")]
    pub(super) granted: u64,
    #[prost(uint64, tag = "2")]
    pub(super) returned: u64,
}

/// The ranks one after the other, [`RANK`](super::gossip::RANK) bytes each.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Summary {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) ranks: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ask {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
}

/// A total of nothing: the sender has it no more.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hand {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) total: u64,
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) piece: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WantLanes {
    #[prost(uint32, tag = "1")]
    pub(super) count: u32,
}
