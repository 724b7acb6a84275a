//! The files that a configuration names: there, readable, what they should be, for the right eyes only, and not soon over.
//!
//!     warning: proxy.toml:9: tls.certificates[0].chain: "/etc/ssl/mail.pem" ends in 12 days
//!
//! For `check` alone: the program itself says what is wrong with a file when it uses it.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{Config, finding::Finding, origin, origin::Origins};
use crate::io::{
    backends::Scheme,
    routing::Router,
    tls::{self, Certificate, Tls, TlsError},
};

/// A certificate that ends sooner is spoken of: a week of holidays, and time to act.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// All that is wrong with the files, at this moment.
pub(super) fn judge(config: &Config, origins: &Origins, now: SystemTime) -> Vec<Finding> {
    let mut judge = Judge { origins, now, findings: Vec::new() };
    for (index, certificate) in config.tls.certificates.iter().enumerate() {
        judge.certificate(&origin::element("tls.certificates", index), certificate);
    }
    judge.backends(config);
    judge.routing(config);
    if let Some(file) = &config.admin.token_file {
        judge.secret("admin.token_file", file);
    }
    let mut outband = config.outband.clone();
    for (path, _, file) in outband.files_mut().into_iter().filter(|(_, is_secret, _)| *is_secret) {
        judge.secret(path, file);
    }
    if let Some(feed) = &config.feed {
        judge.secret("feed.secret_file", &feed.secret_file);
    }
    judge.state(&config.state);
    judge.findings
}

struct Judge<'a> {
    origins: &'a Origins,
    now: SystemTime,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn error(&mut self, path: &str, text: impl std::fmt::Display) {
        self.findings.push(Finding::error(self.origins.place(path), format!("{path}: {text}")));
    }

    fn warning(&mut self, path: &str, text: impl std::fmt::Display) {
        self.findings.push(Finding::warning(self.origins.place(path), format!("{path}: {text}")));
    }

    fn certificate(&mut self, path: &str, certificate: &Certificate) {
        let (chain, key) = (origin::key(path, "chain"), origin::key(path, "key"));
        match (Tls { certificates: vec![certificate.clone()] }).load(Path::new("")) {
            Ok(shown) => shown.expiries.iter().for_each(|(file, end)| self.expiry(&chain, file, *end)),
            Err(error) => {
                let is_of_key = matches!(&error, TlsError::File { file, .. } | TlsError::Key { file, .. } if *file == certificate.key);
                self.error(if is_of_key { &key } else { &chain }, error);
            }
        }
        self.privacy(&key, &certificate.key);
    }

    fn expiry(&mut self, path: &str, file: &Path, end: SystemTime) {
        match end.duration_since(self.now) {
            Err(_) => self.warning(path, format!("{} has ended", quoted(file))),
            Ok(left) if left < SOON => {
                self.warning(path, format!("{} ends in {} days", quoted(file), left.as_secs() / 86_400));
            }
            Ok(_) => {}
        }
    }

    /// What is secret is read by its owner and perhaps a group, not by everybody.
    fn privacy(&mut self, path: &str, file: &Path) {
        let Ok(metadata) = fs::metadata(file) else { return };
        if metadata.permissions().mode() & 0o007 != 0 {
            self.warning(path, format!("{} is open to everybody: chmod o= it", quoted(file)));
        }
    }

    fn backends(&mut self, config: &Config) {
        for (name, backend) in &config.backends {
            let is_tls = backend.urls.iter().any(|url| url.scheme != Scheme::Imap);
            if let (true, Err(error)) = (is_tls || backend.ca.is_some(), tls::believe(backend.ca.as_deref())) {
                self.error(&origin::key(&origin::key("backends", name), "ca"), error);
            }
        }
    }

    fn routing(&mut self, config: &Config) {
        let names = config.backends.keys().map(|name| name.as_str().into()).collect::<HashSet<_>>();
        if let Err(error) = Router::new(&config.routing, &names) {
            self.error("routing", error);
        }
    }

    fn secret(&mut self, path: &str, file: &Path) {
        match fs::read_to_string(file) {
            Ok(token) if token.trim().is_empty() => self.error(path, format!("{} is empty", quoted(file))),
            Ok(_) => self.privacy(path, file),
            Err(error) => self.error(path, format!("{}: {error}", quoted(file))),
        }
    }

    fn state(&mut self, directory: &Path) {
        let Ok(metadata) = fs::metadata(directory) else { return };
        if !metadata.is_dir() {
            self.error("state", format!("{} is not a directory", quoted(directory)));
        } else if metadata.permissions().mode() & 0o077 != 0 {
            self.warning("state", format!("{} is open to others: chmod 700 it", quoted(directory)));
        }
    }
}

