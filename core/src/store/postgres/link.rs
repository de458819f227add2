//! One connection to the database, made anew when it breaks.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Notification, Row, Statement};

use super::address::Address;
use super::{schema, sql};
use crate::error::{Error, ErrorKind, Result};

/// The pause after the first attempt to connect that failed; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", reason(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("it did not answer in time")]
    Silent,
}

/// TLS came to nothing: why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "nothing tries"))]
pub(super) struct Untrusted(pub(super) String);

/// A failure, for each of those who share it.
pub(super) type Fault = Arc<Failure>;

/// So long the database may take for anything.
const ANSWER: Duration = Duration::from_secs(10);

/// A statement and its values.
pub(super) struct Op {
    pub(super) sql: &'static str,
    pub(super) values: Vec<Value>,
}

/// A value, to be sent later.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// A connection, or the wish for one.
pub(super) struct Link {
    pub(super) address: Arc<Address>,
    client: Option<Client>,
    statements: HashMap<&'static str, Statement>,
    pause: Duration,
    not_before: Option<Instant>,
    /// Where notifications go.
    notices: Option<UnboundedSender<Notification>>,
}

impl Link {
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self {
            address,
            client: None,
            statements: HashMap::new(),
            pause: PAUSE,
            not_before: None,
            notices: None,
        }
    }

    /// Hands on what the database notifies of, on this connection and its successors.
    pub(super) fn hand_on_notices(&mut self) -> tokio::sync::mpsc::UnboundedReceiver<Notification> {
        let (notices, receiver) = unbounded_channel();
        self.notices = Some(notices);
        receiver
    }

    /// Whether there is a connection, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    /// Makes the connection anew if need be; after a failure not before a pause. `true` says that it
    /// is new.
    pub(super) async fn connect(&mut self) -> Result<bool, Failure> {
        if self.is_up() {
            return Ok(false);
        }
        self.client = None;
        if let Some(time) = self.not_before.take() {
            sleep_until(time).await;
        }
        match connect(&self.address, self.notices.clone()).await {
            Ok(client) => {
                self.client = Some(client);
                self.statements.clear();
                self.pause = PAUSE;
                Ok(true)
            }
            Err(error) => {
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Err(error)
            }
        }
    }

    /// The connection, for what takes more than one statement.
    pub(super) async fn client(&mut self) -> Result<&mut Client, Failure> {
        self.connect().await?;
        self.client.as_mut().ok_or(Failure::Silent)
    }

    async fn prepare(
        &mut self,
        ops: impl Iterator<Item = &Op>,
    ) -> Result<(&Client, Vec<Statement>), Failure> {
        self.connect().await?;
        let client = self.client.as_ref().ok_or(Failure::Silent)?;
        let mut statements = Vec::with_capacity(ops.size_hint().0);
        for op in ops {
            statements.push(match self.statements.get(op.sql) {
                Some(statement) => statement.clone(),
                None => {
                    let statement = client.prepare(op.sql).await?;
                    self.statements.insert(op.sql, statement.clone());
                    statement
                }
            });
        }
        Ok((client, statements))
    }

    /// Runs all of `ops` in one transaction, and `after` once that has ended, without waiting for one
    /// before the next is sent. Returns the rows of those that give some, in order.
    pub(super) async fn transact(&mut self, ops: &[Op], after: &[Op]) -> Result<Vec<Row>, Failure> {
        let work = async {
            let (client, statements) = self.prepare(ops.iter().chain(after)).await?;
            let mut steps: Vec<Step<'_>> = Vec::with_capacity(ops.len() + after.len() + 2);
            let plain = |sql: &'static str| async move {
                client.batch_execute(sql).await.map(|()| Vec::new())
            };
            steps.push(Box::pin(plain("BEGIN")));
            let (inside, outside) = statements.split_at(ops.len());
            for (op, statement) in ops.iter().zip(inside) {
                if sql::gives_a_row(op) {
                    steps.push(Box::pin(rows(client, op, statement)));
                    continue;
                }
                let done = client.execute_raw(statement, values(op));
                steps.push(Box::pin(async { done.await.map(|_| Vec::new()) }));
            }
            // Where a step failed, this takes everything back.
            steps.push(Box::pin(plain("COMMIT")));
            for (op, statement) in after.iter().zip(outside) {
                steps.push(Box::pin(rows(client, op, statement)));
            }
            Ok(in_order(steps).await?)
        };
        let done = timeout(ANSWER, work).await.unwrap_or(Err(Failure::Silent));
        self.settled(done)
    }

    /// The rows that a statement gives.
    pub(super) async fn query(&mut self, op: &Op) -> Result<Vec<Row>, Failure> {
        let work = async {
            let (client, statements) = self.prepare(std::iter::once(op)).await?;
            let statement = statements.first().ok_or(Failure::Silent)?;
            Ok(rows(client, op, statement).await?)
        };
        let found = timeout(ANSWER, work).await.unwrap_or(Err(Failure::Silent));
        self.settled(found)
    }

    /// Whatever a connection that says nothing was doing is not waited for.
    fn settled<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(done, Err(Failure::Silent)) {
            self.client = None;
        }
        done
    }
}

type Rows = Result<Vec<Row>, tokio_postgres::Error>;
type Step<'a> = Pin<Box<dyn Future<Output = Rows> + Send + 'a>>;

