//! Who sends what devices are told: `[outband]` of the configuration, as channels and their carriers.
//!
//!     [outband]
//!     udp = true
//!     webpush = { contact = "mailto:postmaster@example.org" }
//!
//! A channel runs where its section stands; only then a device may ask for it, and a capability promises it (requirement N20). What is secret
//! stands in files.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    carrier::{
        Places,
        datagram::Datagrams,
        http::{Http, Settings},
        sip::{self, Sip},
        smpp::{self, Smpp},
        smtp::{self, Smtp},
        xmpp::{self, Xmpp},
    },
    network::Network,
    seal::{Seal, SealError},
    tls::{self, TlsError},
    vapid::{self, VapidFileError},
};
use crate::{
    account::channel::Kind,
    account::presence::Attention,
    imap::Secret,
    outband::{
        channel::{Answer, Channel, Delivery, Receipt},
        channels::{
            deltachat::DeltaChat,
            kannel::Kannel,
            mailto::Mailto,
            mms::Mms,
            smpp::Smpp as ShortMessages,
            udp::Udp,
            webhook::{SecretError, SigningSecret, Webhook},
            webpush::WebPush,
            xmpp::Xmpp as XmppMessages,
        },
        desk::{Channels, Rules},
        patience::Patience,
        quota::Quota,
    },
    units::Span,
};

/// `[outband]`: how devices that are away are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outband {
    /// Who looks after mailboxes while a device is away.
    pub watch: Mode,
    /// The login for all users, of `watch = "master"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<Master>,
    /// A file with the key that seals secrets, of `watch = "sealed"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal_key_file: Option<PathBuf>,
    /// How long a connection is kept behind the last session of its account, of `watch = "linger"`.
    pub linger: Span,
    /// From one look at a mailbox to the next, where nothing tells of news.
    pub every: Span,
    /// Over how long the first connections of all accounts are spread behind a start.
    pub spread: Span,
    /// How often, and for how long, a device is told.
    pub patience: Patience,
    /// When a device counts as there.
    pub presence: Attention,
    /// The channels over which an address has to be confirmed before anything is told there: a user may write down a stranger's.
    pub confirm: Vec<Kind>,
    /// What an account may have of all this.
    pub quota: Quota,
    /// Networks inside to which users may send us all the same.
    pub allow: Vec<Network>,
    /// Datagrams to devices.
    pub udp: bool,
    /// Web Push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webpush: Option<WebPushSender>,
    /// Webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSender>,
    /// The notifier of Delta Chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deltachat: Option<DeltaChatSender>,
    /// Short messages.
    pub sms: Sms,
    /// Multimedia messages (MM7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mms: Option<MmsSender>,
    /// SIP MESSAGE (RFC 3428).
    pub sip: sip::Settings,
    /// Mails (RFC 5436).
    pub mail: smtp::Settings,
    /// Messages of XMPP (RFC 5437).
    pub xmpp: xmpp::Settings,
}

/// `[outband.sms]`: one of two ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// A link to an SMSC.
    pub smpp: smpp::Settings,
    /// By way of Kannel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kannel: Option<KannelSender>,
}

/// Who looks after mailboxes while a device is away (architecture section 12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A connection that is logged in while a session of the account is there, and kept when it has gone: no secret is stored, and none is
    /// remembered beyond the session.
    #[default]
    Linger,
    /// A login for all users, at any time.
    Master,
    /// As `Linger`; of users who want it, the secret is kept besides, sealed with a key that is not in the store.
    Sealed,
    /// Nobody.
    Off,
}

/// A login that may act for all users (RFC 4616, authzid).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Master {
    /// Its name at the backends.
    pub user: String,
    /// A file with its password.
    pub password_file: PathBuf,
}

/// `[outband.webpush]` (RFC 8030).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebPushSender {
    /// Whom push services may turn to: `mailto:` or `https:` (RFC 8292 section 2.1).
    pub contact: String,
    /// How long a push service shall keep a message.
    #[serde(default = "day")]
    pub ttl: Span,
}

/// `[outband.webhook]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSender {
    /// A file with the secret that signs: `whsec_` and base64.
    pub secret_file: PathBuf,
    /// Who we are: `imap://imap.example.org/`.
    pub source: String,
}

