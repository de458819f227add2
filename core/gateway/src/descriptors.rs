//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::gateway::SIDE_CONNECTIONS;

/// What is open besides HTTP connections: the log, the store, the runtime, a stream for each app.
const OWN: usize = 64;
/// What is asked for where there is no limit: what the kernel lets anybody have.
const UNLIMITED: u64 = 1024 * 1024;

/// Takes all that the system lets this process have, and leaves out HTTP connections for which there
/// is no room: nobody could be answered any more.
pub(crate) fn fit(mut config: Config) -> Config {
    let limit = raise();
    let webhooks: usize = config.apps.iter().map(|app| app.webhook_concurrency).sum();
    let room = room(limit, OWN + SIDE_CONNECTIONS + webhooks);
    let asked = config.http.max_connections;
    if asked > room {
        tracing::warn!(
            "this process may have {limit} files open, so that max_connections is {room}, not {asked}; \
             raise the limit (LimitNOFILE in systemd, ulimit -n) or lower max_connections"
        );
        config.http.max_connections = room;
    }
    config
}

/// Sets the limit that is in force to the highest that is allowed; what it is then.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(UNLIMITED);
    let current = limit.current.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(most), ..limit };
    let now = match current < most {
        true => setrlimit(Resource::Nofile, raised).map_or(current, |()| most),
        false => current,
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// How many HTTP connections `limit` has room for beside what is `reserved`.
fn room(limit: usize, reserved: usize) -> usize {
    limit.saturating_sub(reserved).max(limit / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_is_open_comes_first_but_does_not_take_all() {
        assert_eq!(room(1024, 192), 832);
        assert_eq!(room(1024, 5000), 256);
        assert_eq!(room(0, 1), 1);
    }
}