async fn rows(client: &Client, op: &Op, statement: &Statement) -> Rows {
    client.query(statement, &values(op).collect::<Vec<_>>()).await
}

fn values(op: &Op) -> impl ExactSizeIterator<Item = &(dyn ToSql + Sync)> {
    op.values.iter().map(|value| &**value as &(dyn ToSql + Sync))
}

/// Begins all steps at once, in this order, and returns their rows or the first failure when all have
/// ended.
async fn in_order(mut steps: Vec<Step<'_>>) -> Rows {
    let mut ended = Vec::new();
    poll_fn(|context| {
        ended = steps
            .iter_mut()
            .map(|step| match step.as_mut().poll(context) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
            .collect();
        Poll::Ready(())
    })
    .await;
    let mut all = Ok(Vec::new());
    for (step, ended) in steps.into_iter().zip(ended) {
        let result = match ended {
            Some(result) => result,
            None => step.await,
        };
        all = match (all, result) {
            (Ok(mut all), Ok(mut rows)) => {
                all.append(&mut rows);
                Ok(all)
            }
            (Err(first), _) | (Ok(_), Err(first)) => Err(first),
        };
    }
    all
}

async fn connect(
    address: &Address,
    notices: Option<UnboundedSender<Notification>>,
) -> Result<Client, Failure> {
    let (client, mut connection) = address.config.connect(Clone::clone(&address.connector)).await?;
    tokio::spawn(async move {
        // A connection that ends is noticed by whoever uses its client.
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            match (message, &notices) {
                (AsyncMessage::Notification(notice), Some(notices)) => drop(notices.send(notice)),
                (AsyncMessage::Notice(notice), _) => tracing::debug!("PostgreSQL: {notice}"),
                _ => {}
            }
        }
    });
    client.batch_execute(&schema::session(&address.schema)).await?;
    Ok(client)
}

/// Whether a fault is the connection's, so that the same may succeed on another one.
pub(super) fn is_lost(failure: &Failure) -> bool {
    let Failure::Database(error) = failure else { return true };
    match error.code() {
        // Class 08 is about connections, 57P01 to 57P03 and 57P05 about a server that stops or starts.
        Some(code) => {
            code.code().starts_with("08")
                || ["57P01", "57P02", "57P03", "57P05"].contains(&code.code())
                || *code == SqlState::TOO_MANY_CONNECTIONS
        }
        None => error.is_closed() || is_io(error) || refusal(failure).is_some(),
    }
}

/// What a failure is due to, and that to something else.
fn sources(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    sources(error).any(|error| error.is::<std::io::Error>())
}

/// Why a connection was not encrypted as was asked, and what to do, if that is what failed. It is not
/// for the user or its password to mend, and may be mended at any time: a certificate is renewed.
pub(super) fn refusal(failure: &Failure) -> Option<String> {
    let Failure::Database(error) = failure else { return None };
    sources(error).find_map(|error| match error.downcast_ref::<Untrusted>() {
        Some(Untrusted(why)) => Some(why.clone()),
        // The library has no other sign of it.
        None => (error.to_string() == "server does not support TLS").then(|| {
            "the server does not speak TLS; turn it on (ssl = on in postgresql.conf), or say sslmode=disable if the network is private"
                .to_owned()
        }),
    })
}

/// Whether it is the [fence](sql::fence) of a member that failed.
pub(super) fn is_fenced(failure: &Failure) -> bool {
    let Failure::Database(error) = failure else { return false };
    error.code() == Some(&SqlState::DIVISION_BY_ZERO)
}

pub(super) fn explain(address: &Address, fault: &Fault) -> Error {
    Error::new(ErrorKind::Store, sentence(address, fault)).with_source(Arc::clone(fault))
}

/// The error of a database, which names what went wrong in its own words.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => {
            let mut text = error.to_string();
            for further in sources(error).map(ToString::to_string) {
                if !text.contains(&further) {
                    text = format!("{text}: {further}");
                }
            }
            text
        }
    }
}

fn sentence(address: &Address, failure: &Failure) -> String {
    if let Some(why) = refusal(failure) {
        return format!("the state store {address} cannot be reached by TLS: {why}");
    }
    if is_fenced(failure) {
        return format!(
            "the state store {address} takes nothing more from this process, which was out of its reach so long that another one took over; start it again"
        );
    }
    let code = match failure {
        Failure::Database(error) => error.code().map(SqlState::code).unwrap_or_default(),
        Failure::Silent => "",
    };
    let (what, next) = match code {
        "28P01" | "28000" => ("refused the user or its password", "correct them in the address"),
        "3D000" => {
            ("has no such database", "make it with createdb, or correct its name in the address")
        }
        "42501" => (
            "does not let this user do that",
            "make the user the owner of the database, or of its schema appxmpp",
        ),
        "53100" => ("is on a disk that is full", "make room on it"),
        "53300" => ("has no connection left", "raise max_connections in postgresql.conf"),
        "25006" => ("takes no writes", "name the primary server, not a standby"),
        _ if is_lost(failure) || code.is_empty() => (
            "cannot be reached",
            "start PostgreSQL, or correct the address; a program that runs goes on trying",
        ),
        _ => ("failed", "please report it"),
    };
    format!("the state store {address} {what} ({failure}); {next}")
}