/// `[outband.deltachat]`: the operator agrees with the notifier's terms by writing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaChatSender {
    /// Its URL: `https://notifications.delta.chat/notify`.
    pub notifier: String,
}

/// `[outband.sms.kannel]`: a group `sendsms-user` there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KannelSender {
    /// `http://localhost:13013/cgi-bin/sendsms`, on this host or over TLS.
    pub url: String,
    /// Its user.
    pub user: String,
    /// A file with the user's password.
    pub password_file: PathBuf,
    /// Whom messages are from, where Kannel does not know that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For how long the network may try.
    #[serde(default = "hour")]
    pub validity: Span,
}

/// `[outband.mms]`: a value added service of an MMSC (3GPP TS 23.140, MM7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmsSender {
    /// `https://mmsc.example.net/mm7`; without TLS the password is in clear.
    pub url: String,
    /// Its user; none: it knows us by our address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file with the user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Who we are to it: the provider, ...
    pub vaspid: String,
    /// ... and its service.
    pub vasid: String,
    /// The version of MM7 that it speaks.
    #[serde(default = "mm7_version")]
    pub version: String,
    /// The schema of that version.
    #[serde(default = "mm7_schema")]
    pub schema: String,
    /// The subject of messages.
    #[serde(default = "new_mail")]
    pub subject: String,
    /// For how long the network may try.
    #[serde(default = "hour")]
    pub validity: Span,
    /// EXTENDED goes by MMS too. It says that you take the network for private enough.
    #[serde(default)]
    pub private: bool,
}

fn mm7_version() -> String {
    "6.8.0".to_owned()
}

fn mm7_schema() -> String {
    "REL-6-MM7-1-4".to_owned()
}

fn new_mail() -> String {
    "New mail".to_owned()
}

fn day() -> Span {
    Span::minutes(24 * 60)
}

fn hour() -> Span {
    Span::minutes(60)
}

