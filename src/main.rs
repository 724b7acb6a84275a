//! The program: read the configuration, open the listeners, wait for signals.
//!
//!     lemonade-proxy serve --backend imap://HOST
//!     lemonade-proxy check --config proxy.toml

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use lemonade_proxy::config::{Source, check::Report};

/// An IMAP proxy that turns any old IMAP server into a modern mobile mail service
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with a configuration; exit code 0: nothing, 1: warnings, 2: errors
    Check(Source),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every value in force and where it comes from, secrets struck out
    Show(Source),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(source) => told(&source.check()),
        Command::Config(ConfigCommand::Show(source)) => told(&source.show()),
    }
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
    fn flags_are_read() {
        let read = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "p check --config f",
            "p config show --listen 127.0.0.1:1 --listen [::1]:2 --listen-tls 0.0.0.0:993 --state s",
            "p check --backend imap://h --backend imap+starttls://h:1 --backend-ca ca.pem",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
        for line in ["p", "p chek", "p check --backend http://h", "p check --backend-ca f", "p check --listen 143"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
