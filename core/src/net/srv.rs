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

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{Name, Record as Answer};
    use tokio::net::UdpSocket;

    use super::*;

    fn record(priority: u16, weight: u16, host: &str, port: u16) -> Record {
        Record { priority, weight, host: host.to_owned(), port }
    }

    fn hosts(records: &[Record], seed: u64) -> String {
        let ordered = ordered(records.to_vec(), seed);
        ordered.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_lowest_priority_comes_first() {
        let records = [record(20, 0, "c", 3), record(5, 0, "a", 1), record(10, 9, "b", 2)];
        for seed in 0..20 {
            assert_eq!(hosts(&records, seed), "a:1 b:2 c:3");
        }
        assert_eq!(hosts(&[record(0, 0, "", 5222)], 1), "", "the service is not offered");
        assert_eq!(hosts(&[], 1), "");
    }

    #[test]
    fn of_equals_the_heavier_one_comes_first_more_often() {
        let records = [record(1, 10, "light", 1), record(1, 90, "heavy", 1)];
        let heavy = (0..1000).filter(|seed| hosts(&records, *seed).starts_with("heavy")).count();
        assert!((800..980).contains(&heavy), "{heavy} of 1000");
    }

    /// A resolver, and the socket of the one server that it asks.
    async fn name_server() -> (TokioResolver, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config, provider).build().unwrap();
        (resolver, socket)
    }

    async fn answer(socket: &UdpSocket, name: &str, records: &[SRV]) {
        let mut buffer = [0; 1024];
        let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
        let asked = Message::from_vec(&buffer[..count]).unwrap();
        let query = asked.queries[0].clone();
        assert_eq!(query.name().to_utf8(), name);
        let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
        reply.add_query(query.clone());
        if records.is_empty() {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        for record in records {
            let data = RData::SRV(record.clone());
            reply.add_answer(Answer::from_rdata(query.name().clone(), 60, data));
        }
        socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
    }

    #[tokio::test]
    async fn the_dns_is_asked_for_the_service() {
        let (resolver, socket) = name_server().await;
        let target = |name: &str| Name::from_utf8(name).unwrap();
        let records = [
            SRV::new(20, 0, 5222, target("b.x.example.")),
            SRV::new(10, 0, 443, target("a.x.example.")),
        ];
        let asking = ask(&resolver, "x.example", false, 1);
        let (found, ()) =
            tokio::join!(asking, answer(&socket, "_xmpp-client._tcp.x.example.", &records));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a.x.example:443", "b.x.example:5222"]);
        let asking = ask(&resolver, "y.example", true, 1);
        let (found, ()) =
            tokio::join!(asking, answer(&socket, "_xmpps-client._tcp.y.example.", &[]));
        assert!(found.is_empty());
    }
}
