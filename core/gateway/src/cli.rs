//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use appxmpp::service::Resource;
use appxmpp::service::address::Presentation;
use appxmpp::{Error, ErrorKind};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::sync::watch;

use crate::config::{self, Config, Process, Store};
use crate::gateway::{Addresses, Gateway};
use crate::{
    deadletters, descriptors, doctor, health, log, notify, reload, send, shutdown, terminal,
};

/// App Engine's chat service and mod_rest's HTTP interface in front of any XMPP server.
#[derive(Debug, Parser)]
#[command(name = "appxmpp", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway.
    Gateway {
        /// The configuration; without it the environment alone is used.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check a configuration and say what it means.
    Check {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Find out why it does not work: configuration, server, login, webhooks.
    Doctor {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Send a message through a running gateway.
    Send {
        /// The configuration of the gateway.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Which app sends, by its id, or VERSION.latest.ID for a version of it; needed where there are several.
        #[arg(long)]
        app: Option<String>,
        /// The sender; the app's default one otherwise.
        #[arg(long, value_name = "JID")]
        from: Option<String>,
        /// To whom.
        #[arg(required = true, value_name = "JID")]
        to: Vec<String>,
        /// The text; `-` reads it from standard input.
        #[arg(long, short, value_name = "TEXT")]
        body: String,
    },
    /// See and settle what the app did not take; needs a gateway with a store that lasts.
    Deadletters {
        /// The configuration of the gateway.
        #[arg(long, short, value_name = "FILE", global = true)]
        config: Option<PathBuf>,
        /// Which app's, by its id, or VERSION.latest.ID for a version of it; needed where there are several.
        #[arg(long, global = true)]
        app: Option<String>,
        /// What to do.
        #[command(subcommand)]
        action: DeadLetters,
    },
    /// Print an example configuration with every key.
    Example,
    /// Write the manual pages, one for each command.
    Man {
        /// The folder they go to; it must exist.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Print them, oldest first: id, time (Unix), reason, path, sender.
    List,
    /// Deliver them again.
    Replay(Which),
    /// Forget them.
    Purge(Which),
}

/// Some dead letters, or all.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their ids.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All there are.
    #[arg(long)]
    pub all: bool,
}

/// Commands of the Python package, which has all of this program's too.
const PYTHON: [&str; 3] = ["run", "dev", "demo"];

/// Reads a command line, of which the program's name is the first argument, and does what it says;
/// the exit code. It returns instead of ending the process, so that it can be called from another
/// program's `main`.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => run(cli),
        Err(error) => {
            if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
                && PYTHON.contains(&name.as_str())
            {
                eprintln!(
                    "appxmpp: {name} is a command of the Python package: pip install appxmpp. Where \
                     both are installed, python3 -m appxmpp {name} finds it"
                );
                return 2;
            }
            // Help and version are errors of a kind; a reader that has left is none.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(2)
        }
    }
}

/// The names of the commands and what they do, in the order of the help.
pub fn commands() -> Vec<(String, String)> {
    let command = Cli::command();
    let about = |sub: &clap::Command| sub.get_about().map(ToString::to_string).unwrap_or_default();
    command.get_subcommands().map(|sub| (sub.get_name().to_owned(), about(sub))).collect()
}

/// Does what the command line says; the exit code.
fn run(cli: Cli) -> u8 {
    let result = match cli.command {
        Command::Gateway { config } => gateway(config.as_deref()),
        Command::Check { config } => check(config.as_deref()),
        Command::Doctor { config } => load(config.as_deref()).and_then(doctor::run),
        Command::Send { config, app, from, to, body } => load(config.as_deref())
            .and_then(|config| send::run(&config, app.as_deref(), from.as_deref(), &to, &body)),
        Command::Deadletters { config, app, action } => {
            let action = match action {
                DeadLetters::List => deadletters::Action::List,
                DeadLetters::Replay(which) => deadletters::Action::Replay(which.ids),
                DeadLetters::Purge(which) => deadletters::Action::Purge(which.ids),
            };
            load(config.as_deref())
                .and_then(|config| deadletters::run(&config, app.as_deref(), &action))
        }
        Command::Example => {
            terminal::write(&config::keys::example());
            Ok(())
        }
        Command::Man { folder } => man(&folder),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "appxmpp", &mut script);
            terminal::write(&String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("appxmpp: {error}");
            exit_code(error.kind())
        }
    }
}

/// sysexits(3): 78 for the configuration, 77 for credentials that the server refuses, else 1.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config | ErrorKind::InvalidJid => 78,
        ErrorKind::NotAuthorized => 77,
        _ => 1,
    }
}