/// Why nobody can send.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// A file with a secret.
    #[error("{key}: {}: {source}", file.display())]
    Read {
        /// The key that names it.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What stands in one.
    #[error("outband.webhook.secret_file: {0}")]
    Secret(#[from] SecretError),
    /// The key for push services.
    #[error("outband.webpush: {0}")]
    Vapid(#[from] VapidFileError),
    /// HTTP.
    #[error("outband: {0}")]
    Http(#[from] reqwest::Error),
    /// The link to the SMSC.
    #[error(transparent)]
    Smpp(#[from] smpp::SettingsError),
    /// The submission server.
    #[error(transparent)]
    Mail(#[from] smtp::SettingsError),
    /// SIP.
    #[error(transparent)]
    Sip(#[from] sip::SipError),
    /// The XMPP server.
    #[error(transparent)]
    Xmpp(#[from] xmpp::SettingsError),
    /// The roots of TLS.
    #[error("outband.sip: {0}")]
    Tls(#[from] TlsError),
    /// Two ways for short messages.
    #[error("outband.sms: short messages go by smpp or by kannel, and both stand there")]
    TwoWays,
    /// A user without a password, or the other way round.
    #[error("outband.mms: user and password_file stand there together, or neither does")]
    MmsLogin,
    /// The key that seals.
    #[error("outband.seal_key_file: {}: {source}", file.display())]
    Seal {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: SealError,
    },
    /// `watch = "sealed"` without a key.
    #[error("outband.watch: \"sealed\" needs outband.seal_key_file")]
    NoSeal,
    /// `watch = "master"` and nobody to log in as.
    #[error("outband.watch: \"master\" needs outband.master")]
    Master,
}

/// The channels and their carriers.
pub struct Senders {
    /// The channels over which somebody sends.
    pub channels: Arc<Channels>,
    /// How patient we are.
    pub rules: Arc<Rules>,
    /// The login for all users.
    pub master: Option<(Arc<str>, Secret)>,
    /// What seals the secrets of users, where that is done.
    pub seal: Option<Seal>,
    http: Http,
    datagrams: Datagrams,
    sip: Option<Sip>,
    smpp: Option<Smpp>,
    mail: Option<Smtp>,
    xmpp: Option<Xmpp>,
}

/// What came back, and what may still come.
pub struct Carried {
    /// The answer.
    pub answer: Answer,
    /// What the network says later, if it says anything.
    pub receipt: Option<oneshot::Receiver<Receipt>>,
}

impl Outband {
    /// The channels over which somebody is to send.
    pub fn running(&self) -> Vec<Kind> {
        let sms = self.sms.kannel.is_some() || self.sms.smpp.server.is_some();
        let table = [
            (Kind::Sms, sms),
            (Kind::Mms, self.mms.is_some()),
            (Kind::Sip, self.sip.from.is_some()),
            (Kind::Xmpp, self.xmpp.server.is_some()),
            (Kind::Udp, self.udp),
            (Kind::WebPush, self.webpush.is_some()),
            (Kind::Webhook, self.webhook.is_some()),
            (Kind::Mailto, self.mail.server.is_some()),
            (Kind::DeltaChat, self.deltachat.is_some()),
        ];
        let runs = self.watch != Mode::Off;
        table.into_iter().filter(|(_, is_there)| runs && *is_there).map(|(kind, _)| kind).collect()
    }

    /// Whether connections of clients that have gone are kept.
    pub fn lingers(&self) -> bool {
        matches!(self.watch, Mode::Linger | Mode::Sealed)
    }

    /// The files that it names, with their keys, and whether what stands in them is secret.
    pub fn files_mut(&mut self) -> Vec<(&'static str, bool, &mut PathBuf)> {
        let mut files = vec![
            ("outband.sip.password_file", true, self.sip.password_file.as_mut()),
            ("outband.mail.password_file", true, self.mail.password_file.as_mut()),
            ("outband.mail.ca", false, self.mail.ca.as_mut()),
            ("outband.xmpp.password_file", true, self.xmpp.password_file.as_mut()),
            ("outband.xmpp.ca", false, self.xmpp.ca.as_mut()),
            ("outband.sms.smpp.password_file", true, self.sms.smpp.password_file.as_mut()),
            ("outband.sms.smpp.ca", false, self.sms.smpp.ca.as_mut()),
        ];
        files.push((
            "outband.sms.kannel.password_file",
            true,
            self.sms.kannel.as_mut().map(|one| &mut one.password_file),
        ));
        let mms = self.mms.as_mut().and_then(|one| one.password_file.as_mut());
        files.push(("outband.mms.password_file", true, mms));
        files.push(("outband.seal_key_file", true, self.seal_key_file.as_mut()));
        files.push(("outband.webhook.secret_file", true, self.webhook.as_mut().map(|one| &mut one.secret_file)));
        files.push(("outband.master.password_file", true, self.master.as_mut().map(|one| &mut one.password_file)));
        files.into_iter().filter_map(|(key, secret, file)| Some((key, secret, file?))).collect()
    }

    /// Makes the channels, and the key for push services where there is none.
    pub fn senders(&self, state: &Path) -> Result<Senders, SenderError> {
        let mut channels = Channels::new();
        let mut add = |channel: Arc<dyn Channel>| _ = channels.insert(channel.kind(), channel);
        if self.udp {
            add(Arc::new(Udp));
        }
        if let Some(WebPushSender { contact, ttl }) = &self.webpush {
            add(Arc::new(WebPush::new(vapid::load(state, contact)?, ttl.0)));
        }
        if let Some(WebhookSender { secret_file, source }) = &self.webhook {
            let secret = read("outband.webhook.secret_file", secret_file)?;
            let secret: SigningSecret = String::from_utf8_lossy(secret.expose()).parse()?;
            add(Arc::new(Webhook { secret, source: source.clone() }));
        }
        if let Some(DeltaChatSender { notifier }) = &self.deltachat {
            add(Arc::new(DeltaChat { notifier: notifier.clone() }));
        }
        if let Some(KannelSender { url, user, password_file, from, validity }) = &self.sms.kannel {
            let password = read("outband.sms.kannel.password_file", password_file)?;
            let (url, user, from) = (url.clone(), user.clone(), from.clone());
            add(Arc::new(Kannel { url, user, password, from, validity: validity.0 }));
        }
        if let Some(sender) = &self.mms {
            add(Arc::new(sender.channel()?));
        }
        let places = Places::new(self.allow.clone());
        let sip = match self.sip.channel() {
            Some(channel) => {
                add(Arc::new(channel));
                Some(Sip::new(self.sip.clone(), places.clone(), tls::believe(None)?)?)
            }
            None => None,
        };
        let mail = Smtp::new(&self.mail)?;
        if mail.is_some() {
            add(Arc::new(Mailto { from: self.mail.from.clone(), private: self.mail.private }));
        }
        let xmpp = Xmpp::begin(&self.xmpp)?;
        if xmpp.is_some() {
            add(Arc::new(XmppMessages { subject: self.xmpp.subject.clone(), private: self.xmpp.private }));
        }
        if self.sms.kannel.is_some() && self.sms.smpp.server.is_some() {
            return Err(SenderError::TwoWays);
        }
        let smpp = Smpp::begin(&self.sms.smpp)?;
        if smpp.is_some() {
            add(Arc::new(ShortMessages { text: self.sms.smpp.text }));
        }
        let master = match (&self.master, self.watch) {
            (Some(Master { user, password_file }), Mode::Master) => {
                Some((user.as_str().into(), read("outband.master.password_file", password_file)?))
            }
            (None, Mode::Master) => return Err(SenderError::Master),
            _ => None,
        };
        let seal = match (self.watch, &self.seal_key_file) {
            (Mode::Sealed, Some(file)) => {
                Some(Seal::load(file).map_err(|source| SenderError::Seal { file: file.clone(), source })?)
            }
            (Mode::Sealed, None) => return Err(SenderError::NoSeal),
            _ => None,
        };
        let (patience, presence) = (self.patience.clone(), self.presence.clone());
        let rules = Rules { patience, presence, quota: self.quota.clone() };
        Ok(Senders {
            channels: Arc::new(channels),
            rules: Arc::new(rules),
            master,
            seal,
            http: Http::new(Settings { places: places.clone(), ..Settings::default() })?,
            datagrams: Datagrams::new(places),
            sip,
            smpp,
            mail,
            xmpp,
        })
    }
}

impl MmsSender {
    fn channel(&self) -> Result<Mms, SenderError> {
        if self.user.is_some() != self.password_file.is_some() {
            return Err(SenderError::MmsLogin);
        }
        let password = self.password_file.as_deref().map(|file| read("outband.mms.password_file", file)).transpose()?;
        let Self { url, user, vaspid, vasid, version, schema, subject, validity, private, .. } = self.clone();
        let password = password.unwrap_or_else(|| Secret::new(Vec::new()));
        let validity = validity.0;
        Ok(Mms { url, user, password, vaspid, vasid, version, schema, subject, validity, private })
    }
}

impl Default for Outband {
    fn default() -> Self {
        Self {
            watch: Mode::default(),
            master: None,
            seal_key_file: None,
            linger: Span::minutes(14 * 24 * 60),
            every: Span::seconds(60),
            spread: Span::seconds(60),
            patience: Patience::default(),
            presence: Attention::default(),
            confirm: vec![Kind::Sms, Kind::Mms, Kind::Sip, Kind::Xmpp, Kind::Udp, Kind::Webhook, Kind::Mailto],
            quota: Quota::default(),
            allow: Vec::new(),
            udp: false,
            webpush: None,
            webhook: None,
            deltachat: None,
            sms: Sms::default(),
            mms: None,
            sip: sip::Settings::default(),
            mail: smtp::Settings::default(),
            xmpp: xmpp::Settings::default(),
        }
    }
}

impl Senders {
    /// Carries what is to be carried, and says what came back.
    pub async fn carry(&self, delivery: &Delivery) -> Carried {
        let mut receipt = None;
        let answer = match delivery {
            Delivery::Http(request) => self.http.carry(request).await,
            Delivery::Datagram(datagram) => self.datagrams.carry(datagram).await,
            Delivery::Sip(message) => match &self.sip {
                Some(sip) => sip.carry(message).await,
                None => Answer::Unreachable,
            },
            Delivery::ShortMessages(messages) => match &self.smpp {
                Some(smpp) => {
                    let (say, hear) = oneshot::channel();
                    receipt = Some(hear);
                    smpp.carry(messages, say).await
                }
                None => Answer::Unreachable,
            },
            Delivery::Mail(mail) => match &self.mail {
                Some(smtp) => smtp.carry(mail).await,
                None => Answer::Unreachable,
            },
            Delivery::Xmpp(message) => match &self.xmpp {
                Some(xmpp) => {
                    let (say, hear) = oneshot::channel();
                    receipt = Some(hear);
                    xmpp.carry(message, say).await
                }
                None => Answer::Unreachable,
            },
        };
        Carried { answer, receipt }
    }
}

impl fmt::Debug for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.channels.keys()).finish()
    }
}

/// The secret in a file: all of it, without blanks and line ends around it.
fn read(key: &'static str, file: &Path) -> Result<Secret, SenderError> {
    let octets = fs::read(file).map_err(|source| SenderError::Read { key, file: file.to_owned(), source })?;
    Ok(Secret::new(octets.trim_ascii().to_vec()))
}

/// How long an IDLE of a watch lasts at most (RFC 2177: 29 minutes).
pub const RENEWAL: Duration = Duration::from_secs(28 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn outband(text: &str) -> Outband {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_channel_runs_where_its_section_stands() {
        assert_eq!(outband("").running(), []);
        let text = "udp = true\nwebpush = { contact = \"mailto:a@example.org\" }";
        assert_eq!(outband(text).running(), [Kind::Udp, Kind::WebPush]);
        assert_eq!(outband(&format!("watch = \"off\"\n{text}")).running(), [], "nobody looks");
        let state = tempfile::tempdir().unwrap();
        let senders = outband(text).senders(state.path()).unwrap();
        assert_eq!(senders.channels.keys().collect::<Vec<_>>(), [&Kind::Udp, &Kind::WebPush]);
    }

    #[tokio::test]
    async fn messages_of_xmpp_and_mms_run_where_their_places_are_named() {
        let state = tempfile::tempdir().unwrap();
        let secret = state.path().join("secret");
        fs::write(&secret, "secret\n").unwrap();
        let text = format!(
            "xmpp = {{ server = \"localhost:1\", jid = \"notify.localhost\", password_file = {secret:?} }}\n\
             mms = {{ url = \"http://localhost:1/\", vaspid = \"a\", vasid = \"b\", user = \"c\", password_file = {secret:?} }}"
        );
        let mut outband = outband(&text);
        assert_eq!(outband.running(), [Kind::Mms, Kind::Xmpp]);
        let files: Vec<_> = outband.files_mut().into_iter().map(|(key, is_secret, _)| (key, is_secret)).collect();
        assert_eq!(files, [("outband.xmpp.password_file", true), ("outband.mms.password_file", true)]);
        let senders = outband.senders(state.path()).unwrap();
        assert_eq!(senders.channels.keys().collect::<Vec<_>>(), [&Kind::Mms, &Kind::Xmpp]);
    }

    #[test]
    fn what_is_wrong_names_its_key_and_no_secret() {
        let state = tempfile::tempdir().unwrap();
        let secret = state.path().join("secret");
        fs::write(&secret, "whsec_short\n").unwrap();
        for (text, expected) in [
            ("watch = \"master\"".to_owned(), "outband.watch: "),
            (
                "watch = \"master\"\nmaster = { user = \"m\", password_file = \"/nowhere\" }".to_owned(),
                "outband.master.password_file: /nowhere",
            ),
            (
                format!("webhook = {{ secret_file = {secret:?}, source = \"imap://x/\" }}"),
                "outband.webhook.secret_file: ",
            ),
            ("webpush = { contact = \"nobody\" }".to_owned(), "outband.webpush: "),
            (
                "xmpp = { server = \"localhost:5347\", jid = \"notify.localhost\", password_file = \"/nowhere\" }"
                    .to_owned(),
                "outband.xmpp.password_file: /nowhere",
            ),
            ("mms = { url = \"https://x/\", vaspid = \"a\", vasid = \"b\", user = \"c\" }".to_owned(), "outband.mms: "),
        ] {
            let error = outband(&text).senders(state.path()).unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("whsec_short"), "{error}");
        }
    }
}
