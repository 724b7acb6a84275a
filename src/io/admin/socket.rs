//! The socket `STATE/admin.sock`: its permissions are its protection, so it must never be there with wider ones.
//!
//! It is therefore made in a fresh directory that only we can enter, and moved into place with mode 0600. A socket that a
//! dead process left behind is replaced by the same step.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process,
};

use tokio::net::UnixListener;

/// Where the socket is.
pub fn path(state: &Path) -> PathBuf {
    state.join("admin.sock")
}

/// Opens the socket. Needs a runtime.
pub fn open(state: &Path) -> io::Result<UnixListener> {
    let path = path(state);
    if UnixStream::connect(&path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another lemonade-proxy runs with this state directory"));
    }
    let cradle = state.join(format!(".admin-{}", process::id()));
    let _ = fs::remove_dir_all(&cradle);
    DirBuilder::new().mode(0o700).create(&cradle)?;
    let opened = open_in(&cradle, &path);
    fs::remove_dir_all(&cradle)?;
    opened
}

fn open_in(cradle: &Path, path: &Path) -> io::Result<UnixListener> {
    let born = cradle.join("sock");
    let listener = UnixListener::bind(&born)?;
    fs::set_permissions(&born, Permissions::from_mode(0o600))?;
    fs::rename(&born, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_its_owner_and_leaves_no_cradle() {
        let state = tempfile::tempdir().unwrap();
        let _listener = open(state.path()).unwrap();
        assert_eq!(fs::metadata(path(state.path())).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let state = tempfile::tempdir().unwrap();
        drop(open(state.path()).unwrap());
        let _listener = open(state.path()).unwrap();
        assert_eq!(open(state.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
