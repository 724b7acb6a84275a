//! TLS: which certificate we show to clients, and which backends we believe (RFC 8314, RFC 7817).
//!
//! A client names the host it wants (SNI, RFC 6066 3) and gets the first certificate that is good for it, or else the first
//! of all: a mail program that asks by address, or by an old name, then complains about the name and not about TLS.
//! Backends are always verified; there is no switch for it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, verify_server_name},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::certificate;

/// `[tls]`: what we show to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates, chosen by the name the client asks for (SNI); the first one serves all other names. None at all: a
    /// self-signed one is made on first start and kept in the state directory.
    pub certificates: Vec<Certificate>,
}

/// One certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, then those that lead from it to a root.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What was wrong with a certificate, a key or a file of roots.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read, or is not PEM.
    #[error("{}: {source}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// A file has no certificate in it.
    #[error("{}: no certificate in it", .0.display())]
    Empty(PathBuf),
    /// The key is of a kind that we cannot use, or is not the key of the certificate.
    #[error("{}: {source}", file.display())]
    Key {
        /// The file of the key.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A root certificate is not one.
    #[error("{}: {source}", file.display())]
    Root {
        /// The file of roots.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// No root certificate of the system was found.
    #[error("no root certificates found on this system (on Debian they are the package ca-certificates)")]
    NoRoots,
    /// The self-signed certificate could not be made.
    #[error("self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// The self-signed certificate could not be kept.
    #[error("{}: {source}", file.display())]
    Keep {
        /// Where.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TLS library refused what it was given.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// The one provider of cryptography; it is stateless and shared.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// What listeners show, ready for use.
#[derive(Debug)]
pub struct Shown {
    /// For the handshakes.
    pub config: Arc<ServerConfig>,
    /// When the certificate of each chain file ends.
    pub expiries: Vec<(PathBuf, SystemTime)>,
}

impl Tls {
    /// Reads the certificates, making a self-signed one below `state` where there is none.
    pub fn load(&self, state: &Path) -> Result<Shown, TlsError> {
        let own;
        let certificates = match self.certificates.is_empty() {
            true => {
                own = [self_signed(&state.join("tls"))?];
                &own[..]
            }
            false => &self.certificates[..],
        };
        let keys = certificates.iter().map(Certificate::load).collect::<Result<Vec<_>, _>>()?;
        let expiry = |(certificate, key): (&Certificate, &Arc<CertifiedKey>)| {
            Some((certificate.chain.clone(), certificate::expiry(key.end_entity_cert().ok()?)?))
        };
        let expiries = certificates.iter().zip(&keys).filter_map(expiry).collect();
        let config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(keys)));
        Ok(Shown { config: Arc::new(config), expiries })
    }
}

impl Certificate {
    fn load(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = read_certificates(&self.chain)?;
        let wrong = |source| TlsError::Key { file: self.key.clone(), source };
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::File { file: self.key.clone(), source })?;
        let certified = CertifiedKey::from_der(chain, key, &PROVIDER).map_err(wrong)?;
        Ok(Arc::new(certified))
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::File { file: file.to_owned(), source };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if certificates.is_empty() { Err(TlsError::Empty(file.to_owned())) } else { Ok(certificates) }
}

/// Certificates by the names that they are good for.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ByName {
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = match (&self.0[..], name) {
            ([_, _, ..], Some(name)) => ServerName::try_from(name).ok(),
            _ => None,
        };
        let good = |key: &&Arc<CertifiedKey>| named.as_ref().is_some_and(|name| is_good_for(key, name));
        self.0.iter().find(good).or_else(|| self.0.first())
    }
}

fn is_good_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned()
    }
}

/// The self-signed certificate of this directory, made if it is not there: ECDSA with P-256, for this host and loopback.
fn self_signed(directory: &Path) -> Result<Certificate, TlsError> {
    let certificate = Certificate { chain: directory.join("self-signed.pem"), key: directory.join("self-signed.key") };
    if certificate.chain.exists() && certificate.key.exists() {
        return Ok(certificate);
    }
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(host_name());
    let made = rcgen::generate_simple_self_signed(names)?;
    let keep = |source| TlsError::Keep { file: directory.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(keep)?;
    write_file(&certificate.key, 0o600, &made.signing_key.serialize_pem()).map_err(keep)?;
    write_file(&certificate.chain, 0o644, &made.cert.pem()).map_err(keep)?;
    Ok(certificate)
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned();
    let usable = name != "localhost" && matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)));
    usable.then_some(name)
}

/// Writes a file that is either whole or not there, and never readable by others in between.
pub(super) fn write_file(file: &Path, mode: u32, text: &str) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    handle.write_all(text.as_bytes())?;
    handle.sync_all()?;
    fs::rename(&unfinished, file)
}

/// Whom we believe to be a backend: these roots, or the system's. Resumption is that of rustls: a small cache in memory.
pub fn believe(roots: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let store = match roots {
        Some(file) => roots_of(file)?,
        None => system_roots()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), PROVIDER.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots_of(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        store.add(certificate).map_err(|source| TlsError::Root { file: file.to_owned(), source })?;
    }
    Ok(store)
}

/// The system's roots. One that cannot be read is no reason to believe none.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write_pair(directory: &Path, name: &str, names: &[&str]) -> Certificate {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let pair =
            Certificate { chain: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}.key")) };
        fs::write(&pair.chain, made.cert.pem()).unwrap();
        fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
        pair
    }

    #[test]
    fn the_first_certificate_good_for_the_name_is_shown_or_else_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let pairs = [
            write_pair(directory.path(), "a", &["mail.a.example"]),
            write_pair(directory.path(), "b", &["imap.b.example", "*.wild.example"]),
            write_pair(directory.path(), "c", &["x.wild.example"]),
        ];
        let keys = ByName(pairs.iter().map(|pair| pair.load().unwrap()).collect());
        let cases = [
            (Some("mail.a.example"), 0),
            (Some("IMAP.B.example"), 1),
            (Some("x.wild.example"), 1),
            (Some("x.y.wild.example"), 0),
            (Some("unheard.of"), 0),
            (Some("not a name"), 0),
            (None, 0),
        ];
        for (name, index) in cases {
            assert!(Arc::ptr_eq(keys.find(name).unwrap(), &keys.0[index]), "{name:?}");
        }
    }

    #[test]
    fn a_self_signed_certificate_is_made_once_and_its_key_is_ours_alone() {
        let state = tempfile::tempdir().unwrap();
        let shown = Tls::default().load(state.path()).unwrap();
        let key = state.path().join("tls/self-signed.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(shown.expiries[0].1 > SystemTime::now());
        let made = fs::read(&key).unwrap();
        Tls::default().load(state.path()).unwrap();
        assert_eq!(fs::read(&key).unwrap(), made);
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let a = write_pair(directory.path(), "a", &["a.example"]);
        let b = write_pair(directory.path(), "b", &["b.example"]);
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        let cases = [
            (Certificate { chain: a.chain.clone(), key: b.key.clone() }, "b.key"),
            (Certificate { chain: directory.path().join("none.pem"), key: a.key.clone() }, "none.pem"),
            (Certificate { chain: empty.clone(), key: a.key.clone() }, "empty.pem"),
            (Certificate { chain: a.chain.clone(), key: a.chain.clone() }, "a.pem"),
        ];
        for (pair, file) in cases {
            let error = Tls { certificates: vec![pair] }.load(directory.path()).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
        assert!(believe(Some(&empty)).unwrap_err().to_string().contains("empty.pem"));
        assert!(believe(Some(&a.chain)).is_ok());
    }
}
