//! The program: read the configuration, open the listeners, wait for signals.
//!
//!     lemonade-proxy serve --backend imap://HOST
//!     lemonade-proxy check --config proxy.toml --online
//!     lemonade-proxy trace joe on                        speaks to the running one, over STATE/admin.sock
//!     lemonade-proxy events --follow                     the same, until one of the two ends

use std::{
    io::{self, Write as _, stderr, stdout},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use lemonade_proxy::{
    account::device::Wish,
    config::{Source, check::Report, flags::Flags, state_dir},
    io::{
        admin::client::{self, segment},
        receive, serve,
    },
};
use rustls::crypto::aws_lc_rs;
use tokio::runtime;

/// An IMAP proxy that turns any old IMAP server into a modern mobile mail service
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy; SIGHUP reloads, SIGTERM drains
    Serve(Source),
    /// Say what is wrong with a configuration; exit code 0: nothing, 1: warnings, 2: errors
    Check {
        /// What to look at.
        #[command(flatten)]
        source: Source,
        /// Also ask every backend: TLS, greeting, capabilities, and what the proxy would add
        #[arg(long)]
        online: bool,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say how the running proxy is: sessions by state, backends, listeners
    Status(Running),
    /// List the sessions of the running proxy, as JSON
    Sessions {
        /// Of this user only
        user: Option<String>,
        /// Which proxy.
        #[command(flatten)]
        running: Running,
    },
    /// End a session of the running proxy
    Kick {
        /// The session, as logs and `sessions` name it
        session: String,
        /// Which proxy.
        #[command(flatten)]
        running: Running,
    },
    /// Write down what is said in the sessions of one user, secrets struck out; without a user, list whose are
    Trace {
        /// The user
        user: Option<String>,
        /// Begin or end it
        #[arg(default_value = "on")]
        switch: Switch,
        /// Which proxy.
        #[command(flatten)]
        running: Running,
    },
    /// Look at the devices of a user, or change them
    #[command(subcommand)]
    Devices(DevicesCommand),
    /// Look at how devices that are away are told, or change it
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Say what has become of a message, for a device: when it was seen, which notice told of it, what was answered, and the reaction
    Explain {
        /// Whose, and for which.
        #[command(flatten)]
        device: Named,
        /// The mailbox
        mailbox: String,
        /// The message's UID
        uid: u32,
    },
    /// Remove all that is kept of a user, and say what that was
    Purge {
        /// Whose.
        #[command(flatten)]
        person: Person,
    },
    /// Follow what happens in the message store, as lines of JSON: logins, messages that come and go, flags, mailboxes, quotas
    Events {
        /// Go on until you stop it (Ctrl-C), or the proxy ends
        #[arg(long, required = true)]
        follow: bool,
        /// Of this user only
        #[arg(long)]
        user: Option<String>,
        /// Which proxy.
        #[command(flatten)]
        running: Running,
    },
    /// Listen for notices as a device does, and say what comes: EMN and XEMN in clear, or with a key what is sealed, which is acknowledged
    Receive {
        /// Where
        #[arg(long, value_name = "ADDR")]
        udp: SocketAddr,
        /// The device's key, as in its address: a1b2c3d4:AAEC...; several keys are a line each
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// End after so many notices, not only when you stop it (Ctrl-C)
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Make the running proxy read its configuration, certificates and tables again
    Reload(Running),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every value in force and where it comes from, secrets struck out
    Show(Source),
}

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// List the devices of a user, as JSON
    List {
        /// Whose.
        #[command(flatten)]
        person: Person,
    },
    /// Say what holds for a device: its own word, its default, or what is built in
    Show {
        /// Whose, and which.
        #[command(flatten)]
        device: Named,
    },
    /// Set what a device prefers, with the checks that the device itself would go through
    Set {
        /// Whose, and which.
        #[command(flatten)]
        device: Named,
        /// For this mailbox; without it, the device's default for all mailboxes
        #[arg(long, value_name = "MAILBOX")]
        mailbox: Option<String>,
        /// Over which channel it is told while it is away, and how much: SMS=WAKEUP; NONE for none
        #[arg(long, value_name = "KIND=FORMAT")]
        channel: Option<String>,
        /// Where: a telephone number, a URI, endpoint|p256dh|auth, ...; empty to take it back, as with all of these
        #[arg(long)]
        address: Option<String>,
        /// At most so much a day: size=OCTETS, total=NUMBER
        #[arg(long)]
        limit: Option<String>,
        /// Which events: ALL, NEW or NONE
        #[arg(long)]
        filter: Option<String>,
        /// What is sent of new messages while it is connected: (UID FLAGS)
        #[arg(long)]
        msgformat: Option<String>,
        /// Whether that is sent unasked: push or pull
        #[arg(long)]
        push: Option<String>,
    },
    /// Forget a device, and all that is its own
    Forget {
        /// Whose, and which.
        #[command(flatten)]
        device: Named,
    },
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// List the routes of all users to their devices, as JSON
    List(Running),
    /// Show those of one user
    Show {
        /// Whose.
        #[command(flatten)]
        person: Person,
    },
    /// Tell a device again of what it has not seen
    Retry {
        /// Whose, and which.
        #[command(flatten)]
        device: Named,
    },
    /// Tell a device of nothing that has come so far
    Drop {
        /// Whose, and which.
        #[command(flatten)]
        device: Named,
    },
    /// Ask a device to sign in, where it will read what has changed for it
    SignIn {
        /// Whose, and which.
        #[command(flatten)]
        device: Named,
    },
}

/// A user of the running proxy.
#[derive(Args, Debug)]
struct Person {
    /// The user, as at login
    user: String,
    /// The user's backend, where several may have one of this name
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Which proxy.
    #[command(flatten)]
    running: Running,
}

/// A device of a user.
#[derive(Args, Debug)]
struct Named {
    /// Whose.
    #[command(flatten)]
    person: Person,
    /// The device
    device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The proxy that runs with this state directory.
#[derive(Args, Debug)]
struct Running {
    /// Its configuration file (TOML), if that names the state directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Fails only if there is one already, and then that one serves.
    let _ = aws_lc_rs::default_provider().install_default();
    match command {
        Command::Serve(source) => run(&source),
        Command::Check { source, online: false } => told(&source.check(SystemTime::now())),
        Command::Check { source, online: true } => check_online(&source),
        Command::Config(ConfigCommand::Show(source)) => told(&source.show()),
        Command::Status(running) => running.ask("GET", "/statusz"),
        Command::Sessions { user: None, running } => running.ask("GET", "/sessions"),
        Command::Sessions { user: Some(user), running } => {
            running.ask("GET", &format!("/sessions?user={}", segment(&user)))
        }
        Command::Kick { session, running } => running.ask("POST", &format!("/sessions/{}/kick", segment(&session))),
        Command::Trace { user: None, running, .. } => running.ask("GET", "/trace"),
        Command::Trace { user: Some(user), switch, running } => {
            running.ask(switch.method(), &format!("/trace/{}", segment(&user)))
        }
        Command::Devices(command) => command.run(),
        Command::Queue(command) => command.run(),
        Command::Explain { device, mailbox, uid } => device.explain(&mailbox, uid),
        Command::Purge { person } => person.ask("DELETE", "/accounts/", "", ""),
        Command::Events { user: None, running, .. } => running.follow("/events"),
        Command::Events { user: Some(user), running, .. } => {
            running.follow(&format!("/events?user={}", segment(&user)))
        }
        Command::Receive { udp, key_file, count } => match receive::run(udp, key_file.as_deref(), count, said) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
        Command::Reload(running) => running.ask("POST", "/reload"),
    }
}

fn run(source: &Source) -> ExitCode {
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(error) => return told(&error.into()),
    };
    let state = &loaded.config.state;
    if let Err(error) = state_dir::create(state) {
        return failed(&format!("{}: {error}", state.display()));
    }
    match serve::run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn check_online(source: &Source) -> ExitCode {
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => told(&runtime.block_on(source.check_online(SystemTime::now()))),
        Err(error) => failed(&error.to_string()),
    }
}

impl Switch {
    const fn method(self) -> &'static str {
        match self {
            Self::On => "PUT",
            Self::Off => "DELETE",
        }
    }
}

