use mesh_config::published::{Heads, Publication};
use mesh_config::{MeshName, MeshVersion};
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;

use super::*;
use crate::identity::published::seal;

const MESH: &str = "\
# The lab.
[mesh]
name = \"lab\"
version = 3
signed = true

[group]
clients = [\"beta\"]

# In the cellar.
# Do not move.
[node.alpha]
address = \"10.0.0.1:7443\"
[node.beta]

[service.web]
on = [\"alpha\"]
target = \"127.0.0.1:80\" # plain
[service.web.at.beta]
listen = \"127.0.0.1:8080\"
[service.dns]
on = [\"alpha\"]
";

/// A signed document as far as its form goes: nothing here looks at who signed it.
fn document(text: &str) -> Bytes {
    let publication = Publication {
        document: Digest::of(text.as_bytes()),
        version: MeshVersion::new(3).unwrap(),
        opens_generation: false,
        published_at: 1_800_000_000,
        refresh_by: 1_900_000_000,
        removed: Vec::new(),
    };
    let header = Heads::default().next(&MeshName::new("lab").unwrap(), publication).unwrap();
    let chain = vec![CertificateDer::from(vec![0x30, 1, 0])];
    seal(&header, text, chain, |_| Ok::<_, ()>(vec![7; 64])).unwrap().into()
}

fn keys(text: &str) -> Vec<String> {
    let of = |key: &str| key.rsplit_once('/').map(|(of, _)| of.to_owned()).unwrap();
    cut(&Bytes::copy_from_slice(text.as_bytes())).iter().map(|(key, _)| of(key)).collect()
}

/// Reads a document from these keys as it would be read from etcd. `have` are pieces that are there already.
fn fetch(
    head: &[u8],
    pieces: &BTreeMap<String, Bytes>,
    have: &BTreeMap<String, Bytes>,
) -> Result<(Bytes, BTreeMap<String, Bytes>, usize), Option<Refused>> {
    let mut assembly = Assembly::new(head, have).map_err(Some)?;
    let mut fetched = 0;
    loop {
        let wanted = assembly.wanted(128, 1 << 20);
        if wanted.is_empty() {
            break;
        }
        assert!(wanted.len() <= 128);
        for piece in wanted {
            fetched += 1;
            let value = pieces.get(&piece.key).cloned().ok_or(None)?;
            assembly.put(&piece, value).map_err(Some)?;
        }
    }
    let (document, pieces) = assembly.finish().map_err(Some)?.unwrap();
    Ok((document, pieces, fetched))
}

#[test]
fn there_is_a_key_for_each_node_and_service_with_the_remarks_above_it() {
    assert_eq!(keys(MESH), ["mesh", "node/alpha", "node/beta", "service/web", "service/dns"]);
    let pieces = cut(&Bytes::from_static(MESH.as_bytes()));
    assert!(pieces[1].1.starts_with(b"# In the cellar.\n# Do not move.\n[node.alpha]"), "{:?}", pieces[1].1);
    assert!(pieces[3].1.ends_with(b"[service.web.at.beta]\nlisten = \"127.0.0.1:8080\"\n"));
    for (text, wanted) in [
        ("", &[][..]),
        ("\n", &["mesh"]),
        ("[node.alpha]", &["node/alpha"]),
        ("[node.alpha]\n[node.alpha.x]\n[group]\n[node.alpha]\n", &["node/alpha", "mesh", "node/alpha"]),
        ("  [service.web]  \n", &["service/web"]),
        ("[node.Alpha]\n[node.a b]\n[node.]\n[node]\n", &["mesh"]),
        ("[node.\"alpha\"]\n[[node.x]]\n", &["mesh"]),
    ] {
        assert_eq!(keys(text), wanted, "{text:?}");
    }
}

#[test]
fn a_change_of_one_node_writes_and_reads_one_piece_the_index_and_the_head() {
    let old = Parts::of(document(MESH)).unwrap();
    let new = Parts::of(document(&MESH.replace("10.0.0.1", "10.0.0.2"))).unwrap();
    let added: Vec<_> = new.pieces.keys().filter(|key| !old.pieces.contains_key(*key)).collect();
    assert_eq!(added.len(), 2, "{added:?}");
    assert!(added[0].starts_with("index/") && added[1].starts_with("node/alpha/"), "{added:?}");
    let (_, known, all) = fetch(&old.head, &old.pieces, &BTreeMap::new()).unwrap();
    assert_eq!(all, 6);
    let (document, _, fetched) = fetch(&new.head, &new.pieces, &known).unwrap();
    assert_eq!(fetched, 2);
    assert_eq!(document, self::document(&MESH.replace("10.0.0.1", "10.0.0.2")));
    // Who has the text has its pieces.
    let (_, _, fetched) = fetch(&old.head, &old.pieces, &super::known(&Bytes::from_static(MESH.as_bytes()))).unwrap();
    assert_eq!(fetched, 1, "the index alone");
}

#[test]
fn a_large_mesh_is_many_values_of_which_each_fits_into_a_request() {
    let mut text = MESH.to_owned();
    for node in 0..20_000 {
        text.push_str(&format!("[node.host-{node}]\naddress = \"host-{node}.example.net:7443\"\n"));
    }
    text.push_str("[service.big]\n");
    text.push_str(&"# a remark that is long enough to make one piece too long\n".repeat(12_000));
    let parts = Parts::of(document(&text)).unwrap();
    assert!(parts.pieces.len() > 20_000, "{}", parts.pieces.len());
    assert!(parts.pieces.values().all(|value| value.len() <= MAX_PIECE));
    assert!(parts.pieces.keys().filter(|key| key.starts_with("index/")).count() > 3);
    assert!(parts.head.len() < 4_096, "{}", parts.head.len());
    assert_eq!(fetch(&parts.head, &parts.pieces, &BTreeMap::new()).unwrap().0, document(&text));
    // More sections than there may be pieces: it is cut by length.
    let text = "[node.a]\n[node.b]\n".repeat(MAX_PIECES / 2 + 1);
    let parts = Parts::of(document(&text)).unwrap();
    assert!(parts.pieces.len() < 20, "{}", parts.pieces.len());
    assert_eq!(fetch(&parts.head, &parts.pieces, &BTreeMap::new()).unwrap().0, document(&text));
}

#[test]
fn heads_and_indexes_that_are_none_are_refused_by_name() {
    let parts = Parts::of(document(MESH)).unwrap();
    let wire: serde_json::Value = serde_json::from_slice(&parts.head).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut wire = wire.clone();
        wire[key] = value;
        serde_json::to_vec(&wire).unwrap()
    };
    let name = "0123456789abcdef0123456789abcdef";
    for (head, wanted) in [
        (Vec::new(), "malformed"),
        (b"{}".to_vec(), "malformed"),
        (vec![b' '; MAX_HEAD + 1], "too_large"),
        (with("layout", 2.into()), "malformed"),
        (with("envelope", "%%".into()), "malformed"),
        (with("envelope", BASE64.encode(document(MESH)).into()), "malformed"),
        (with("envelope", BASE64.encode(vec![0; 200_000]).into()), "too_large"),
        (with("index", serde_json::json!(["../../secret"])), "malformed"),
        (with("index", serde_json::json!(vec![name; MAX_INDEX + 1])), "malformed"),
    ] {
        let told = String::from_utf8_lossy(&head[..head.len().min(60)]).into_owned();
        assert_eq!(Assembly::new(&head, &BTreeMap::new()).unwrap_err().name(), wanted, "{told}");
    }
    let indexed = |text: String| {
        let value = Bytes::from(text);
        let name = named_by(&value);
        let head = with("index", serde_json::json!([name]));
        fetch(&head, &BTreeMap::from([(index_key(&name), value)]), &BTreeMap::new()).unwrap_err()
    };
    let line = |length: usize, key: &str| format!("{length} {key}\n");
    for (index, wanted) in [
        ("nonsense\n".to_owned(), Some("malformed")),
        (line(0, &format!("mesh/{name}")), Some("malformed")),
        (line(MAX_PIECE + 1, &format!("mesh/{name}")), Some("malformed")),
        (format!("+5 mesh/{name}\n"), Some("malformed")),
        (line(5, &format!("node/../{name}")), Some("malformed")),
        (line(5, "mesh/short"), Some("malformed")),
        (line(MAX_PIECE, &format!("mesh/{name}")).repeat(70), Some("too_large")),
        // One that is not there.
        (line(5, &format!("mesh/{name}")), None),
    ] {
        assert_eq!(indexed(index.clone()).map(|why| why.name()), wanted, "{index}");
    }
    // A text that is not the one of the header is found when it is verified; a value that is not its key's at once.
    let mut pieces = parts.pieces.clone();
    *pieces.values_mut().last().unwrap() = Bytes::from_static(b"other");
    assert_eq!(fetch(&parts.head, &pieces, &BTreeMap::new()).unwrap_err().unwrap().name(), "forged");
}

#[test]
fn only_keys_that_a_document_can_have_are_ever_removed() {
    let name = "0123456789abcdef0123456789abcdef";
    for (key, ours) in [
        (format!("node/alpha/{name}"), true),
        (format!("service/web/{name}"), true),
        (format!("mesh/{name}"), true),
        (format!("index/{name}"), true),
        (HEAD.to_owned(), false),
        (format!("other/{name}"), false),
        (format!("node/alpha/{name}/more"), false),
        ("node/alpha".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(is_ours(&key), ours, "{key}");
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[mesh]\n".to_owned()),
        Just("# a remark\n".to_owned()),
        Just("\n".to_owned()),
        Just("[node.a".to_owned()),
        "\\[(node|service)\\.[a-c]\\]\n",
        "\\[(node|service)\\.[a-c]\\.at\\.[a-c]\\]\r\n",
        "[ -~]{0,40}\n",
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn whatever_the_text_its_pieces_are_the_text(lines in prop::collection::vec(line(), 0..40)) {
        let text = lines.concat();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let together: Vec<u8> = cut(&bytes).iter().flat_map(|(_, value)| value.to_vec()).collect();
        prop_assert_eq!(&together[..], &bytes[..]);
        prop_assert!(cut(&bytes).iter().all(|(key, value)| is_piece(key) && !value.is_empty()));
        let parts = Parts::of(document(&text)).unwrap();
        prop_assert!(parts.pieces.keys().all(|key| is_ours(key)));
        let (read, pieces, _) = fetch(&parts.head, &parts.pieces, &BTreeMap::new()).unwrap();
        prop_assert_eq!(read, document(&text));
        prop_assert_eq!(pieces, parts.pieces);
    }

    /// Publishers who write one after the other, some of whom end half-way; readers at any moment, with what they had before.
    #[test]
    fn a_reader_gets_the_document_of_a_head_whole_whatever_was_left_half_written(
        documents in prop::collection::vec(prop::collection::vec(line(), 0..12), 1..6),
        steps in prop::collection::vec((any::<u8>(), 0..12_usize, any::<bool>()), 1..40),
    ) {
        let documents: Vec<_> = documents.iter().map(|lines| document(&lines.concat())).collect();
        let mut store: BTreeMap<String, Bytes> = BTreeMap::new();
        let mut head: Option<(Bytes, Bytes)> = None;
        let mut before: BTreeSet<String> = BTreeSet::new();
        let mut known = BTreeMap::new();
        for (which, count, ends) in steps {
            let document = &documents[usize::from(which) % documents.len()];
            let parts = Parts::of(document.clone()).unwrap();
            if ends {
                store.extend(parts.pieces.clone().into_iter().take(count));
            } else {
                store.extend(parts.pieces.clone());
                let current: BTreeSet<String> = match &head {
                    Some((value, _)) => Parts::of(head.as_ref().unwrap().1.clone())
                        .map(|parts| { assert_eq!(&parts.head, value); parts.pieces.into_keys().collect() }).unwrap(),
                    None => BTreeSet::new(),
                };
                before = current;
                head = Some((parts.head.clone(), document.clone()));
                store.retain(|key, _| parts.pieces.contains_key(key) || before.contains(key));
            }
            if let Some((value, wanted)) = &head {
                let (read, pieces, _) = fetch(value, &store, &known).map_err(|why| TestCaseError::fail(format!("{why:?}")))?;
                prop_assert_eq!(&read, wanted);
                known = pieces;
            }
        }
        let _ = before;
    }

    /// One value is another, or one is missing, or the head is of another document: never another text under this header.
    #[test]
    fn what_was_tampered_with_never_makes_another_document(
        lines in prop::collection::vec(line(), 1..12),
        which in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        in_head in any::<bool>(),
    ) {
        let whole = document(&lines.concat());
        let mut parts = Parts::of(whole.clone()).unwrap();
        let mut head = parts.head.to_vec();
        if in_head || parts.pieces.is_empty() {
            let at = byte.index(head.len());
            head[at] ^= flip;
        } else {
            let at = which.index(parts.pieces.len());
            let value = parts.pieces.values_mut().nth(at).unwrap();
            let mut bytes = value.to_vec();
            if bytes.is_empty() { bytes.push(flip) } else { let at = byte.index(bytes.len()); bytes[at] ^= flip; }
            *value = bytes.into();
        }
        if let Ok((read, ..)) = fetch(&head, &parts.pieces, &BTreeMap::new()) {
            // What lies in the signed part is the signature's to judge.
            let (read, whole) = (Envelope::decode(read).unwrap(), Envelope::decode(whole).unwrap());
            prop_assert_eq!(read.document, whole.document);
        }
    }
}
