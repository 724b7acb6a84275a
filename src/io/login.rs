//! From a user's name to a connection with the right backend, and what is held while the login is under way.
//!
//!     route -> delay after failures -> sessions of the user -> a turn at the backend -> connect

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    admission::{Door, UserSession},
    backends::Scheme,
    dialer::{Connection, Dialer, Host},
    listener::Listening,
    metrics::{Held, Outcome, Peer},
    proxy_header::Ends,
    routing::Route,
    shell::Shell,
    transport::Transport,
};
use crate::{
    session::{
        effect::{DialError, Dialled, Origin},
        plan::Plan,
    },
    store::AccountName,
};

/// A connection that stands, for a login that is under way.
pub struct Connected {
    /// The connection.
    pub transport: Transport,
    /// What the session is told.
    pub dialled: Box<Dialled>,
    /// What is held until the backend has answered.
    pub login: Login,
}

/// A login under way. Dropping it says that it came to nothing, through nobody's fault.
pub struct Login {
    dialer: Arc<Dialer>,
    host: Arc<Host>,
    /// The user's name at the backend; the client's own word for it may be known only later.
    name: Option<Arc<str>>,
    account: Option<Arc<str>>,
    address: IpAddr,
    door: Arc<Door>,
    session: Option<UserSession>,
    _turn: OwnedSemaphorePermit,
    _counted: Held,
}

impl Login {
    /// The backend accepted it. What is returned is to be kept for as long as the session lasts.
    pub fn authenticated(self, plan: Option<&Arc<Plan>>) -> Option<UserSession> {
        if let Some(account) = &self.account {
            self.door.succeeded(account);
        }
        let known = self.dialer.plan.load();
        if let Some(plan) = plan
            && !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, plan))
        {
            self.dialer.plan.store(Some(plan.clone()));
        }
        self.session
    }

    /// Whose mail it is, as the store names accounts. `user` is the client's word, which may be known only now; `acting`: in
    /// whose name, if not in their own.
    pub fn owner(&self, user: Option<&str>, acting: Option<&str>) -> Option<AccountName> {
        let rewritten = |name: &str| self.dialer.settings.user.rewrite(name).into();
        let user = acting.map(rewritten).or_else(|| self.name.clone()).or_else(|| user.map(rewritten))?;
        Some(AccountName { backend: self.dialer.name.clone(), user })
    }

    /// The backend refused it. `user` is the client's word, which may be known only now.
    pub fn refused(self, user: Option<&str>) {
        let late = || Some(account(&self.dialer, &self.dialer.settings.user.rewrite(user?)));
        let account = self.account.clone().or_else(late);
        self.door.failed(account.as_deref(), self.address, Instant::now());
    }

    /// The backend's name.
    pub fn backend(&self) -> Arc<str> {
        self.dialer.name.clone()
    }

    /// Begins TLS with the backend, after STARTTLS. It has as long as a connection may take.
    pub fn upgrade(&self, transport: Transport) -> impl Future<Output = io::Result<Transport>> + Send + use<> {
        let (dialer, host) = (self.dialer.clone(), self.host.clone());
        async move {
            let trust = dialer.trust.clone().ok_or_else(|| io::Error::other("this backend has no TLS"))?;
            let deadline = tokio::time::Instant::now() + dialer.settings.connect_timeout.0;
            transport.connect_tls(host.name.clone(), trust, deadline).await
        }
    }
}

/// Two names of one user, or one name at two backends, are told apart as the backends tell them apart.
fn account(dialer: &Dialer, name: &str) -> Arc<str> {
    format!("{} {name}", dialer.name).into()
}

