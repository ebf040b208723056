//! `flowledger doctor` beside a running server and without one: all is well, and then each difference is planted, named, and
//! mended. Also what the server itself warns of when it starts.

use crate::support::archives::{OldFlow, nfdump_1_6};
use crate::support::postgres::query;
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::private_postgres::{self, Settings};
use std::net::UdpSocket;

/// What the doctor says, and whether it found nothing wrong.
fn examine(server: &TestServer, arguments: &[&str]) -> (bool, String) {
    let api = server.url("");
    let address = api.strip_prefix("http://").unwrap();
    let output = server.command(&[&["doctor", "--server", address], arguments].concat());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(!told.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), told)
}

/// The URL of the server's own PostgreSQL.
fn own_database(server: &TestServer) -> String {
    let directory = server.folder().join("data/postgres");
    let connection = private_postgres::find_running(&Settings { directory, ..Settings::default() }).unwrap();
    let directory = connection.socket_directory.display();
    let (user, port, database) = (connection.user, connection.port, connection.database);
    format!("postgres://{user}@localhost/{database}?host={directory}&port={port}")
}

#[test]
fn all_is_well_and_then_each_planted_difference_is_named() {
    let settings = [("INGEST__COMMIT_INTERVAL_MS", "20"), ("COLLECTOR__RECEIVE_BUFFER_BYTES", "100000")];
    let mut server = TestServer::with_private_postgres(&settings);
    traffic::send(server.collector(), "v9", 20_000, 20_000, 3);
    // One that is refused, and one that is nothing.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&[0, 9, 0, 1, 7][..], b"hello"] {
        socket.send_to(bytes, server.collector()).unwrap();
    }
    server.wait_for_flows(20_000);
    wait_for("the refused ones to be counted", 20, || {
        (server.metric("ingest_rejected_total unit=\"datagrams\"") == 2).then_some(())
    });
    let (well, told) = examine(&server, &["--all"]);
    assert!(well && !told.contains("DIFFERENCE"), "{told}");
    // No hour is over yet.
    assert_eq!(told.matches("n/a").count(), 3, "{told}");
    assert_eq!(told.lines().count(), 22, "{told}");
    let url = own_database(&server);
    let run = |statement: &str| query(&url, statement);
    let day = chrono::Utc::now().format("%F").to_string();
    let tomorrow = (chrono::Utc::now() + chrono::Days::new(1)).format("%Y_%m_%d").to_string();
    let first = "WHERE segment_id = (SELECT min(segment_id) FROM flow_segments_open)";
    let change = |what: &str| format!("UPDATE flow_segments_open SET {what} {first}");
    let flip = "in_bytes = set_byte(in_bytes, 12, 255 - get_byte(in_bytes, 12))";
    // What is planted, what is named, what mends it.
    let planted: [(String, &[&str], String); 11] = [
        (
            change("total_bytes = total_bytes + 1"),
            &["segment 1099511627776: it tells", "the table flows has", " bytes, the segments have"],
            change("total_bytes = total_bytes - 1"),
        ),
        (
            change("flow_rows = flow_rows - 1"),
            &["segment 1099511627776: ", "20000 records, the segments have 19999", "20000 records were decoded"],
            change("flow_rows = flow_rows + 1"),
        ),
        (change(flip), &["segment 1099511627776: ", "in_bytes"], change(flip)),
        (
            change("received_last = received_last + interval '1 us'"),
            &["its flows were not received from"],
            change("received_last = received_last - interval '1 us'"),
        ),
        (
            change("segment_id = segment_id + 1000000"),
            &["segment 1099512627776 was given out by no journal"],
            "UPDATE flow_segments_open SET segment_id = segment_id - 1000000 WHERE segment_id = 1099512627776"
                .to_owned(),
        ),
        (
            "CREATE TABLE twice AS SELECT * FROM flow_segments_open ORDER BY segment_id LIMIT 1; \
             UPDATE twice SET stored = stored + interval '1 us'; \
             INSERT INTO flow_segments_open SELECT * FROM twice"
                .to_owned(),
            &["segment 1099511627776 is there more than once", "the segments hold"],
            "DELETE FROM flow_segments_open WHERE (segment_id, stored) IN (SELECT segment_id, stored FROM \
             twice); DROP TABLE twice"
                .to_owned(),
        ),
        (
            "INSERT INTO flows (received, exporter_id) SELECT now(), 77".to_owned(),
            &["20001 records, the segments have 20000", "20001 flows"],
            "DELETE FROM flows WHERE exporter_id = 77".to_owned(),
        ),
        (
            "UPDATE exporter_activity SET flows = flows + 5".to_owned(),
            &["20005 records were decoded, the segments hold 20000"],
            "UPDATE exporter_activity SET flows = flows - 5".to_owned(),
        ),
        (
            "ALTER ROLE flowledger SET synchronous_commit = off".to_owned(),
            &["synchronous_commit = off"],
            "ALTER ROLE flowledger RESET synchronous_commit".to_owned(),
        ),
        (
            format!("ALTER TABLE flows DETACH PARTITION flows_p{tomorrow}"),
            &["no partition for"],
            format!(
                "ALTER TABLE flows ATTACH PARTITION flows_p{tomorrow} FOR VALUES FROM \
                 (date_trunc('day', now(), 'UTC') + interval '24h') TO (date_trunc('day', now(), 'UTC') + interval '48h')"
            ),
        ),
        (
            "CREATE TABLE flow_segments_p2020_02_01 PARTITION OF flow_segments FOR VALUES FROM ('2020-02-01 00:00Z') \
             TO ('2020-02-02 00:00Z')"
                .to_owned(),
            &["2020-02-01 is older than 90 days"],
            "DROP TABLE IF EXISTS flow_segments_p2020_02_01".to_owned(),
        ),
    ];
    for (statement, named, mends) in planted {
        run(&statement);
        let (well, told) = examine(&server, &["--day", &day]);
        assert!(!well, "{statement}\n{told}");
        for name in named {
            assert!(told.contains(name), "{statement}: {name}\n{told}");
        }
        run(&mends);
    }
    let (well, told) = examine(&server, &["--day", &day]);
    assert!(well, "{told}");

    // Without the server; its PostgreSQL is started for the time.
    server.terminate();
    let (well, told) = examine(&server, &[]);
    assert!(well && told.contains("n/a         server's counters"), "{told}");
    for entry in std::fs::read_dir(server.journal()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (well, told) = examine(&server, &[]);
    assert!(!well && told.contains("no file of the journal is left"), "{told}");
}