impl DevicesCommand {
    fn run(self) -> ExitCode {
        match self {
            Self::List { person } => person.ask("GET", "/devices/", "", ""),
            Self::Show { device } => device.ask("GET", ""),
            Self::Forget { device } => device.ask("DELETE", ""),
            Self::Set { device, mailbox, channel, address, limit, filter, msgformat, push } => {
                let wish = Wish { mailbox, channel, address, limit, filter, msgformat, push };
                device.ask("PUT", &serde_json::to_string(&wish).unwrap_or_default())
            }
        }
    }
}

impl QueueCommand {
    fn run(self) -> ExitCode {
        match self {
            Self::List(running) => running.ask("GET", "/queue"),
            Self::Show { person } => person.ask("GET", "/queue/", "", ""),
            Self::Retry { device } => device.ask_at("POST", "/queue/", ""),
            Self::Drop { device } => device.ask_at("DELETE", "/queue/", ""),
            Self::SignIn { device } => device.ask_at("PUT", "/queue/", ""),
        }
    }
}

impl Person {
    fn ask(self, method: &str, root: &str, below: &str, body: &str) -> ExitCode {
        let sign = if below.contains('?') { '&' } else { '?' };
        let query = self.backend.map(|name| format!("{sign}backend={}", segment(&name))).unwrap_or_default();
        self.running.ask_with(method, &format!("{root}{}{below}{query}", segment(&self.user)), body)
    }
}

