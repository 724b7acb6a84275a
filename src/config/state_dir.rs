//! The directory of what outlives the process: where it is, and that it is ours alone.
//!
//! `--state`, else `state` in the file, else `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/lemonade-proxy`, else
//! `~/.local/state/lemonade-proxy` (XDG Base Directory Specification).

use std::{
    ffi::{OsStr, OsString},
    fs::DirBuilder,
    io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use super::origin::Origin;

/// Name of our directory among those of other programs.
const NAME: &str = "lemonade-proxy";

/// Makes the directory if it is not there, for its owner only: it holds a private key and the admin socket.
pub fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Where the directory is if nobody said so, and which variable decided that.
pub(super) fn find(variable: impl Fn(&str) -> Option<OsString>) -> Option<(PathBuf, Option<Origin>)> {
    // systemd.exec(5): several directories are separated by colons; the first is the one of the unit.
    let first =
        |list: OsString| list.as_bytes().split(|octet| *octet == b':').next().map(OsStr::from_bytes).map(PathBuf::from);
    // XDG: a variable that is empty or not absolute counts as not set.
    let directory = |name: &str| variable(name).map(PathBuf::from).filter(|directory| directory.is_absolute());
    if let Some(directory) = variable("STATE_DIRECTORY").and_then(first).filter(|directory| directory.is_absolute()) {
        return Some((directory, Some(Origin::Variable("STATE_DIRECTORY"))));
    }
    if let Some(directory) = directory("XDG_STATE_HOME") {
        return Some((directory.join(NAME), Some(Origin::Variable("XDG_STATE_HOME"))));
    }
    directory("HOME").map(|home| (home.join(".local/state").join(NAME), None))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_that_says_something_decides() {
        for (variables, directory, origin) in [
            (
                &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("XDG_STATE_HOME", "/x")][..],
                "/var/lib/a",
                Some("STATE_DIRECTORY"),
            ),
            (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], "/x/lemonade-proxy", Some("XDG_STATE_HOME")),
            (&[("XDG_STATE_HOME", "x"), ("HOME", "/h")], "/h/.local/state/lemonade-proxy", None),
            (&[("STATE_DIRECTORY", ""), ("HOME", "/h")], "/h/.local/state/lemonade-proxy", None),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            let expected = (PathBuf::from(directory), origin.map(Origin::Variable));
            assert_eq!(find(variable), Some(expected), "{variables:?}");
        }
        assert_eq!(find(|_| None), None);
    }

    #[test]
    fn the_directory_is_for_its_owner_only() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("a/b");
        create(&directory).unwrap();
        create(&directory).unwrap();
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
