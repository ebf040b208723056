//! The stamp from the datagram to the answer, its CSV, its manifest: what is missing, how many flows that is at most, of whom.

use crate::support::messages::{message, set, template, words};
use crate::support::postgres::TestDatabase;
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::clock::{Clock, DAY, HOUR, SystemClock, Timestamp};
use flowledger::flow::fields::{Dimension, Field};
use flowledger::query::{Completeness, Counters, Engine, Order, Settings, TopRequest, Window};
use flowledger::store::{Address, Database};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::sync::Arc;

/// Source address and bytes, four bytes each.
const FIELDS: [(u16, u16); 2] = [(8, 4), (1, 4)];

/// A data set of `records` records.
fn data(records: u32) -> Vec<u8> {
    let values: Vec<_> = (0..records).flat_map(|record| [0x0a00_0001 + record, 100]).collect();
    set(256, &words(&values))
}

/// The stamp of what was received today, beside sums and everything else of the answer.
fn today(server: &TestServer) -> String {
    let day = chrono::Utc::now().format("%F");
    server.database.as_ref().unwrap().record_for_three_days();
    format!("/api/v1/top?by=src_ip&from={day}T00:00:00Z&to={day}T23:59:59Z")
}

#[test]
fn lost_datagrams_and_records_show_in_the_answer_its_csv_and_its_manifest_with_their_exporter() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "20")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| socket.send_to(bytes, server.collector()).map(drop).unwrap();
    send(&message(9, 0, 1_000, &template(0, 256, &FIELDS)));
    send(&message(9, 1, 1_000, &data(3)));
    send(&message(9, 2, 1_000, &data(5)));
    send(&message(9, 5, 1_000, &data(1)));
    send(&message(10, 0, 0, &[template(2, 256, &FIELDS), data(2)].concat()));
    send(&message(10, 12, 0, &data(2)));
    server.wait_for_flows(13);
    let path = today(&server);
    let answer = server.json(&path);
    // Two datagrams of five flows at most, and ten records; 13 came, so 20 of 33.
    let lost = json!([
        {"cause": "network", "unit": "datagrams", "count": 2}, {"cause": "network", "unit": "records", "count": 10}
    ]);
    let stamp = |answer: &Value| {
        let completeness = &answer["completeness"];
        let exporter = &completeness["exporters"][0];
        assert_eq!((&completeness["lost"], &exporter["lost"]), (&lost, &lost), "{completeness}");
        assert_eq!((exporter["address"].as_str(), exporter["id"].is_u64()), (Some("127.0.0.1"), true));
        assert_eq!(completeness["more_exporters"], 0);
        completeness["undercount"].clone()
    };
    assert_eq!(stamp(&answer), json!({"flows_at_most": 20, "percent_at_most": 60.6061}));
    // All that was lost may have been what is asked for.
    let narrow = server.json(&format!("{path}&filter=src%20ip%2010.0.0.5"));
    assert_eq!(stamp(&narrow), json!({"flows_at_most": 20, "percent_at_most": 95.2381}));
    let host = server.json(&path.replace("top?by=src_ip&", "hosts/10.0.0.5?"));
    assert_eq!(stamp(&host), json!({"flows_at_most": 20, "percent_at_most": 95.2381}));

    // The table stays a table: the stamp travels beside it.
    let agent = ureq::Agent::new_with_defaults();
    let mut csv = agent.get(server.url(&format!("{path}&format=csv"))).call().unwrap();
    let around: Value = serde_json::from_slice(csv.headers()["flowledger-answer"].as_bytes()).unwrap();
    assert_eq!(around["completeness"]["undercount"], stamp(&answer));
    let body = csv.body_mut().read_to_string().unwrap();
    assert!(body.starts_with("rank,src_ip,") && !body.contains("network"), "{body}");
    let day = chrono::Utc::now().format("%F").to_string();
    let output = server.command(&["report", "run", "weekly-top-downloaders", "--day", &day]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = server.folder().join(String::from_utf8(output.stdout).unwrap().trim());
    let manifest: Value = serde_json::from_slice(&std::fs::read(report.with_extension("json")).unwrap()).unwrap();
    assert_eq!(stamp(&manifest)["flows_at_most"], 20);
    assert!(!std::fs::read_to_string(report).unwrap().contains("network"));

    // A template that never came: nobody knows what its sets held.
    send(&message(9, 6, 1_000, &set(999, &[0; 16])));
    let parked = wait_for("the set to be told", 20, || {
        let stamp = server.json(&path)["completeness"].clone();
        stamp["lost"].as_array().unwrap().iter().any(|row| row["cause"] == "parked").then_some(stamp)
    });
    assert_eq!((&parked["undercount"], &parked["exact"]), (&Value::Null, &false.into()));
}

