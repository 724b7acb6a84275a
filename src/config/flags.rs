//! The flags that stand for values of the configuration, and how they override it.
//!
//!     --listen 0.0.0.0:143 --listen-tls 0.0.0.0:993    these listeners and no others
//!     --backend imap://10.0.0.5 --backend imap://10.0.0.6    [backends.default] with two hosts, and the default route

use std::{
    net::SocketAddr,
    path::{self, PathBuf},
};

use clap::Args;

use super::{
    Config,
    origin::{self, Origin, Origins},
};
use crate::io::{
    admin::Address,
    backends::Url,
    listener::{Listener, Security},
};

/// What the command line says about the configuration. Files named here are relative to the current directory.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Listen here for IMAP with STARTTLS (repeatable; replaces the listeners of the file)
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<SocketAddr>,
    /// Listen here for IMAP with TLS from the first octet (repeatable; replaces the listeners of the file)
    #[arg(long, value_name = "ADDR")]
    pub listen_tls: Vec<SocketAddr>,
    /// The mail store: imap://HOST, imaps://HOST or imap+starttls://HOST, with :PORT if need be (repeatable: tried in order)
    #[arg(long, value_name = "URL")]
    pub backend: Vec<Url>,
    /// Root certificates (PEM) to believe for --backend, instead of the system's
    #[arg(long, value_name = "FILE", requires = "backend")]
    pub backend_ca: Option<PathBuf>,
    /// Where metrics, health and status are served; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Address>,
    /// Directory of what outlives the process: the self-signed certificate, the admin socket
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// The backend that `--backend` defines.
const BACKEND: &str = "default";

impl Flags {
    /// Puts what was said over what the file says.
    pub(super) fn apply(&self, config: &mut Config, origins: &mut Origins) {
        self.apply_listeners(config, origins);
        self.apply_backend(config, origins);
        if let Some(address) = self.admin {
            config.admin.address = address;
            origins.note("admin.address", Origin::Flag("--admin"));
        }
        if let Some(state) = &self.state {
            config.state = absolute(state);
            origins.note("state", Origin::Flag("--state"));
        }
    }

    fn apply_listeners(&self, config: &mut Config, origins: &mut Origins) {
        let starttls = self.listen.iter().map(|address| (*address, Security::Starttls, "--listen"));
        let implicit = self.listen_tls.iter().map(|address| (*address, Security::Implicit, "--listen-tls"));
        let listeners = starttls.chain(implicit).collect::<Vec<_>>();
        if listeners.is_empty() {
            return;
        }
        origins.forget("listeners");
        config.listeners.clear();
        for (index, (address, tls, flag)) in listeners.into_iter().enumerate() {
            let path = origin::element("listeners", index);
            for key in ["address", "tls"] {
                origins.note(origin::key(&path, key), Origin::Flag(flag));
            }
            config.listeners.push(Listener::at(address, tls));
        }
    }

    fn apply_backend(&self, config: &mut Config, origins: &mut Origins) {
        if self.backend.is_empty() {
            return;
        }
        let backend = config.backends.entry(BACKEND.to_owned()).or_default();
        backend.urls.clone_from(&self.backend);
        config.routing.default = Some(BACKEND.to_owned());
        origins.forget("backends.default.urls");
        origins.note("backends.default.urls", Origin::Flag("--backend"));
        origins.note("routing.default", Origin::Flag("--backend"));
        if let Some(ca) = &self.backend_ca {
            backend.ca = Some(absolute(ca));
            origins.note("backends.default.ca", Origin::Flag("--backend-ca"));
        }
    }
}

/// The same name from wherever it is looked at; as it stands where there is no current directory.
fn absolute(name: &path::Path) -> PathBuf {
    path::absolute(name).unwrap_or_else(|_| name.to_owned())
}
