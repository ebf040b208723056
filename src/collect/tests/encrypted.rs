//! Streams inside TLS: who is let in, and what is said when files are wrong.

use super::certificates::{Certificates, client};
use super::streams::{Seen, connect, is_ended, message, port, rig, wait_until};
use super::*;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Write};
use std::net::TcpStream;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Authorities `ca` and `other`, the collector's certificate and one exporter's of each.
fn certificates() -> Certificates {
    let certificates = Certificates::new();
    for authority in ["ca", "other"] {
        certificates.authority(authority);
    }
    for (authority, name) in [("ca", "server"), ("ca", "exporter"), ("other", "stranger")] {
        certificates.issue(authority, name);
    }
    certificates
}

fn settings(certificates: &Certificates, client_ca: Option<&str>) -> Settings {
    let path = |name| Some(certificates.path(name));
    let tls =
        tls::Settings { certificate: path("server.pem"), key: path("server.key"), client_ca: client_ca.and_then(path) };
    Settings { listen: vec!["tls://127.0.0.1:0".into()], tls, ..Settings::default() }
}

fn dial(rig: &Rig, config: ClientConfig) -> Client {
    let host = IpAddr::from([127, 0, 0, 1]).into();
    let connection = ClientConnection::new(Arc::new(config), host).unwrap();
    StreamOwned::new(connection, connect(rig.addresses[0], "127.0.0.1"))
}

/// Sends a message and whatever TLS needs before and after it, and waits for the other side's end.
fn send(client: &mut Client, bytes: &[u8]) -> io::Result<()> {
    client.write_all(bytes)?;
    client.conn.send_close_notify();
    client.flush()?;
    client.sock.shutdown(std::net::Shutdown::Write)?;
    io::copy(client, &mut io::sink()).map(|_| ())
}

#[test]
fn both_versions_of_tls_carry_messages() {
    let certificates = certificates();
    let mut rig = rig(&settings(&certificates, None));
    for version in [&TLS12, &TLS13] {
        let mut client = dial(&rig, client(&certificates, &certificates.path("ca.pem"), None, version));
        let own = port(&client.sock);
        let sent: Vec<_> = [16, 1_400, u16::MAX, 20].iter().enumerate().map(|(at, &n)| message(n, at)).collect();
        // The collector's end of the connection says nothing in TLS.
        let _ = send(&mut client, &sent.concat());
        assert_eq!(client.conn.protocol_version(), Some(version.version));
        let mut expected = vec![Seen::Opened(own)];
        expected.extend(sent.into_iter().map(|message| Seen::Message(own, message)));
        expected.push(Seen::Closed(own));
        assert_eq!(rig.records(6), expected);
    }
    assert_eq!((rig.closed(0, "peer"), rig.closed(0, "handshake")), (2, 0));
    assert!(rig.label(0).listener.starts_with("tls://"));
}

#[test]
fn a_stream_that_ends_within_a_record_of_tls_is_cut_and_one_that_ends_between_two_is_closed() {
    let certificates = certificates();
    let mut rig = rig(&settings(&certificates, None));
    for missing in [0, 1, 20, 116] {
        let mut client = dial(&rig, client(&certificates, &certificates.path("ca.pem"), None, &TLS13));
        client.write_all(&message(100, 1)).unwrap();
        client.flush().unwrap();
        let own = port(&client.sock);
        assert_eq!(rig.records(2), [Seen::Opened(own), Seen::Message(own, message(100, 1))]);
        let mut record = Vec::new();
        client.conn.writer().write_all(&message(100, 2)).unwrap();
        client.conn.write_tls(&mut record).unwrap();
        assert_eq!(record.len(), 5 + 100 + 17);
        client.sock.write_all(&record[..record.len() - missing]).unwrap();
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let expected = match missing {
            0 => vec![Seen::Message(own, message(100, 2)), Seen::Closed(own)],
            _ => vec![Seen::Cut(own)],
        };
        assert_eq!(rig.records(expected.len()), expected, "{missing} bytes short");
    }
    assert_eq!((rig.closed(0, "peer"), rig.closed(0, "error")), (1, 3));
}

#[test]
fn a_stop_within_a_record_of_tls_is_a_stop() {
    let certificates = certificates();
    let mut rig = rig(&settings(&certificates, None));
    let mut client = dial(&rig, client(&certificates, &certificates.path("ca.pem"), None, &TLS13));
    client.write_all(&message(100, 1)).unwrap();
    client.flush().unwrap();
    rig.records(2);
    client.sock.write_all(&[23, 3, 3, 0, 117, 1, 2, 3]).unwrap();
    thread::sleep(Duration::from_millis(50));
    rig.stop();
    // The next process tells of the stream.
    assert_eq!(rig.reader.read(&mut Chunk::default(), Duration::from_millis(50)).unwrap(), 0);
    assert_eq!((rig.closed(0, "stopped"), rig.closed(0, "error")), (1, 0));
}

