//! Where an account's server listens, as the DNS says (RFC 6120 §3.2.1, XEP-0368 §3, RFC 2782).

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;

use super::backend::Endpoint;
use super::backoff::spread;

/// The servers for accounts of `domain`, in the order to try them; none if the DNS names none. `seed`
/// decides between servers of the same priority.
pub(super) async fn look_up(domain: &str, direct: bool, seed: u64) -> Vec<Endpoint> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    match resolver {
        Ok(resolver) => ask(&resolver, domain, direct, seed).await,
        Err(error) => {
            tracing::debug!(%error, "this system's resolver cannot be used");
            Vec::new()
        }
    }
}

async fn ask(resolver: &TokioResolver, domain: &str, direct: bool, seed: u64) -> Vec<Endpoint> {
    let service = if direct { "_xmpps-client" } else { "_xmpp-client" };
    // The final dot: no search list of this machine's has a say.
    let name = format!("{service}._tcp.{domain}.");
    let found = match resolver.srv_lookup(name).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "no SRV record");
            return Vec::new();
        }
    };
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(record) => Some(Record::new(record)),
        _ => None,
    });
    ordered(records.collect(), seed)
}

#[derive(Debug, Clone)]
struct Record {
    priority: u16,
    weight: u16,
    host: String,
    port: u16,
}

impl Record {
    fn new(record: &SRV) -> Self {
        let host = record.target.to_utf8();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        Self { priority: record.priority, weight: record.weight, host, port: record.port }
    }
}

/// Lowest priority first, and of the same priority at random by weight (RFC 2782).
fn ordered(mut records: Vec<Record>, mut seed: u64) -> Vec<Endpoint> {
    // A single dot says that the service is not offered here.
    records.retain(|record| !record.host.is_empty() && record.port != 0);
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut endpoints = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let same = records.iter().take_while(|record| record.priority == first.priority).count();
        let total: u64 = records[..same].iter().map(|record| u64::from(record.weight)).sum();
        let mut drawn = spread(&mut seed) % (total + 1);
        let chosen = records[..same].iter().position(|record| {
            let weight = u64::from(record.weight);
            let taken = drawn <= weight;
            drawn = drawn.saturating_sub(weight);
            taken
        });
        let Record { host, port, .. } = records.remove(chosen.unwrap_or(0));
        endpoints.push(Endpoint::Tcp { host, port });
    }
    endpoints
}