#[test]
fn without_loss_the_bound_is_nothing_and_with_an_exporter_that_has_no_numbers_there_is_none() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "20")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fields = template(0, 256, &FIELDS);
    socket.send_to(&message(9, 0, 1_000, &[fields, data(3)].concat()), server.collector()).unwrap();
    server.wait_for_flows(3);
    let path = today(&server);
    let stamp = server.json(&path)["completeness"].clone();
    assert_eq!(stamp["undercount"], json!({"flows_at_most": 0, "percent_at_most": 0.0}), "{stamp}");
    assert_eq!((&stamp["lost"], &stamp["exporters"]), (&json!([]), &json!([])));
    // NetFlow v1: version, count, uptime, seconds, nanoseconds, and one record of 52 bytes.
    let mut v1 = vec![0, 1, 0, 1];
    v1.resize(16 + 52, 0);
    socket.send_to(&v1, server.collector()).unwrap();
    server.wait_for_flows(4);
    let stamp = server.json(&path)["completeness"].clone();
    assert_eq!((&stamp["undercount"], &stamp["lost"]), (&Value::Null, &json!([])), "{stamp}");
    // Flows that waited for the database are older than the row of their exporter.
    let database = server.database.as_ref().unwrap();
    database.query("UPDATE exporters SET created_at = created_at + interval '1 day'");
    assert_eq!(server.json(&path)["completeness"]["undercount"], Value::Null);
}

#[test]
fn what_the_last_collector_received_since_it_reported_is_missing_however_long_ago_that_is() {
    const JOURNALS: [&str; 2] = ["11111111-2222-4333-8444-555555555555", "11111111-2222-4333-8444-666666666666"];
    let test = TestDatabase::create();
    // The sessions of a database live as long as the runtime they began in.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let day_ago = SystemClock.now().plus(-DAY);
    let stamp = |database: &Database| -> Completeness {
        let engine = Engine::new(database.clone(), Arc::new(SystemClock), Settings::default(), &[]);
        let request = TopRequest {
            window: Window { from: day_ago, to: day_ago.plus(DAY), zone: chrono_tz::UTC },
            by: vec![Dimension::One(Field::DstIp)],
            order: Order::Bytes,
            limit: 1,
            filter: None,
            counters: Counters::Scaled,
        };
        runtime.block_on(engine.top(&request)).unwrap().completeness
    };
    let told = |journal: usize, complete: Option<&str>, reported: &str| -> Option<Timestamp> {
        let complete = complete.map_or_else(|| "NULL".to_owned(), |ago| format!("now() - interval '{ago}'"));
        let journal = JOURNALS[journal];
        let rows = test.query(&format!(
            "UPDATE journal_positions SET complete_until = {complete}, updated_at = now() - interval '{reported}' \
             WHERE journal_id = '{journal}' RETURNING (extract(epoch FROM complete_until) * 1000000)::bigint::text"
        ));
        rows[0][0].as_ref().map(|micros| Timestamp::from_micros(micros.parse().unwrap()))
    };
    let database = runtime.block_on(async {
        let database = Database::new(&Address::Url(test.url())).unwrap();
        database.prepare(|error| panic!("{error}")).await.unwrap();
        database.ensure_open().await.unwrap();
        database
    });
    let is = |stale: Option<Timestamp>| {
        let stamp = stamp(&database);
        assert_eq!((stamp.stale_since, stamp.exact), (stale, stale.is_none()), "{stamp:?}");
        let until = runtime.block_on(database.complete_until()).unwrap();
        assert!(stale.is_none_or(|stale| until == Some(stale)), "{until:?}");
    };
    assert_eq!(runtime.block_on(database.complete_until()).unwrap(), None);
    runtime.block_on(database.journal_position(JOURNALS[0])).unwrap();
    let began = "UPDATE journal_positions SET created_at = now() - interval '9 days'";
    test.query(began);

    is(told(0, Some("3 days"), "3 days"));
    // A second collector that has stored nothing yet says nothing about the first.
    runtime.block_on(database.journal_position(JOURNALS[1])).unwrap();
    let last = told(0, Some("3 days"), "3 days");
    told(1, None, "0 days");
    is(last);
    // It reports: the first counts for a day more.
    told(1, Some("-1 hours"), "0 days");
    is(None);
    is(told(0, Some("23 hours"), "23 hours"));
    // After that nobody waits for it any more, but of what it received in that day nobody knows, or until another one began.
    let lost = || {
        let lost = stamp(&database).lost;
        lost.iter().find(|lost| lost.cause == "collector_down").map_or(0, |lost| lost.count)
    };
    told(1, Some("-1 hours"), "0 days");
    told(0, Some("47 hours"), "47 hours");
    assert!((3_590..=3_610).contains(&lost()) && !stamp(&database).exact, "{} s", lost());
    test.query(&format!(
        "UPDATE journal_positions SET created_at = now() - interval '23 hours 30 minutes' WHERE journal_id = '{}'",
        JOURNALS[1]
    ));
    assert!((1_790..=1_810).contains(&lost()), "{} s", lost());
    // Both are silent: the last to report counts, and the other while it was alive then.
    told(0, Some("5 days"), "5 days");
    is(told(1, Some("3 days"), "3 days"));
    told(1, Some("3 days"), "3 days");
    is(told(0, Some("92 hours"), "92 hours"));
    // One that never stored anything is complete until it began, and not until now.
    test.query("DELETE FROM journal_positions");
    runtime.block_on(database.journal_position(JOURNALS[0])).unwrap();
    test.query(began);
    let stamp = stamp(&database);
    let since = stamp.stale_since.map(|since| SystemClock.now().micros() - since.micros());
    assert!(!stamp.exact && since.is_some_and(|age| (9 * DAY..9 * DAY + HOUR).contains(&age)), "{stamp:?}");
    runtime.block_on(database.close());
}