impl Shell {
    /// Finds the backend of this user and connects to it. `session` is the session's name in the logs.
    ///
    /// Without a user (CRAM-MD5, where the backend speaks first) the listener must have one backend only. `again`: the session
    /// has its place among those of the user.
    pub async fn dial(
        self: Arc<Self>,
        listening: Arc<Listening>,
        ends: Ends,
        session: Box<str>,
        user: Option<Arc<str>>,
        again: bool,
    ) -> Result<Connected, DialError> {
        let (dialer, name) = self.find_backend(&listening.dialers, user.as_deref()).await?;
        let account = user.is_some().then(|| account(&dialer, &name));
        let address = ends.client.ip();
        let delay = self.door.delay(account.as_deref(), address, Instant::now())?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let held = account.as_ref().filter(|_| !again).map(|account| self.door.admit_user(account)).transpose()?;
        let turn = dialer.begin_login().await?;
        // Others may have failed meanwhile: a thousand guesses that came at once shall not all be made.
        self.door.delay(account.as_deref(), address, Instant::now())?;
        let Connection { transport, host } = self.connect(&dialer, Some(&ends)).await?;
        let dialled = Dialled {
            backend: dialer.name.clone(),
            user: name.clone(),
            starttls: host.url.scheme == Scheme::Starttls,
            origin: dialer.settings.trusted.then(|| origin(&ends, session)),
            profile: dialer.settings.named_profile(),
            look: dialer.learning.look(&name, Instant::now()),
            pace: dialer.settings.pace,
            auxiliary: dialer.settings.auxiliary > 0,
        };
        let counted = Held::new(&self.meters.backend(&dialer.name).logins);
        let door = self.door.clone();
        let name = user.is_some().then_some(name);
        let login = Login { dialer, host, name, account, address, door, session: held, _turn: turn, _counted: counted };
        Ok(Connected { transport, dialled: Box::new(dialled), login })
    }

    /// Connects to the backend of an account on nobody's behalf, to log in there under this name.
    pub async fn dial_for(&self, account: &AccountName, name: Arc<str>) -> Result<Connected, DialError> {
        let dialer = self.setup.load().dialers.get(&account.backend).cloned().ok_or(DialError::Unknown)?;
        let turn = dialer.begin_login().await?;
        let Connection { transport, host } = self.connect(&dialer, None).await?;
        let dialled = Dialled {
            backend: dialer.name.clone(),
            user: name.clone(),
            starttls: host.url.scheme == Scheme::Starttls,
            origin: None,
            profile: dialer.settings.named_profile(),
            look: dialer.learning.look(&account.user, Instant::now()),
            pace: dialer.settings.pace,
            auxiliary: false,
        };
        let counted = Held::new(&self.meters.backend(&dialer.name).logins);
        let login = Login {
            dialer,
            host,
            name: Some(name),
            account: None,
            address: Ipv4Addr::UNSPECIFIED.into(),
            door: self.door.clone(),
            session: None,
            _turn: turn,
            _counted: counted,
        };
        Ok(Connected { transport, dialled: Box::new(dialled), login })
    }

    /// The backend of a user, among these, and the user's name there.
    pub async fn find_backend(
        &self,
        dialers: &[Arc<Dialer>],
        user: Option<&str>,
    ) -> Result<(Arc<Dialer>, Arc<str>), DialError> {
        let setup = self.setup.load_full();
        let route = match user {
            Some(user) => setup.router.route(user).await?,
            None => None,
        };
        let dialer = match (&route, dialers) {
            (Some(Route { backend, .. }), dialers) => dialers.iter().find(|dialer| dialer.name == *backend),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let dialer = dialer.ok_or(DialError::Unknown)?;
        let rewritten = || dialer.settings.user.rewrite(user.unwrap_or_default()).into();
        let name = route.and_then(|route| route.user).unwrap_or_else(rewritten);
        Ok((dialer.clone(), name))
    }

    async fn connect(&self, dialer: &Dialer, ends: Option<&Ends>) -> Result<Connection, DialError> {
        let meters = self.meters.backend(&dialer.name);
        let began = Instant::now();
        let result = dialer.connect(ends).await;
        meters.dials[Outcome::of(&result)].increment(1);
        meters.dial_duration.record(began.elapsed());
        if let Ok(connection) = &result
            && connection.transport.is_tls()
        {
            self.meters.handshakes[(Peer::Backend, Outcome::Ok)].increment(1);
        }
        result.map_err(|_| DialError::Down)
    }
}

fn origin(ends: &Ends, session_id: Box<str>) -> Origin {
    Origin {
        ip: ends.client.ip().to_canonical().to_string().into(),
        port: ends.client.port(),
        connected_ip: ends.connected.ip().to_canonical().to_string().into(),
        session_id,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::Config,
        io::{backends::Backend, shell::tests::shell},
    };

    /// A host that accepts connections and says nothing.
    async fn host() -> (TcpListener, Backend) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        (listener, Backend { urls: vec![url.parse().unwrap()], ..Backend::default() })
    }