fn quoted(file: &Path) -> String {
    format!("\"{}\"", file.display())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A certificate that ends with the year 2030, and its key.
    fn write_pair(directory: &Path, name: &str) -> Certificate {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let file = |extension| directory.join(format!("{name}.{extension}"));
        fs::write(file("pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(file("key"), key.serialize_pem()).unwrap();
        fs::set_permissions(file("key"), fs::Permissions::from_mode(0o640)).unwrap();
        Certificate { chain: file("pem"), key: file("key") }
    }

    /// So many days before 31 December 2030, 00:00 UTC.
    fn days_before_the_end(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_924_905_600 - days * 86_400)
    }

    fn findings(config: &Config, now: SystemTime, directory: &Path) -> Vec<String> {
        let found = judge(config, &Origins::default(), now);
        found.iter().map(|finding| finding.to_string().replace(&format!("{}/", directory.display()), "")).collect()
    }

    fn config() -> Config {
        Config { state: PathBuf::from("/nowhere"), ..Config::default() }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_spoken_of() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config();
        config.tls.certificates = vec![write_pair(directory.path(), "a")];
        for (days, expected) in
            [(15, vec![]), (13, vec!["warning: tls.certificates[0].chain: \"a.pem\" ends in 13 days"])]
        {
            assert_eq!(findings(&config, days_before_the_end(days), directory.path()), expected);
        }
        let late = days_before_the_end(0) + Duration::from_secs(86_400);
        let expected = ["warning: tls.certificates[0].chain: \"a.pem\" has ended"];
        assert_eq!(findings(&config, late, directory.path()), expected);
    }

    #[test]
    fn a_file_that_is_wrong_is_named_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let now = days_before_the_end(100);
        let (a, b) = (write_pair(directory.path(), "a"), write_pair(directory.path(), "b"));
        fs::write(file("empty"), "").unwrap();
        fs::write(file("table"), "joe main\nann mian\n").unwrap();
        fs::set_permissions(&b.key, fs::Permissions::from_mode(0o644)).unwrap();
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = config();
            let main =
                crate::io::backends::Backend { urls: vec!["imap://localhost".parse().unwrap()], ..Default::default() };
            config.backends.insert("main".to_owned(), main);
            change(&mut config);
            findings(&config, now, directory.path())
        };
        let pair = |chain: &Path, key: &Path| Certificate { chain: chain.to_owned(), key: key.to_owned() };
        for (found, start) in [
            (
                with(&|c| c.tls.certificates = vec![pair(&a.chain, &file("none"))]),
                "error: tls.certificates[0].key: none: ",
            ),
            (
                with(&|c| c.tls.certificates = vec![pair(&file("empty"), &a.key)]),
                "error: tls.certificates[0].chain: empty: ",
            ),
            (
                with(&|c| c.tls.certificates = vec![pair(&b.chain, &b.key)]),
                "warning: tls.certificates[0].key: \"b.key\" is open",
            ),
            (with(&|c| c.backends.get_mut("main").unwrap().ca = Some(file("none"))), "error: backends.main.ca: none: "),
            (with(&|c| c.routing.table = Some(file("table"))), "error: routing: table:2: no backend `mian`"),
            (with(&|c| c.admin.token_file = Some(file("empty"))), "error: admin.token_file: \"empty\" is empty"),
            (with(&|c| c.admin.token_file = Some(file("none"))), "error: admin.token_file: \"none\": No such file"),
            (with(&|c| c.state = file("empty")), "error: state: \"empty\" is not a directory"),
        ] {
            assert!(found.len() == 1 && found[0].starts_with(start), "{found:?}, expected {start}");
        }
        assert_eq!(with(&|_| ()), [""; 0]);
    }
}
