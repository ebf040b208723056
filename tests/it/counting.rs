//! Rules of counting: traffic that is exported twice is in sums once, whatever they are read from, and all of it stays stored.

use crate::support::messages::{message, set, template, words};
use crate::support::postgres::{TestDatabase, wait_on};
use crate::support::server::TestServer;
use flowledger::clock::{DAY, HOUR, ManualClock, SECOND, Timestamp};
use flowledger::columns::Encoder;
use flowledger::filter;
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::counting::{Count, Counting, NetworkRule};
use flowledger::flow::fields::{Dimension, Field};
use flowledger::flow::local::Local;
use flowledger::flow::value::wide_from_address;
use flowledger::keep::seal::seal;
use flowledger::query::{Counters, Engine, HostRequest, Order, Settings, Source, TopRequest, Window};
use flowledger::store::commit::Batch;
use flowledger::store::partitions::{DailyTable, MonthlyTable};
use flowledger::store::{Address, Database};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;

const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";
/// The start of a day long ago.
const START: Timestamp = Timestamp::from_micros(1_700_006_400 * SECOND);
/// The bytes that the one host really downloaded in each hour.
const TRUTH: u64 = 10_500;
/// The bytes of all flows that tell of it.
const ALL: u64 = 30_500;

fn local() -> Vec<IpNetwork> {
    vec!["10.0.0.0/8".parse().unwrap()]
}

/// A network of exporters with its two settings.
type Setting<'a> = (&'a str, Option<Count>, Option<&'a [u32]>);

fn rules(networks: &[Setting<'_>]) -> Counting {
    Counting::new(networks.iter().map(|(exporters, count, interfaces)| NetworkRule {
        exporters: exporters.parse().unwrap(),
        count: *count,
        interfaces: interfaces.map(<[u32]>::to_vec),
    }))
}

/// Ten downloads of 1,000 bytes as a border router sees them at ingress and at egress, and the router behind it, too, which
/// does not tell a direction; and five of 100 bytes that come by an interface of the second alone.
fn hour(start: Timestamp, [border, behind]: [u32; 2]) -> FlowBatch {
    let mut flows = FlowBatch::default();
    let mut add = |exporter: u32, direction: Option<u8>, [input, output]: [u32; 2], bytes: u64| {
        let row = flows.add_rows(1);
        let received = start.micros() + row as i64 * SECOND;
        flows.column_mut(Field::Received).time_run(row, 1).fill(received);
        flows.column_mut(Field::ExporterId).u32_run(row, 1).fill(exporter);
        for (field, address) in [(Field::SrcIp, "203.0.113.9"), (Field::DstIp, "10.0.0.1")] {
            flows.column_mut(field).wide_run(row, 1).fill(wide_from_address(address.parse().unwrap()));
        }
        flows.column_mut(Field::InBytes).u64_run(row, 1).fill(bytes);
        flows.column_mut(Field::InputInterface).u32_run(row, 1).fill(input);
        flows.column_mut(Field::OutputInterface).u32_run(row, 1).fill(output);
        if let Some(direction) = direction {
            flows.column_mut(Field::Direction).u8_run(row, 1).fill(direction);
        }
    };
    for _ in 0..10 {
        add(border, Some(0), [3, 4], 1_000);
        add(border, Some(1), [3, 4], 1_000);
        add(behind, None, [7, 8], 1_000);
    }
    (0..5).for_each(|_| add(behind, None, [9, 8], 100));
    flows
}

/// Something that waits, apart from the stack: the test waits for many things, and its own frame has room for all of them.
type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the host downloaded that day, as the top of downloaders and the host itself have it, and what was read.
fn downloaded(engine: &Engine) -> Waiting<'_, (u64, Source)> {
    Box::pin(ask_both(engine))
}

/// Seals an hour by these rules.
fn sealed<'a>(database: &'a Database, hour: Timestamp, rules: &'a Counting) -> Waiting<'a, bool> {
    Box::pin(async move { seal(database, hour, &Local::new(&local()), rules).await.unwrap() })
}