fn load(path: Option<&Path>) -> appxmpp::Result<Config> {
    config::load(path, &Process)
}

/// A thread for each app, as far as half of the cores go. What an app does is in the order of its
/// one stream, and a server is busy long before a thread is: more of them would only wake each
/// other.
fn runtime(apps: usize) -> appxmpp::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = apps.min(cores / 2).max(1);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Internal, format!("cannot start the runtime: {error}"))
    })
}

fn gateway(path: Option<&Path>) -> appxmpp::Result<()> {
    let config = load(path)?;
    log::start(&config.log);
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let config = descriptors::fit(config);
    let runtime = runtime(config.apps.len())?;
    let result = runtime.block_on(async {
        let stop = shutdown::watch().map_err(|error| {
            Error::new(ErrorKind::Internal, format!("cannot watch for signals: {error}"))
        })?;
        let (refused, mut refusal) = tokio::sync::mpsc::channel(1);
        let path = path.map(Path::to_owned);
        let started = |gateway: &Arc<Gateway>, addresses: Addresses| {
            tracing::info!(
                listen = addresses.http,
                metrics = addresses.metrics.unwrap_or_default(),
                version = env!("CARGO_PKG_VERSION"),
                "the gateway serves HTTP"
            );
            notify::ready("serving HTTP, not connected to the XMPP server yet");
            tokio::spawn(notify::watchdog());
            let again = move || load(path.as_deref()).map(descriptors::fit);
            if let Err(error) = reload::watch(Arc::clone(gateway), again) {
                tracing::error!("SIGHUP will not reload the configuration: {error}");
            }
            for app in gateway.apps() {
                tokio::spawn(follow(Arc::clone(gateway), app.ups_and_downs()));
                let (app, refused) = (Arc::clone(app), refused.clone());
                tokio::spawn(async move {
                    // Whoever stops before the server was there is not refused by it.
                    if let Err(error) = app.ready().await
                        && error.kind() != ErrorKind::Closed
                    {
                        let _ = refused.send(error).await;
                    }
                });
            }
        };
        let running = Gateway::run(config, stop, started);
        tokio::select! {
            result = running => result,
            Some(error) = refusal.recv() => Err(error),
        }
    });
    notify::stopping();
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Tells the service manager of each change of a stream.
async fn follow(gateway: Arc<Gateway>, mut up: watch::Receiver<bool>) {
    // It may be up by now.
    up.mark_changed();
    while up.changed().await.is_ok() {
        notify::status(&format!("serving HTTP, {}", health::summary(&gateway)));
    }
}

fn man(folder: &Path) -> appxmpp::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
        let text = format!("cannot write manual pages to {}: {error}", folder.display());
        Error::new(ErrorKind::Config, text)
    })
}

fn check(path: Option<&Path>) -> appxmpp::Result<()> {
    let config = load(path)?;
    for app in &config.apps {
        terminal::line(&format!("app {}: {} through {}", app.name, app.domain, app.backend));
        if let Some(url) = &app.url {
            terminal::line(&format!(
                "  form posts to {url}/_ah/xmpp/… for {}",
                app.inbound_services.join(", ")
            ));
        }
        if app.addresses == Presentation::AppEngine {
            let shown = match app.domain.contains('@') {
                true => format!("{}@appspot.com", app.id),
                false => format!("anything@{}.appspotchat.com", app.name),
            };
            terminal::line(&format!("  it sees its addresses as on App Engine: {shown}"));
        }
        if let Some(url) = &app.callback_url {
            terminal::line(&format!("  callbacks to {url} as {}", app.callback_media.name()));
        }
        if app.url.is_none() && app.callback_url.is_none() {
            terminal::line("  nobody is told what arrives: neither url nor callback_url is set");
        }
        for resource in Resource::ALL {
            if let Some(limit) = app.quotas.limit(resource) {
                terminal::line(&format!("  at most {limit} {} a day", resource.as_str()));
            }
        }
    }
    terminal::line(&kept(&config));
    config.warnings.iter().for_each(|warning| terminal::line(&format!("warning: {warning}")));
    terminal::line("ok");
    Ok(())
}

/// Where state is, and what a message is when it counts as sent.
fn kept(config: &Config) -> String {
    let place = match &config.store {
        Store::Memory => "in memory".to_owned(),
        Store::Sqlite(path) => format!("in {}", path.display()),
        Store::Postgres(_) => "in a PostgreSQL database".to_owned(),
    };
    let sent = if config.outbox.is_some() { "on disk" } else { "written to a live stream" };
    format!("state {place}; a message counts as sent when it is {sent}")
}