impl Named {
    fn ask(self, method: &str, body: &str) -> ExitCode {
        self.ask_at(method, "/devices/", body)
    }

    fn ask_at(self, method: &str, root: &str, body: &str) -> ExitCode {
        self.person.ask(method, root, &format!("/{}", segment(&self.device)), body)
    }

    fn explain(self, mailbox: &str, uid: u32) -> ExitCode {
        let below = format!("/{}?mailbox={}&uid={uid}", segment(&self.device), segment(mailbox));
        self.person.ask("GET", "/explain/", &below, "")
    }
}

impl Running {
    fn ask(self, method: &str, path: &str) -> ExitCode {
        self.ask_with(method, path, "")
    }

    /// Where it keeps its state.
    fn directory(self) -> PathBuf {
        Source { file: self.config, flags: Flags { state: self.state, ..Flags::default() } }.state()
    }

    fn follow(self, path: &str) -> ExitCode {
        match client::follow(&self.directory(), path, said) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        }
    }

    fn ask_with(self, method: &str, path: &str, body: &str) -> ExitCode {
        match client::request(&self.directory(), method, path, body) {
            // A body of JSON ends without a line end, which a terminal wants.
            Ok(text) => told(&Report { code: 0, out: format!("{}\n", text.trim_end()), err: String::new() }),
            Err(error) => failed(&error.to_string()),
        }
    }
}

/// Says a line. It is written whole, so that whoever ends us ends us between two.
fn said(line: &[u8]) -> io::Result<()> {
    stdout().write_all(line).and_then(|()| stdout().flush())
}

/// Says why there is nothing else to say.
fn failed(reason: &str) -> ExitCode {
    told(&Report { code: 2, out: String::new(), err: format!("error: {reason}\n") })
}

/// Says what there is to say. Whoever stopped listening does not want to hear the rest.
fn told(report: &Report) -> ExitCode {
    let _ = stdout().write_all(report.out.as_bytes());
    let _ = stderr().write_all(report.err.as_bytes());
    ExitCode::from(report.code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_flags_are_read() {
        let read = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "p serve --config f",
            "p check --config f --online",
            "p config show --listen 127.0.0.1:1 --listen [::1]:2 --listen-tls 0.0.0.0:993 --admin off --state s",
            "p check --backend imap://h --backend imap+starttls://h:1 --backend-ca ca.pem",
            "p status --state s",
            "p sessions joe",
            "p trace",
            "p trace joe",
            "p trace joe off --config f",
            "p reload",
            "p devices list joe",
            "p devices set joe pixel --mailbox INBOX --channel SMS=WAKEUP --address +4915112345678 --state s",
            "p devices forget joe pixel",
            "p purge joe",
            "p purge joe --backend main",
            "p devices show joe pixel --backend main",
            "p queue list --state s",
            "p queue show joe",
            "p queue retry joe pixel",
            "p queue drop joe pixel --backend main",
            "p queue sign-in joe pixel",
            "p explain joe pixel INBOX 18",
            "p events --follow",
            "p events --follow --user joe --config f",
            "p receive --udp [::1]:4000",
            "p receive --udp 127.0.0.1:4000 --key-file f --count 3",
        ] {
            assert!(read(line).is_ok(), "{line}: {:?}", read(line));
        }
        for line in [
            "p",
            "p chek",
            "p check --backend http://h",
            "p check --backend-ca f",
            "p check --listen 143",
            "p serve --online",
            "p trace joe maybe",
            "p kick",
            "p purge",
            "p devices show joe",
            "p queue",
            "p explain joe pixel INBOX",
            "p events",
            "p receive",
            "p receive --udp 4000",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