async fn ask_both(engine: &Engine) -> (u64, Source) {
    let window = Window { from: START, to: START.plus(DAY), zone: chrono_tz::UTC };
    let request = TopRequest {
        window,
        by: vec![Dimension::One(Field::DstIp)],
        order: Order::Bytes,
        limit: 5,
        filter: Some(filter::parse("dst net 10.0.0.0/8").unwrap()),
        counters: Counters::Scaled,
    };
    let top = engine.top(&request).await.unwrap();
    let host = HostRequest { host: "10.0.0.1".parse().unwrap(), window, counters: Counters::Raw };
    let host = engine.host(&host).await.unwrap();
    let all = engine.top(&TopRequest { filter: None, ..request }).await.unwrap();
    assert_eq!((top.source, &top.counted), (host.source, &host.counted));
    let bytes = [top.rows[0].totals.bytes, top.totals.bytes, host.download.bytes, all.totals.bytes];
    assert_eq!(bytes, [bytes[0]; 4]);
    (bytes[0], top.source)
}

#[test]
fn sums_are_those_of_the_flows_that_count_whether_from_segments_or_totals_and_after_the_rules_changed() {
    let test = TestDatabase::create();
    let ask = |statement: &str| std::thread::scope(|scope| scope.spawn(|| test.query(statement)).join().unwrap());
    wait_on(async {
        let database = Database::new(&Address::Url(test.url())).unwrap();
        database.prepare(|error| panic!("{error}")).await.unwrap();
        database.ensure_open().await.unwrap();
        database.journal_position(JOURNAL).await.unwrap();
        let exporters =
            [database.exporter_id([192, 0, 2, 1].into()).await, database.exporter_id([192, 0, 2, 2].into()).await];
        let exporters = exporters.map(Result::unwrap);
        for (position, start) in [START, START.plus(HOUR)].into_iter().enumerate() {
            database.ensure_day(DailyTable::Flows, start).await.unwrap();
            let flows = hour(start, exporters);
            let segments = vec![Encoder::new(0).encode(&flows, 0..flows.rows()).unwrap()];
            let (start, end) = (position as u64, position as u64 + 1);
            let complete_until = START.plus(DAY);
            let batch = Batch { start, end, complete_until, segments, rows: vec![flows], ..Batch::default() };
            database.commit(JOURNAL, &batch).await.unwrap();
        }
        let clock = Arc::new(ManualClock::new(START.plus(2 * DAY)));
        let engine = |rules: &Counting| {
            Engine::new(database.clone(), clock.clone(), Settings::default(), &local()).with_counting(rules.clone())
        };
        let none = Counting::default();
        let truth = rules(&[("192.0.2.1", Some(Count::Ingress), None), ("192.0.2.2", None, Some(&[9]))]);
        let segments = |segments| Source { segments, ..Source::default() };
        for (rules, hourly) in [
            (none.clone(), ALL),
            (rules(&[("192.0.2.1", Some(Count::Ingress), None)]), 20_500),
            (rules(&[("192.0.2.1", Some(Count::Egress), None)]), 20_500),
            (rules(&[("192.0.2.0/24", Some(Count::Ingress), None), ("192.0.2.2", Some(Count::None), None)]), 10_000),
            (truth.clone(), TRUTH),
        ] {
            assert_eq!(downloaded(&engine(&rules)).await, (2 * hourly, segments(2)), "{rules:?}");
        }

        // The first hour is sealed before anybody wrote a rule, the second one after.
        let local = Local::new(&local());
        let hours = [START, START.plus(HOUR)];
        assert!(sealed(&database, hours[0], &none).await);
        assert!(sealed(&database, hours[1], &truth).await);
        let one_of_each = Source { hours: 1, segments: 1, days: 0 };
        assert_eq!(downloaded(&engine(&none)).await, (2 * ALL, one_of_each));
        assert_eq!(downloaded(&engine(&truth)).await, (2 * TRUTH, one_of_each));
        let other = rules(&[("192.0.2.1", Some(Count::None), None)]);
        assert_eq!(downloaded(&engine(&other)).await, (2 * 10_500, segments(2)));

        // Sealed again by the rules, when its segment stays as it is, and added up.
        ask("UPDATE hours SET sealed_at = NULL, version = version + 1");
        for hour in hours {
            assert!(sealed(&database, hour, &truth).await);
        }
        database.ensure_month(MonthlyTable::HostTrafficDaily, START).await.unwrap();
        assert!(!database.sum_day(START, &local.fingerprint()).await.unwrap());
        assert!(database.sum_day(START, &truth.fingerprint(&local)).await.unwrap());
        assert_eq!(downloaded(&engine(&truth)).await, (2 * TRUTH, Source { days: 1, hours: 0, segments: 0 }));
        let everything = engine(&truth).counting_all();
        assert_eq!(downloaded(&everything).await, (2 * ALL, segments(2)));
        assert_eq!(downloaded(&engine(&none)).await, (2 * ALL, segments(2)));
        assert_eq!(
            ask("SELECT count(*), sum(in_bytes) FROM flows"),
            [["70", "61000"].map(|text| Some(text.to_owned()))]
        );
        database.close().await;
    });
}

