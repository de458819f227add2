//! Both ends of an encrypted connection, in memory. The certificate is its own authority, for
//! x.example and 127.0.0.1; its key protects nothing.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, version};
use sha2::{Digest, Sha256};

use super::super::settings::{Tls, TlsMode};
use super::*;

const CERTIFICATE: &str = include_str!("test.crt");
const KEY: &str = include_str!("test.key");

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()
}

fn server(versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key)
        .unwrap();
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// Trusts the certificate by its file.
fn by_file() -> Tls {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/tls/session/test.crt");
    Tls { ca: Some(path.into()), ..Tls::new(TlsMode::StartTls, "x.example") }
}

fn by_pin(pin: &str) -> Tls {
    Tls { pin: Some(pin.parse().unwrap()), ..Tls::new(TlsMode::StartTls, "any.example") }
}

/// Lets the two talk, the client's input in pieces of `chunk` bytes, until neither has anything to say;
/// what the client heard, and the server.
fn talk(
    client: &mut Session,
    server: &mut ServerConnection,
    chunk: usize,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (mut plain, mut said) = (Vec::new(), Vec::new());
    loop {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.tls.wants_write() {
            client.tls.write_tls(&mut up).unwrap();
        }
        let mut rest = &up[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            // There is no more than that until the other end closes.
            let _ = server.reader().read_to_end(&mut said);
        }
        while server.wants_write() {
            server.write_tls(&mut down).unwrap();
        }
        if up.is_empty() && down.is_empty() {
            return Ok((plain, said));
        }
        for bytes in down.chunks(chunk) {
            client.feed(bytes, &mut plain)?;
        }
    }
}

fn connect(settings: &Tls) -> Result<(Session, ServerConnection), String> {
    let trust = Trust::load(settings).map_err(|error| error.to_string())?;
    let mut client = Session::new(&trust, &settings.name)?;
    let mut server = server(rustls::ALL_VERSIONS);
    talk(&mut client, &mut server, usize::MAX)?;
    Ok((client, server))
}

#[test]
fn bytes_pass_in_both_directions_however_they_are_split() {
    let trust = Trust::load(&by_file()).unwrap();
    let text: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    for chunk in [1, 7, 4096, usize::MAX] {
        let (mut client, mut server) =
            (Session::new(&trust, "x.example").unwrap(), server(rustls::ALL_VERSIONS));
        talk(&mut client, &mut server, chunk).unwrap();
        assert!(!client.is_handshaking());
        let mut heard = Vec::new();
        for piece in text.chunks(16_000) {
            server.writer().write_all(piece).unwrap();
            heard.extend(talk(&mut client, &mut server, chunk).unwrap().0);
        }
        assert!(heard == text, "in pieces of {chunk}");
        let taken = client.encrypt(&text).unwrap();
        assert!(taken > 0 && taken <= CHUNK_BYTES);
        let (_, said) = talk(&mut client, &mut server, chunk).unwrap();
        assert!(said == text[..taken]);
        server.send_close_notify();
        let mut down = Vec::new();
        server.write_tls(&mut down).unwrap();
        assert_eq!(client.feed(&down, &mut Vec::new()), Ok(true), "the other end is closed");
    }
}

#[test]
fn who_is_trusted_and_who_is_not() {
    let whole = "F2:3E:F1:67:CE:0D:57:45:05:69:37:33:F6:2B:34:EE:E6:04:09:53:AC:57:01:E1:79:AA:DD:8F:6D:43:43:88";
    let key = "f683f20e917e923f2d6bd206b34f779bdfa9c51312afa96cb84736609ebf28d5";
    for good in
        [by_file(), by_pin(whole), by_pin(key), Tls { name: "127.0.0.1".into(), ..by_file() }]
    {
        connect(&good).map(drop).unwrap_or_else(|why| panic!("{good:?}: {why}"));
    }
    for (bad, says) in [
        (Tls { name: "y.example".into(), ..by_file() }, "is not for y.example"),
        (by_pin(&"0".repeat(64)), "not the pinned one"),
        (Tls { pin: by_pin(&"0".repeat(64)).pin, ..by_file() }, "not the pinned one"),
        (
            Tls { name: "y.example".into(), pin: by_pin(whole).pin, ..by_file() },
            "is not for y.example",
        ),
        (Tls { ca: Some("/nowhere.pem".into()), ..by_file() }, "ca=/nowhere.pem"),
        (
            Tls {
                ca: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into()),
                ..by_file()
            },
            "no certificate",
        ),
        (Tls { name: "a b".into(), ..by_file() }, "no name"),
    ] {
        let why = connect(&bad).map(drop).unwrap_err();
        assert!(why.contains(says), "{bad:?}: {why}");
    }
}

#[cfg(feature = "client")]
#[test]
fn both_ends_are_bound_to_the_same_connection() {
    let trust = Trust::load(&by_file()).unwrap();
    let end_point = Some(Sha256::digest(certificate()).to_vec());
    for (versions, modern) in [(&[&version::TLS13], true), (&[&version::TLS12], false)] {
        let (mut client, mut server) =
            (Session::new(&trust, "x.example").unwrap(), server(versions));
        talk(&mut client, &mut server, usize::MAX).unwrap();
        let bindings = client.bindings();
        let exported = server
            .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(&[]))
            .ok()
            .filter(|_| modern);
        assert_eq!(bindings.exporter, exported);
        assert_eq!((bindings.exporter.is_some(), bindings.end_point), (modern, end_point.clone()));
    }
}

#[test]
fn what_is_not_tls_is_said_so() {
    let trust = Trust::load(&by_file()).unwrap();
    let mut client = Session::new(&trust, "x.example").unwrap();
    let why = client.feed(b"<?xml version='1.0'?><stream:stream>", &mut Vec::new()).unwrap_err();
    assert!(why.contains("tls=starttls"), "{why}");
}
