use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::admin::fixture::TempDir;

fn names(places: &BTreeMap<PathBuf, BTreeSet<OsString>>, directory: &Path) -> Vec<String> {
    let names = places.get(directory).into_iter().flatten();
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn every_link_on_the_way_to_a_file_is_watched_and_so_is_the_directory_that_holds_it() {
    let dir = TempDir::new("lead-to");
    let root = fs::canonicalize(&dir.0).unwrap();
    let (here, there) = (root.join("here"), root.join("there"));
    fs::create_dir_all(here.join("..1")).unwrap();
    fs::create_dir_all(&there).unwrap();
    fs::write(here.join("..1/mesh.toml"), "").unwrap();
    symlink("..1", here.join("..data")).unwrap();
    symlink("..data/mesh.toml", here.join("mesh.toml")).unwrap();
    symlink("../here/mesh.toml", there.join("mesh.toml")).unwrap();
    let mut places = BTreeMap::new();
    let end = lead_to(&there.join("mesh.toml"), &mut places);
    assert_eq!(end, Some(here.join("..1/mesh.toml")));
    assert_eq!(names(&places, &there), ["mesh.toml"]);
    assert_eq!(names(&places, &here), ["..1", "..data", "mesh.toml"]);
    assert_eq!(names(&places, &here.join("..1")), ["mesh.toml"]);
    // One that is not there is waited for where it would be, and links that go round come to an end.
    fs::remove_dir_all(here.join("..1")).unwrap();
    symlink("round", here.join("round")).unwrap();
    let mut places = BTreeMap::new();
    assert_eq!(lead_to(&here.join("mesh.toml"), &mut places), None);
    assert_eq!(names(&places, &here), ["..1", "..data", "mesh.toml"]);
    assert_eq!(lead_to(&here.join("round"), &mut places), None);
}

/// What is seen, until it is this.
async fn until(watch: &mut Watch, what: impl Fn(&Seen<Written>) -> bool) {
    let found = async {
        loop {
            let seen = watch.seen().await;
            watch.arm().await;
            if seen.iter().any(&what) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), found).await.unwrap();
}

#[tokio::test]
async fn a_writer_is_seen_from_his_first_byte_until_he_closes_the_file() {
    use std::io::Write as _;
    let dir = TempDir::new("writer");
    let path = dir.0.join("mesh.toml");
    fs::write(&path, "before").unwrap();
    let mut watch = Watch::new(vec![path.clone()]);
    assert_eq!(watch.arm().await, []);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"half").unwrap();
    until(&mut watch, |seen| matches!(seen, Seen::Writing(_))).await;
    drop(file);
    until(&mut watch, |seen| matches!(seen, Seen::Closed(_))).await;
    // What happens beside it is nobody's business.
    fs::write(dir.0.join("other"), "x").unwrap();
    fs::rename(dir.0.join("other"), &path).unwrap();
    until(&mut watch, |seen| matches!(seen, Seen::Closed((_, Some(name))) if name == "mesh.toml")).await;
}

#[tokio::test]
async fn who_wrote_into_a_file_that_is_gone_counts_as_done() {
    use std::io::Write as _;
    let dir = TempDir::new("gone");
    let path = dir.0.join("mesh.toml");
    fs::write(&path, "before").unwrap();
    let mut watch = Watch::new(vec![path.clone()]);
    watch.arm().await;
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"half").unwrap();
    let mut seen = Vec::new();
    while !seen.iter().any(|seen| matches!(seen, Seen::Writing(_))) {
        seen = timeout(Duration::from_secs(20), watch.seen()).await.unwrap();
    }
    let written = seen.into_iter().find_map(|seen| match seen {
        Seen::Writing(written) => Some(written),
        _ => None,
    });
    fs::remove_file(&path).unwrap();
    let closed = watch.arm().await;
    assert!(closed.contains(&Seen::Closed(written.unwrap())), "{closed:?}");
}
