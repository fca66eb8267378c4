//! Why a signed mesh document is not taken: for machines as a name, for people as a sentence and what to do.

use mesh_config::published::{Generation, HeaderError, Rank};
use mesh_config::{MeshName, Problem};

use crate::identity::flaw::ProfileError;
use crate::identity::rejection::Rejection;

/// Why a signed document is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It, or a part of it, is above its limit.
    #[error("{what} has {bytes} bytes, and {most} are the most")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// It is cut off, or something else.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its header is none.
    #[error("its header cannot be read: {0}")]
    Header(#[from] HeaderError),
    /// It is another mesh's.
    #[error("it is of mesh `{found}`, and this host is in `{expected}`")]
    OtherMesh {
        /// The mesh that it names.
        found: MeshName,
        /// This host's.
        expected: MeshName,
    },
    /// Its text or its header is not what was signed.
    #[error("{0}")]
    Forged(&'static str),
    /// Who signed it is no publisher of this mesh: another issuer, dates, another kind of certificate.
    #[error("its signer: {0}")]
    Signer(Box<Rejection>),
    /// Its signer may sign documents of another generation.
    #[error("it is of generation {document}, and its signer may sign those of generation {signer}")]
    OtherGeneration {
        /// The document's.
        document: Generation,
        /// The signer's.
        signer: Generation,
    },
    /// Only the root lets somebody sign in a later generation than the first.
    #[error("it is of generation {0}, and its signer was not made a publisher by the root itself")]
    NotByRoot(Generation),
    /// A publisher has signed it, and its text is no mesh file that may be in force.
    #[error("its text does not hold: {}", told(.0))]
    Document(Vec<Problem>),
    /// Its text says something else than its header, or does not say that the mesh is signed.
    #[error("its text says {0}")]
    Contradiction(String),
    /// There is a later one.
    #[error("it is {rank}, and this host has had {floor} already")]
    Older {
        /// Its place.
        rank: Rank,
        /// The greatest that was ever in force here.
        floor: Rank,
    },
    /// It is genuine, and was not asked for, or is here already.
    #[error("it is {0}, which is not what was asked for or is here already")]
    Replayed(Rank),
}

impl Refused {
    /// Every [`Refused::name`].
    pub const NAMES: &[&str] = &[
        "too_large",
        "malformed",
        "other_mesh",
        "forged",
        "unknown_signer",
        "signer_expired",
        "signer_not_yet_valid",
        "unauthorised_signer",
        "other_generation",
        "document",
        "older",
        "replayed",
    ];

    /// A stable snake_case name: metric labels, JSON, audit events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) | Self::Header(_) => "malformed",
            Self::OtherMesh { .. } => "other_mesh",
            Self::Forged(_) => "forged",
            Self::Signer(rejection) => match **rejection {
                Rejection::UnknownCa { .. } => "unknown_signer",
                Rejection::Expired { .. } => "signer_expired",
                Rejection::NotYetValid { .. } => "signer_not_yet_valid",
                Rejection::BadSignature { .. } => "forged",
                _ => "unauthorised_signer",
            },
            Self::OtherGeneration { .. } | Self::NotByRoot(_) => "other_generation",
            Self::Document(_) | Self::Contradiction(_) => "document",
            Self::Older { .. } => "older",
            Self::Replayed(_) => "replayed",
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::Malformed(_) | Self::Header(_) | Self::Replayed(_) => {
                "what was in force stays; if it comes again and again, look at the host that it comes from"
            }
            Self::OtherMesh { .. } => "compare mesh.name in both hosts' mesh files",
            Self::Forged(_) => "somebody has changed it on its way: look at the host that it comes from",
            Self::Signer(rejection) => match **rejection {
                Rejection::UnknownCa { .. } => "the publisher and this host need the same root in trust.pem",
                Rejection::Expired { .. } => {
                    "make the publisher's certificate anew, `adit ca delegate`, and publish again"
                }
                Rejection::NotYetValid { .. } => "compare this host's clock with the publisher's",
                _ => {
                    "sign with a certificate that `adit ca delegate` has made; a node's certificate cannot sign a mesh"
                }
            },
            Self::OtherGeneration { .. } | Self::NotByRoot(_) => {
                "have the root make a publisher of that generation: `adit ca delegate NAME --generation N`"
            }
            Self::Document(_) | Self::Contradiction(_) => "correct the mesh file and publish it again",
            Self::Older { .. } => {
                "to go back to old content, publish it under a new version: `adit publish --rollback N`"
            }
        }
    }

    /// Whether another look may come to another end although nothing changes here: the clock moves on.
    pub fn may_pass(&self) -> bool {
        self.name() == "signer_not_yet_valid"
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::Signer(Box::new(rejection))
    }
}

impl From<ProfileError> for Refused {
    fn from(error: ProfileError) -> Self {
        Rejection::from(error).into()
    }
}

fn told(problems: &[Problem]) -> String {
    let first = problems.iter().find(|problem| problem.is_error());
    first.map(|p| format!("{}:{}: {}", p.line, p.column, p.message)).unwrap_or_default()
}
