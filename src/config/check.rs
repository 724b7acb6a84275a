//! The commands that look at a configuration: `check` and `config show`.
//!
//!     $ lemonade-proxy check --config proxy.toml
//!     error: proxy.toml:7: unknown key `adress`, did you mean `address`?
//!     warning: proxy.toml:12: backends.main.urls[0]: passwords are sent in clear to 10.0.0.5: no TLS on the way ...
//!
//! Both say all there is to say, as far as the file can be read.

use std::{env, ffi::OsString, time::SystemTime};

use super::{
    ConfigError, Draft, Source, files,
    finding::{self, Finding, Severity},
    online,
    show::show,
};

/// What a command has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// 0: all is good, 1: there are warnings, 2: there are errors.
    pub code: u8,
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
}

impl Source {
    /// `check`: every finding, one a line; certificates are judged by this moment.
    pub fn check(&self, now: SystemTime) -> Report {
        self.examined(|name| env::var_os(name), now).report("")
    }

    /// `check --online`: what the backends say of themselves, then every finding. Those of a configuration that cannot run
    /// are not asked.
    pub async fn check_online(&self, now: SystemTime) -> Report {
        let mut draft = self.examined(|name| env::var_os(name), now);
        if finding::worst(&draft.findings) == Some(Severity::Error) {
            return draft.report("");
        }
        let answers = online::ask(&draft.config, &draft.origins).await;
        draft.findings.extend(answers.findings);
        draft.report(&answers.text)
    }

    fn examined(&self, variable: impl Fn(&str) -> Option<OsString>, now: SystemTime) -> Draft {
        let mut draft = self.draft(variable);
        draft.findings.extend(files::judge(&draft.config, &draft.origins, now));
        draft
    }

    /// `config show`: every value and where it came from; on standard error, what is wrong with them.
    pub fn show(&self) -> Report {
        self.show_with(|name| env::var_os(name))
    }

    fn show_with(&self, variable: impl Fn(&str) -> Option<OsString>) -> Report {
        let Draft { config, origins, mut findings } = self.draft(variable);
        findings.retain(|finding| finding.severity == Severity::Error);
        match show(&config, &origins) {
            Ok(out) => Report { code: code(&findings), out, err: lines(&findings) },
            // A file name that is no text has no place in TOML.
            Err(error) => Report { code: 2, out: String::new(), err: format!("error: {error}\n") },
        }
    }
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        Self { code: code(&error.0), out: String::new(), err: lines(&error.0) }
    }
}

impl Draft {
    fn report(&self, text: &str) -> Report {
        Report { code: code(&self.findings), out: format!("{text}{}", lines(&self.findings)), err: String::new() }
    }
}

fn code(findings: &[Finding]) -> u8 {
    match finding::worst(findings) {
        None => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Error) => 2,
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tempfile::TempDir;

    use super::*;

    fn written(text: &str) -> (TempDir, Source) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, text).unwrap();
        (directory, Source { file: Some(file), ..Source::default() })
    }

    fn plain(text: &str, directory: &Path) -> String {
        text.replace(&format!("{}/", directory.display()), "")
    }

    #[test]
    fn the_code_says_how_bad_it_is() {
        for (text, code, out) in [
            ("backends.a.urls = [\"imaps://10.0.0.5\"]", 0, ""),
            (
                "backends.a.urls = [\"imap://10.0.0.5\"]",
                1,
                "warning: f:1: backends.a.urls[0]: passwords are sent in clear to 10.0.0.5: no TLS on the way to imap://10.0.0.5\n",
            ),
            (
                "backends.a.urls = [\"imaps://10.0.0.5\"]\nbackends.a.trsuted = true\n[limits]\nline = \"1 B\"",
                2,
                "error: f:2: unknown key `trsuted`, did you mean `trusted`?\nerror: f:4: limits.line: 1 B is less than 1 KiB\n",
            ),
        ] {
            let (directory, source) = written(text);
            let report = source.examined(|_| Some("/s".into()), SystemTime::UNIX_EPOCH).report("");
            assert_eq!((report.code, plain(&report.out, directory.path()).as_str()), (code, out), "{text}");
        }
    }

    #[test]
    fn every_value_is_shown_with_its_origin() {
        let text =
            "[backends.a]\nurls = [\"imaps://h\"]\n[routing.lookup]\nurl = \"http://joe:secret@h/x?key=secret\"\n";
        let (directory, source) = written(text);
        let report = source.show_with(|_| Some("/s".into()));
        assert_eq!((report.code, report.err.as_str()), (0, ""));
        let out = plain(&report.out, directory.path());
        let squeezed = out.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in [
            "backends.a.urls = [\"imaps://h\"] # f:2",
            "backends.a.connect_timeout = \"5s\" # default",
            "listeners[1].address = \"127.0.0.1:1993\" # default",
            "routing.lookup.url = \"http://***@h/x?***\" # f:4",
            "state = \"/s\" # $STATE_DIRECTORY",
        ] {
            assert!(squeezed.contains(line), "{line}\n{out}");
        }
        assert!(!out.contains("secret"), "{out}");
    }
}
