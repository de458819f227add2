//! By TLS to the database that APPXMPP_TEST_POSTGRES_TLS names, whose certificate is for localhost; in
//! the folder APPXMPP_TEST_POSTGRES_AUTHORITIES are `ours.pem`, who issued it, and `other.pem`.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// How to reach it by `host`, with these options; `AUTHORITIES` in them is the folder.
fn url(host: &str, options: &str) -> Option<String> {
    let given = ["", "_TLS", "_AUTHORITIES"]
        .map(|what| std::env::var(format!("APPXMPP_TEST_POSTGRES{what}")).ok());
    let [Some(_), Some(url), Some(folder)] = given else {
        eprintln!(
            "NOT TESTED: no PostgreSQL in APPXMPP_TEST_POSTGRES_TLS (make test-rust starts one)"
        );
        return None;
    };
    let (base, _) = url.split_once('?').unwrap_or((&url, ""));
    let options = options.replace("AUTHORITIES", &folder);
    Some(format!("{base}?{options}").replace("@localhost:", &format!("@{host}:")))
}

fn opened(url: &str) -> Result<PostgresStore> {
    let schema = place().unwrap().schema;
    PostgresStore::open_at(Address::parse(url)?.with_schema(&schema))
}

#[test]
fn a_server_that_is_what_was_asked_for_is_spoken_with() {
    for (host, options, encrypted) in [
        ("localhost", "sslmode=verify-full&sslrootcert=AUTHORITIES/ours.pem", true),
        ("localhost", "sslrootcert=AUTHORITIES/ours.pem&channel_binding=require", true),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=AUTHORITIES/ours.pem", true),
        ("127.0.0.1", "sslmode=require&sslrootcert=AUTHORITIES/ours.pem", true),
        ("127.0.0.1", "sslmode=require&channel_binding=require", true),
        ("localhost", "sslmode=prefer", true),
        ("localhost", "sslmode=disable&sslrootcert=AUTHORITIES/other.pem", false),
        ("localhost", "", false),
    ] {
        let Some(url) = url(host, options) else { return };
        let store = opened(&url).unwrap_or_else(|error| panic!("{options}: {error}"));
        store.apply(vec![put(1)], Durability::Now).unwrap();
        assert_eq!(contents(&store).len(), 1, "{options}");
        let rows = run(&store, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        assert_eq!(rows[0].get::<_, bool>(0), encrypted, "{options}");
    }
}

#[test]
fn a_server_that_is_not_is_refused_at_once_and_says_why() {
    for (host, options, says) in [
        ("localhost", "sslmode=verify-full&sslrootcert=AUTHORITIES/other.pem", "sslrootcert=FILE"),
        (
            "localhost",
            "sslmode=verify-ca&sslrootcert=AUTHORITIES/other.pem",
            "nobody who is trusted",
        ),
        ("localhost", "sslmode=require&sslrootcert=AUTHORITIES/other.pem", "nobody who is trusted"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=AUTHORITIES/ours.pem", "not for 127.0.0.1"),
    ] {
        let Some(url) = url(host, options) else { return };
        let since = Instant::now();
        let text = refusal(opened(&url));
        assert!(
            text.contains(says) && text.contains("by TLS") && !text.contains("s3cret"),
            "{text}"
        );
        assert!(since.elapsed() < worker::PATIENCE, "{options}: it was asked again");
    }
}

#[test]
fn a_server_without_tls_is_refused_where_tls_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut asked = [0; 8];
        client.read_exact(&mut asked).unwrap();
        client.write_all(b"N").unwrap();
        let mut more = Vec::new();
        client.read_to_end(&mut more).unwrap();
        (asked, more)
    });
    let url = format!("postgresql://bot:secret@127.0.0.1:{port}/chat?sslmode=require");
    let text = refusal(PostgresStore::open(&url));
    assert!(text.contains("does not speak TLS") && text.contains("ssl = on"), "{text}");
    let (asked, more) = server.join().unwrap();
    // SSLRequest: its length, and 80877103.
    assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47]);
    assert!(more.is_empty(), "nothing was said in the clear");
}

#[test]
fn a_database_whose_certificate_is_not_good_any_more_is_waited_for() {
    let Some(url) = url("localhost", "sslmode=require&sslrootcert=AUTHORITIES/other.pem") else {
        return;
    };
    let failure =
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
            async {
                Link::new(Arc::new(Address::parse(&url).unwrap())).connect().await.unwrap_err()
            },
        );
    assert!(link::is_lost(&failure), "what was to be written is kept: {failure}");
}