/// A datagram of a template with addresses, bytes, interfaces and direction, and 20 flows: each 1,000 bytes from
/// 203.0.113.9 to 10.0.0.1, observed at ingress and at egress.
fn twice() -> Vec<u8> {
    let fields = [(8, 4), (12, 4), (1, 4), (10, 4), (14, 4), (61, 1)];
    let record = |direction: u8| [words(&[0xcb00_7109, 0x0a00_0001, 1_000, 3, 4]), vec![direction]].concat();
    let flows: Vec<u8> = (0..20).flat_map(|row| record(row % 2)).collect();
    message(9, 0, 1_000, &[template(0, 256, &fields), set(256, &flows)].concat())
}

#[test]
fn a_router_that_exports_ingress_and_egress_is_right_with_the_rule_in_answers_reports_and_lists() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "20")]);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&twice(), server.collector()).unwrap();
    server.wait_for_flows(20);
    let day = chrono::Utc::now().format("%F").to_string();
    let window = format!("from={day}T00:00:00Z&to={day}T23:59:59Z");
    let top = format!("/api/v1/top?filter=dst%20net%2010.0.0.0/8&{window}");
    let (host, peers) = (format!("/api/v1/hosts/10.0.0.1?{window}"), format!("/api/v1/hosts/10.0.0.1/peers?{window}"));
    let bytes = |server: &TestServer, more: &str| {
        let asked = [&top, &host, &peers].map(|path| server.json(&format!("{path}{more}")));
        let [top, host, peers] = &asked;
        let bytes = [&top["totals"], &top["rows"][0], &host["download"], &peers["totals"]].map(|sums| &sums["bytes"]);
        assert_eq!(bytes, [bytes[0]; 4]);
        assert_eq!([&top["counting"], &host["counting"]], [&peers["counting"]; 2]);
        (bytes[0].as_u64().unwrap(), top["counting"].clone())
    };
    let without = json!({"count": "rules", "rules": [], "more_rules": 0});
    assert_eq!(bytes(&server, ""), (20_000, without));
    assert_eq!(
        server.json("/api/v1/exporters")["exporters"][0]["counting"],
        json!({"count": "all", "interfaces": null})
    );

    server.terminate();
    server.set("EXPORTER", r#"[{address="127.0.0.0/8",count="ingress"},{address="127.0.0.1",count_interfaces=[4]}]"#);
    server.launch();
    let (sum, counting) = bytes(&server, "");
    let expected = json!({"count": "rules", "more_rules": 0, "rules": [
        {"exporter": "127.0.0.0/8", "count": "ingress", "interfaces": null},
        {"exporter": "127.0.0.1", "count": "ingress", "interfaces": [4]},
    ]});
    assert_eq!((sum, &counting), (10_000, &expected));
    let all = json!({"count": "all", "rules": [], "more_rules": 0});
    assert_eq!(bytes(&server, "&count=all"), (20_000, all));
    let (status, _, problem) = server.fetch(&format!("{top}&count=some"));
    assert_eq!(status, 400, "{problem}");
    assert!(problem.contains(r#"count is \"some\"; it must be rules or all."#), "{problem}");
    let rule = json!({"count": "ingress", "interfaces": [4]});
    assert_eq!(server.json("/api/v1/exporters")["exporters"][0]["counting"], rule);
    assert_eq!(server.json("/api/v1/exporters/1")["counting"], rule);

    let output = server.command(&["report", "run", "weekly-top-downloaders", "--day", &day]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = server.folder().join(String::from_utf8(output.stdout).unwrap().trim());
    let manifest: Value = serde_json::from_slice(&std::fs::read(report.with_extension("json")).unwrap()).unwrap();
    assert_eq!((&manifest["totals"]["bytes"], &manifest["counting"]), (&json!(10_000), &expected));
    assert!(std::fs::read_to_string(report).unwrap().contains("\n1,10.0.0.1,10000,"));
    let stored = server.database.as_ref().unwrap().query("SELECT count(*), sum(in_bytes) FROM flows");
    assert_eq!(stored, [["20", "20000"].map(|text| Some(text.to_owned()))]);
}
