//! The socket: whose it is, where it lies, and who may use it.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::admin::server::serve;
use crate::admin::socket::{AdminSocket, BindError, admits};

#[tokio::test]
async fn the_socket_is_private_and_goes_away_with_the_server() {
    let mut rig = rig();
    let path = rig.client.socket().to_owned();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(&rig.dir.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["adit.sock"]);
    rig.stop().await;
    assert!(!path.exists());
    assert!(matches!(rig.client.status().await, Err(ClientError::NotRunning(_))));
}

#[tokio::test]
async fn a_socket_is_not_taken_from_an_agent_that_answers() {
    let rig = rig();
    match AdminSocket::bind(rig.client.socket()) {
        Err(error @ BindError::InUse { pid, .. }) => {
            assert_eq!(pid, Some(i32::try_from(std::process::id()).unwrap()));
            assert!(error.to_string().starts_with("another agent (pid "), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(rig.client.status().await.is_ok());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let dir = TempDir::new("stale");
    let path = dir.0.join("adit.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = AdminSocket::bind(&path).unwrap();
    // What another has put in its place is not removed.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a letter").unwrap();
    drop(first);
    assert!(matches!(AdminSocket::bind(&path), Err(BindError::Occupied(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a letter");
    let missing = AdminSocket::bind(&dir.0.join("no/such/adit.sock"));
    assert!(matches!(missing, Err(BindError::Io { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_directory_may_be_deeper_than_a_socket_address_is_long() {
    let dir = TempDir::new("deep");
    let deep = dir.0.join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("adit.sock");
    let socket = AdminSocket::bind(&path).unwrap();
    assert!(matches!(AdminSocket::bind(&path), Err(BindError::InUse { .. })));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(socket, FakeAgent::default().into(), Limits::default(), async move {
        let _ = stopped.await;
    }));
    assert!(Client::new(&path).status().await.is_ok());
    drop(stop);
    tasks.join_next().await.unwrap().unwrap();
    assert!(!path.exists());
}

#[test]
fn only_the_agents_user_and_root_are_admitted() {
    assert!(admits(1000, 1000) && admits(0, 1000) && admits(0, 0));
    assert!(!admits(1001, 1000) && !admits(65_534, 0));
}

/// A thread of its own becomes another user, which only root may do; elsewhere the rule alone is tested.
#[tokio::test]
async fn another_user_is_turned_away_even_if_the_sockets_mode_is_opened() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let rig = rig();
    let path = rig.client.socket().to_owned();
    std::fs::set_permissions(&rig.dir.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |path: std::path::PathBuf| {
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        })
    };
    let join = |thread: std::thread::JoinHandle<_>| async {
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
    };
    let denied = join(as_nobody(path.clone())).await.unwrap_err();
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let answer = join(as_nobody(path)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("wrong_user"), "{answer}");
    assert!(!answer.contains("peers"), "{answer}");
}