#[test]
fn client_certificates_of_our_authority_are_required_where_one_is_named() {
    let certificates = certificates();
    let mut rig = rig(&settings(&certificates, Some("ca.pem")));
    for version in [&TLS12, &TLS13] {
        for own in [None, Some("stranger")] {
            let mut client = dial(&rig, client(&certificates, &certificates.path("ca.pem"), own, version));
            let refused = send(&mut client, &message(16, 0));
            assert!(refused.is_err(), "{own:?} {version:?}");
        }
        let mut known = dial(&rig, client(&certificates, &certificates.path("ca.pem"), Some("exporter"), version));
        let _ = send(&mut known, &message(16, 1));
        let own = port(&known.sock);
        assert_eq!(rig.records(3), [Seen::Opened(own), Seen::Message(own, message(16, 1)), Seen::Closed(own)]);
    }
    assert_eq!((rig.closed(0, "peer"), rig.closed(0, "handshake")), (2, 4));
}

#[test]
fn a_client_that_does_not_trust_us_and_one_that_speaks_no_tls_are_counted() {
    let certificates = certificates();
    let rig = rig(&settings(&certificates, None));
    let mut distrustful = dial(&rig, client(&certificates, &certificates.path("other.pem"), None, &TLS13));
    assert!(send(&mut distrustful, &message(16, 0)).is_err());
    drop(distrustful);
    wait_until("the first is counted", || rig.closed(0, "handshake") == 1);
    let mut plain = connect(rig.addresses[0], "127.0.0.1");
    plain.write_all(&message(100, 0)).unwrap();
    let mut alert = Vec::new();
    let _ = io::Read::read_to_end(&mut plain, &mut alert);
    assert_eq!(alert.first(), Some(&21), "an alert of TLS, then the end");
    wait_until("the second is counted", || rig.closed(0, "handshake") == 2);
}

#[test]
fn who_never_shakes_hands_delays_nobody_and_no_stop() {
    let certificates = certificates();
    let mut rig = rig(&settings(&certificates, None));
    let silent: Vec<_> = (0..20).map(|_| connect(rig.addresses[0], "127.0.0.2")).collect();
    let mut client = dial(&rig, client(&certificates, &certificates.path("ca.pem"), None, &TLS13));
    client.write_all(&message(16, 0)).unwrap();
    rig.records(2);
    let begun = Instant::now();
    rig.stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((rig.closed(0, "stopped"), rig.closed(0, "handshake")), (21, 0));
    for mut each in silent {
        assert!(is_ended(&mut each));
    }
}

#[test]
fn files_that_are_missing_or_wrong_are_named_with_what_is_wrong() {
    let certificates = certificates();
    std::fs::write(certificates.path("nonsense.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    std::fs::write(certificates.path("no.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        .unwrap();
    std::fs::write(certificates.path("empty.pem"), "").unwrap();
    let good = settings(&certificates, Some("ca.pem"));
    assert_eq!(good.check_files().unwrap().len(), 1);
    let path = |name| Some(certificates.path(name));
    let tls = |certificate, key, client_ca| tls::Settings { certificate, key, client_ca };
    let (certificate, key) = (path("server.pem"), path("server.key"));
    for (tls, expected) in [
        (tls(None, key.clone(), None), "[collector.tls] certificate is not set, but a tls:// listener needs it"),
        (tls(certificate.clone(), None, None), "[collector.tls] key is not set"),
        (tls(path("absent.pem"), key.clone(), None), "absent.pem cannot be read: No such file"),
        (tls(path("server.key"), key.clone(), None), "certificate: the file "),
        (tls(path("server.key"), key.clone(), None), "server.key holds no certificate"),
        (tls(path("nonsense.pem"), key.clone(), None), "nonsense.pem is no good PEM file"),
        (tls(certificate.clone(), path("empty.pem"), None), "empty.pem holds no private key"),
        (tls(certificate.clone(), path("exporter.key"), None), "exporter.key cannot be used with the certificate in "),
        (tls(path("no.pem"), key.clone(), None), "server.key cannot be used with the certificate in "),
        (tls(certificate.clone(), key.clone(), path("empty.pem")), "client_ca: the file "),
        (tls(certificate.clone(), key.clone(), path("no.pem")), "no.pem"),
    ] {
        let error = Settings { tls, ..good.clone() }.check_files().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let without = Settings { listen: vec!["tcp://127.0.0.1:0".into()], tls: tls(None, None, None), ..good };
    assert!(without.check_files().is_ok(), "TCP needs no files");
}