#[test]
fn host_totals_that_are_not_what_their_flows_are_are_named_and_counted_again() {
    let server = TestServer::start();
    // Two days ago, in hours of which the day has no others.
    let day = (chrono::Utc::now().timestamp() / 86_400 - 2) * 86_400;
    let flow = |index: u32| OldFlow {
        received: Some((day + 6 * 3_600) as u64 * 1_000 + u64::from(index) * 40_000),
        ended: day as u64 * 1_000,
        source: [198, 51, 100, 1].into(),
        destination: [10, 0, 0, 1 + (index % 7) as u8].into(),
        ports: (443, 1_024),
        protocol: 6,
        packets: 2,
        bytes: 1_000,
        interfaces: (3, 4),
    };
    let path = server.folder().join("nfcapd.1");
    std::fs::write(&path, nfdump_1_6(&(0..600).map(flow).collect::<Vec<_>>(), 100, 0)).unwrap();
    assert!(server.command(&["import", path.to_str().unwrap()]).status.success());
    let database = server.database.as_ref().unwrap();
    wait_for("the day to be added up", 60, || (!database.query("SELECT FROM days").is_empty()).then_some(()));
    // What people read by SQL shows a day only while its hours are those that were added up.
    let by_day = || database.query("SELECT host::text FROM host_traffic_by_day").len();
    assert_eq!(by_day(), 7);
    database.query("UPDATE hours SET version = version + 1 WHERE hour = (SELECT min(hour) FROM hours)");
    assert_eq!(by_day(), 0);
    wait_for("the day to be added up again", 60, || (by_day() == 7).then_some(()));
    let unpacked = "SELECT FROM hours WHERE totals IS NULL UNION ALL SELECT FROM days WHERE totals IS NULL";
    let told = |check: &str, told: &str| {
        let lines: Vec<_> = told.lines().skip_while(|line| !line.contains(check)).collect();
        let more = lines.iter().skip(1).take_while(|line| line.starts_with(' ')).count();
        lines[..=more].join("\n")
    };
    let (_, all) = examine(&server, &["--all"]);
    let hours = told("host totals = segments", &all);
    assert!(hours.starts_with("OK") && hours.contains("7 of 7 sealed hours"), "{all}");
    assert!(told("days = hours", &all).starts_with("OK"), "{all}");
    let first = "WHERE host = '10.0.0.3'";
    for (statement, check, named) in [
        (format!("UPDATE host_traffic_hourly SET bytes = bytes + 1 {first}"), "host totals", "1 of 7 totals differ"),
        (format!("DELETE FROM host_traffic_hourly {first}"), "host totals", "10.0.0.3"),
        (
            "UPDATE hours SET totals = (SELECT totals FROM hours ORDER BY hour DESC LIMIT 1) \
             WHERE hour = (SELECT min(hour) FROM hours)"
                .to_owned(),
            "host totals",
            "packed totals are not those of its rows",
        ),
        (
            "UPDATE days SET totals = overlay(totals PLACING '\\x0001'::bytea FROM 9)".to_owned(),
            "host totals",
            "damaged",
        ),
        (format!("UPDATE host_traffic_daily SET last_seen = now() {first}"), "days = hours", "1 totals are not those"),
        (format!("DELETE FROM host_traffic_daily {first}"), "days = hours", "1 totals are not those"),
    ] {
        wait_for("all to be packed", 60, || database.query(unpacked).is_empty().then_some(()));
        database.query(&statement);
        // A sample of the two newest days would not see it.
        let (well, all) = examine(&server, &["--all"]);
        let found = told(check, &all);
        assert!(!well && found.starts_with("DIFFERENCE") && found.contains(named), "{statement}\n{all}");
        // As many hours as are told, each with the command that mends it.
        for line in found.lines() {
            let advice = line.split_once("flowledger ").unwrap().1;
            let output = server.command(&advice.split(' ').collect::<Vec<_>>());
            assert!(output.status.success(), "{advice}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let (_, all) = examine(&server, &["--all"]);
        assert!(told("host totals", &all).starts_with("OK") && told("days =", &all).starts_with("OK"), "{all}");
    }
}

#[test]
fn a_server_that_starts_on_an_unsafe_database_warns_and_the_doctor_names_the_same() {
    // The database of tests is not synced.
    let mut server = TestServer::start();
    assert!(server.log().contains("PostgreSQL runs with fsync = off"), "{}", server.log());
    assert!(server.log().contains("full_page_writes = off"), "{}", server.log());
    server.terminate();
    let database = server.database.as_ref().unwrap();
    let day = database
        .query("SELECT relid::regclass::text FROM pg_partition_tree('flow_segments') WHERE isleaf ORDER BY 1 LIMIT 1");
    let day = day[0][0].clone().unwrap();
    database.query(&format!("ALTER TABLE {day} SET UNLOGGED"));
    database.query(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    );
    server.launch();
    let warnings = [format!("the table {day} is UNLOGGED"), "synchronous_commit = off".to_owned()];
    let (well, told) = examine(&server, &[]);
    for warning in warnings {
        assert!(server.log().contains(&warning), "{warning}\n{}", server.log());
        assert!(!well && told.contains(&warning), "{told}");
    }
}