    async fn dial(shell: &Arc<Shell>, user: Option<&str>) -> Result<Connected, DialError> {
        dial_once_more(shell, user, false).await
    }

    async fn dial_once_more(shell: &Arc<Shell>, user: Option<&str>, again: bool) -> Result<Connected, DialError> {
        let ends =
            Ends { client: "[::ffff:192.0.2.7]:40123".parse().unwrap(), connected: "[::1]:143".parse().unwrap() };
        let listening = shell.setup.load().listenings[0].clone();
        shell.clone().dial(listening, ends, "s1".into(), user.map(Arc::from), again).await
    }

    fn two(config: &mut Config, main: Backend, other: Backend) {
        config.backends = [("main".to_owned(), main), ("other".to_owned(), other)].into();
        config.routing.domains = [("other.org".to_owned(), "other".to_owned())].into();
    }

    #[tokio::test]
    async fn a_user_comes_to_the_backend_of_the_domain_under_the_name_known_there() {
        let (_a, main) = host().await;
        let (_b, mut other) = host().await;
        other.user.strip_domain = true;
        other.trusted = true;
        let (_state, shell) = shell(|config| two(config, main, other));
        let Connected { dialled, transport, .. } = dial(&shell, Some("joe@other.org")).await.unwrap();
        assert_eq!((&*dialled.backend, &*dialled.user, dialled.starttls), ("other", "joe", false));
        let origin = dialled.origin.unwrap();
        assert_eq!((&*origin.ip, origin.port), ("192.0.2.7", 40123));
        assert_eq!((&*origin.connected_ip, &*origin.session_id), ("::1", "s1"));
        assert!(!transport.is_tls());
        assert_eq!(dial(&shell, Some("joe")).await.err(), Some(DialError::Unknown));
        assert_eq!(dial(&shell, None).await.err(), Some(DialError::Unknown));
    }

    #[tokio::test]
    async fn a_listener_leads_to_its_own_backends_only() {
        let (_a, main) = host().await;
        let (_b, other) = host().await;
        let (_state, shell) = shell(|config| {
            two(config, main, other);
            config.listeners[0].backends = vec!["main".to_owned()];
        });
        assert_eq!(&*dial(&shell, Some("joe")).await.unwrap().dialled.backend, "main");
        assert_eq!(&*dial(&shell, None).await.unwrap().dialled.backend, "main");
        assert_eq!(dial(&shell, Some("joe@other.org")).await.err(), Some(DialError::Unknown));
    }

    #[tokio::test]
    async fn a_user_has_so_many_sessions_and_gets_them_back() {
        let (_host, main) = host().await;
        let (_state, shell) = shell(|config| {
            config.backends = [("main".to_owned(), main)].into();
            config.admission.sessions_per_user = 1;
        });
        let session = dial(&shell, Some("joe")).await.unwrap().login.authenticated(None);
        assert_eq!(dial(&shell, Some("joe")).await.err(), Some(DialError::TooManySessions));
        assert!(dial_once_more(&shell, Some("joe"), true).await.is_ok(), "it has its place");
        assert!(dial(&shell, Some("ann")).await.is_ok());
        drop(session);
        assert!(dial(&shell, Some("joe")).await.is_ok());
    }

    #[tokio::test]
    async fn a_user_who_fails_too_often_is_refused_before_the_backend_hears_of_it() {
        let (_host, main) = host().await;
        let (_state, shell) = shell(|config| {
            config.backends = [("main".to_owned(), main)].into();
            config.admission.failures_per_user = 1;
        });
        dial(&shell, Some("joe")).await.unwrap().login.refused(None);
        assert_eq!(dial(&shell, Some("joe")).await.err(), Some(DialError::TooManyFailures));
        assert!(dial(&shell, Some("ann")).await.is_ok());
    }

    #[tokio::test]
    async fn a_backend_that_is_down_is_said_to_be_down_and_counted() {
        let (host, main) = host().await;
        drop(host);
        let (_state, shell) = shell(|config| config.backends = [("main".to_owned(), main)].into());
        assert_eq!(dial(&shell, Some("joe")).await.err(), Some(DialError::Down));
        let counted = "lemonade_backend_connects_total{backend=\"main\",outcome=\"failed\"} 1";
        assert!(shell.meters.render().contains(counted), "{}", shell.meters.render());
    }
}
