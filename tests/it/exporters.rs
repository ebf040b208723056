//! What exporters tell about themselves, from the transaction that stores it to `/api/v1/exporters/{id}`, and what the
//! configuration says about them.

use crate::support::messages::{self, message, template};
use crate::support::postgres::{TestDatabase, query, wait_on};
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::clock::{Clock, DAY, HOUR, ManualClock, SECOND, SystemClock, Timestamp};
use flowledger::flow::counting::Counting;
use flowledger::flow::facts::{Counters, Fact};
use flowledger::flow::local::Local;
use flowledger::keep::{self, Keeper};
use flowledger::store::commit::{Activity, Batch};
use flowledger::store::exporter::{ExporterDetail, HourLoss};
use flowledger::store::facts::{ENTRIES, Facts, UNKNOWN_ELEMENTS, UnknownElements};
use flowledger::store::{Address, Database};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";
/// The start of an hour.
const START: Timestamp = Timestamp::from_micros(1_795_392_000_000_000);

/// A database that facts are stored in, batch by batch.
struct Ledger<'a> {
    test: &'a TestDatabase,
    database: Database,
    position: u64,
}

impl<'a> Ledger<'a> {
    async fn new(test: &'a TestDatabase) -> Self {
        let database = Database::new(&Address::Url(test.url())).unwrap();
        database.prepare(|error| panic!("{error}")).await.unwrap();
        database.journal_position(JOURNAL).await.unwrap();
        Self { test, database, position: 0 }
    }

    async fn exporter(&self, last: u8) -> u32 {
        self.database.exporter_id([192, 0, 2, last].into()).await.unwrap()
    }

    /// Stores a batch and gives how many facts were refused.
    async fn store(&mut self, batch: Batch) -> u64 {
        let (start, end) = (self.position, self.position + 1);
        self.position = end;
        self.database.commit(JOURNAL, &Batch { start, end, ..batch }).await.unwrap()
    }

    async fn told(&mut self, at: Timestamp, facts: Vec<(u32, Fact)>) -> u64 {
        self.store(Batch { facts: gathered(at, facts), ..Batch::default() }).await
    }

    async fn detail(&self, exporter: u32) -> ExporterDetail {
        self.database.exporter(exporter, START, START.plus(DAY)).await.unwrap().unwrap()
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let (url, sql) = (self.test.url(), sql.to_owned());
        tokio::task::spawn_blocking(move || query(&url, &sql)).await.unwrap()
    }
}

fn gathered(at: Timestamp, facts: Vec<(u32, Fact)>) -> Facts {
    let hour = |fact: &Fact| matches!(fact, Fact::Counters(_)).then(|| at.hour());
    facts.into_iter().map(|(exporter, fact)| ((exporter, fact.key(), hour(&fact)), (at, fact))).collect()
}

fn own(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn interface(interface: u32, name: Option<&str>, description: Option<&str>, speed: Option<u64>) -> Fact {
    Fact::Interface { interface, name: own(name), description: own(description), speed }
}

fn application(application_id: u64, name: Option<&str>, description: Option<&str>) -> Fact {
    Fact::Application { application_id, name: own(name), description: own(description) }
}

fn counters(interface: u32, in_bytes: u64) -> Fact {
    Fact::Counters(Counters { interface, in_bytes, out_errors: 3, ..Counters::default() })
}

fn statistic(observation_domain: u32, value: u64) -> Fact {
    Fact::Statistic { observation_domain, statistic: "notSentFlowTotalCount", value }
}

#[test]
fn a_later_fact_replaces_what_it_tells_and_keeps_the_rest_and_the_same_again_writes_nothing() {
    let test = TestDatabase::create();
    wait_on(async {
        let mut ledger = Ledger::new(&test).await;
        let (one, other) = (ledger.exporter(1).await, ledger.exporter(2).await);
        let first = vec![
            (one, interface(3, Some("Gi0/3"), Some("old"), Some(1_000_000_000))),
            (one, application(u64::MAX, Some("dns"), None)),
            (one, application(80, None, Some("web"))),
            (one, Fact::Vrf { vrf: 1, name: own(Some("red")) }),
            (one, statistic(7, u64::MAX)),
            (other, interface(3, Some("eth3"), None, None)),
        ];
        assert_eq!(ledger.told(START, first).await, 0);
        let second = vec![
            (one, interface(3, None, Some("new"), None)),
            (one, application(u64::MAX, Some("domain"), Some("names"))),
            (one, Fact::Vrf { vrf: 1, name: None }),
            (one, Fact::Vrf { vrf: 2, name: None }),
            (one, statistic(7, 5)),
        ];
        assert_eq!(ledger.told(START.plus(SECOND), second.clone()).await, 0);
        let detail = ledger.detail(one).await;
        let row = &detail.interfaces[0];
        assert_eq!((row.name.as_deref(), row.description.as_deref()), (Some("Gi0/3"), Some("new")));
        assert_eq!((row.speed, &row.counters, detail.interfaces.len()), (Some(1_000_000_000), &None, 1));
        let told: Vec<_> = detail
            .applications
            .iter()
            .map(|row| (row.application_id, row.name.as_deref(), row.description.as_deref()))
            .collect();
        assert_eq!(told, [(u64::MAX, Some("domain"), Some("names")), (80, None, Some("web"))]);
        assert_eq!(detail.vrfs, [(1, own(Some("red"))), (2, None)]);
        let row = &detail.statistics[0];
        assert_eq!((row.observation_domain, row.value, row.received), (7, 5, START.plus(SECOND)));
        assert_eq!(ledger.detail(other).await.interfaces[0].name.as_deref(), Some("eth3"));

        let versions = "SELECT xmin, ctid, 'i' FROM interfaces UNION ALL SELECT xmin, ctid, 'a' FROM applications \
                        UNION ALL SELECT xmin, ctid, 'v' FROM vrfs UNION ALL SELECT xmin, ctid, 's' \
                        FROM exporter_statistics UNION ALL SELECT xmin, ctid, 'c' FROM interface_counters";
        ledger.told(START.plus(2 * SECOND), vec![(one, counters(3, 9))]).await;
        let before = ledger.rows(versions).await;
        let again = second.into_iter().chain([(one, counters(3, 9))]).collect();
        assert_eq!(ledger.told(START.plus(3 * SECOND), again).await, 0);
        assert_eq!(ledger.rows(versions).await, before);
        ledger.database.close().await;
    });
}

#[test]
fn counters_are_kept_by_the_hour_and_go_when_they_are_too_old() {
    let test = TestDatabase::create();
    wait_on(async {
        let mut ledger = Ledger::new(&test).await;
        let one = ledger.exporter(1).await;
        for (hour, second, bytes) in [(0, 10, 5), (0, 20, 6), (0, 15, 99), (1, 5, u64::MAX)] {
            ledger.told(START.plus(hour * HOUR + second * SECOND), vec![(one, counters(4, bytes))]).await;
        }
        let kept = "SELECT in_bytes, out_errors FROM interface_counters ORDER BY hour";
        let text = |text: &str| Some(text.to_owned());
        let last = vec![text("18446744073709551615"), text("3")];
        assert_eq!(ledger.rows(kept).await, [vec![text("6"), text("3")], last.clone()]);
        // An interface of which only counters are known is an interface.
        let detail = ledger.detail(one).await;
        let (received, told) = detail.interfaces[0].counters.unwrap();
        assert_eq!((detail.interfaces[0].interface, told.in_bytes, told.out_errors), (4, u64::MAX, 3));
        assert_eq!(received, START.plus(HOUR + 5 * SECOND));

        assert_eq!(ledger.database.trim_counters(START.plus(HOUR)).await.unwrap(), 1);
        assert_eq!(ledger.rows(kept).await, [last]);
        assert_eq!(ledger.database.trim_counters(START.plus(HOUR)).await.unwrap(), 0);

        ledger.told(START.plus(3 * DAY), vec![(one, counters(5, 1))]).await;
        ledger.store(Batch { complete_until: START.plus(3 * DAY), ..Batch::default() }).await;
        let settings = keep::Settings { flows_days: 0, segments_days: 1, max_bytes: None };
        let clock = Arc::new(ManualClock::new(START.plus(3 * DAY)));
        let keeper = Keeper::start(
            settings,
            Local::new(&[]),
            Counting::default(),
            ledger.database.clone(),
            clock,
            keep::Metrics::default(),
        );
        let begun = Instant::now();
        while ledger.rows(kept).await != [vec![text("1"), text("3")]] {
            assert!(begun.elapsed() < Duration::from_secs(20), "upkeep keeps what is too old");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        keeper.stop().await;
        ledger.database.close().await;
    });
}

#[test]
fn an_exporter_that_tells_too_much_is_cut_off_and_counted_and_others_are_not() {
    let test = TestDatabase::create();
    wait_on(async {
        let mut ledger = Ledger::new(&test).await;
        let (greedy, other) = (ledger.exporter(1).await, ledger.exporter(2).await);
        let fill = format!(
            "INSERT INTO interfaces (exporter_id, interface) SELECT {greedy}, i FROM generate_series(1, {}) AS i",
            ENTRIES - 3
        );
        ledger.rows(&fill).await;
        let mut facts = vec![(greedy, interface(1, Some("known"), None, None)), (greedy, counters(2, 1))];
        facts.extend((4_000_000_000..4_000_000_100).map(|id| (greedy, interface(id, Some("new"), None, None))));
        facts.extend([(greedy, application(1, None, None)), (greedy, Fact::Vrf { vrf: 1, name: None })]);
        facts.extend([(greedy, statistic(1, 1)), (greedy, counters(4_000_000_099, 1))]);
        facts.extend([(other, interface(1, None, None, None)), (other, statistic(1, 1))]);
        assert_eq!(ledger.told(START, facts).await, 97 + 3 + 1);
        let detail = ledger.detail(greedy).await;
        assert_eq!(detail.interfaces[0].name.as_deref(), Some("known"));
        assert!(detail.interfaces[1].counters.is_some());
        let (known, totals) = ((ENTRIES - 3) as u64, detail.totals);
        assert_eq!((totals.interfaces, totals.applications, totals.vrfs, totals.statistics), (known + 3, 0, 0, 0));
        assert_eq!(detail.interfaces.len(), 10_000, "a list has an end");
        let lost = HourLoss { hour: START, cause: "fact_limit".into(), unit: "facts".into(), count: 101 };
        assert_eq!(detail.loss, [lost]);
        let detail = ledger.detail(other).await;
        assert_eq!((detail.totals.interfaces, detail.totals.statistics, detail.totals.loss), (1, 1, 0));
        ledger.database.close().await;
    });
}

#[test]
fn unknown_elements_add_up_until_there_are_too_many() {
    let test = TestDatabase::create();
    wait_on(async {
        let mut ledger = Ledger::new(&test).await;
        let (greedy, other) = (ledger.exporter(1).await, ledger.exporter(2).await);
        let many = |count: u16| (0..count).map(|id| ((greedy, 9, id), (2u64, START)));
        let store = |elements: UnknownElements| Batch { unknown_elements: elements, ..Batch::default() };
        assert_eq!(ledger.store(store(many(900).collect())).await, 0);
        let later = [((other, 0, 65_535), (1, START)), ((greedy, u32::MAX, 1), (7, START))];
        let refused = ledger.store(store(many(1_100).chain(later).collect())).await;
        assert_eq!(refused, 1_101 - UNKNOWN_ELEMENTS as u64);
        let detail = ledger.detail(greedy).await;
        assert_eq!((detail.totals.unknown_elements, detail.unknown_elements.len()), (1_000, 1_000));
        let records: u64 = detail.unknown_elements.iter().map(|row| row.records).sum();
        assert_eq!(records, 900 * 4 + 100 * 2);
        assert_eq!((detail.loss[0].cause.as_str(), detail.loss[0].count), ("fact_limit", 101));
        let row = &ledger.detail(other).await.unknown_elements[0];
        assert_eq!((row.enterprise, row.element, row.records, row.last_seen), (0, 65_535, 1, START));
        ledger.database.close().await;
    });
}

#[test]
fn hostile_text_comes_back_as_it_came_but_for_nul_also_after_a_kill() {
    let mut server = TestServer::start();
    let url = server.database.as_ref().unwrap().url();
    let now = SystemClock.now();
    let formula = "=HYPERLINK(\"http://x\",\"y\")";
    let script = "<script>alert(1)</script>'; DROP TABLE interfaces; --\\";
    wait_on(async {
        let database = Database::new(&Address::Url(url)).unwrap();
        let id = database.exporter_id([192, 0, 2, 1].into()).await.unwrap();
        database.journal_position(JOURNAL).await.unwrap();
        let facts = vec![
            (id, interface(1, Some(formula), Some(script), None)),
            (id, application(1, Some("a\0b"), Some("\u{202e}é😀\n"))),
            (id, Fact::Vrf { vrf: 1, name: own(Some("\0")) }),
        ];
        let activity = |version, clock_offset_ms| Activity {
            exporter_id: id,
            version,
            last_seen: now,
            datagrams: 1,
            flows: 0,
            most_flows: 0,
            clock_offset_ms,
        };
        let told = vec![activity(10, Some(-86_400_000)), activity(105, None)];
        let batch = Batch { end: 1, facts: gathered(now, facts), activity: told, ..Batch::default() };
        assert_eq!(database.commit(JOURNAL, &batch).await.unwrap(), 0);
        // What is told later without a time keeps the offset.
        let batch = Batch { start: 1, end: 2, activity: vec![activity(10, None)], ..Batch::default() };
        database.commit(JOURNAL, &batch).await.unwrap();
        database.close().await;
    });
    let before = server.json("/api/v1/exporters/1");
    assert_eq!(before["protocols"], json!(["ipfix", "sflow_v5"]));
    assert_eq!(before["clock_offset_ms"], json!({"ipfix": -86_400_000, "sflow_v5": null}));
    let interface = json!([{"interface": 1, "name": formula, "description": script, "speed": null, "counters": null}]);
    assert_eq!(before["interfaces"], interface);
    let application = json!([{"application_id": 1, "name": "a\u{fffd}b", "description": "\u{202e}é😀\n"}]);
    assert_eq!(before["applications"], application);
    assert_eq!(before["vrfs"], json!([{"vrf": 1, "name": "\u{fffd}"}]));
    server.kill();
    server.launch();
    let mut after = server.json("/api/v1/exporters/1");
    after["window"] = before["window"].clone();
    assert_eq!(after, before);
}

#[test]
fn one_exporter_is_shown_with_its_sessions_templates_clock_and_loss_and_keeps_them_over_a_kill() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    assert_eq!(server.fetch("/api/v1/exporters/1").0, 404);
    let mut flows = 0;
    for protocol in ["v5", "v9", "ipfix"] {
        flows += traffic::send(server.collector(), protocol, 300, 0, 1)["flows"].as_u64().unwrap();
    }
    server.wait_for_flows(flows);
    let check = |server: &TestServer| {
        let exporter = server.json("/api/v1/exporters/1");
        assert_eq!((&exporter["address"], &exporter["flows"]), (&json!("127.0.0.1"), &json!(flows)));
        assert_eq!(exporter["protocols"], json!(["netflow_v5", "netflow_v9", "ipfix"]));
        for protocol in ["netflow_v5", "netflow_v9", "ipfix"] {
            let offset = exporter["clock_offset_ms"][protocol].as_i64().unwrap();
            assert!(offset.abs() < 60_000, "{protocol}: {offset}");
        }
        let sessions = exporter["sessions"].as_array().unwrap();
        assert_eq!((sessions.len(), &exporter["totals"]["sessions"]), (3, &json!(3)));
        for session in sessions {
            assert_eq!(session["transport"], "udp");
            let templates = session["templates"].as_array().unwrap();
            assert_eq!(templates.is_empty(), session["protocol"] == "netflow_v5");
            let fields = templates.iter().flat_map(|template| template["fields"].as_array().unwrap());
            let source = fields.filter(|field| field["field"] == "src_ip");
            assert!(source.clone().count() == 0 || source.clone().any(|field| field["name"] == "sourceIPv4Address"));
            assert!(templates.is_empty() || source.count() > 0);
        }
        assert_eq!((&exporter["loss"], &exporter["totals"]["loss"]), (&json!([]), &json!(0)));
        let week = server.json("/api/v1/exporters/1?week=2020-W01&tz=Europe/Berlin");
        assert_eq!(week["window"]["from"], "2019-12-30T00:00:00+01:00");
        sessions.clone()
    };
    let before = check(&server);
    server.kill();
    server.launch();
    assert_eq!(check(&server), before);
    assert_eq!(server.fetch("/api/v1/exporters/2").0, 404);
    let list = server.json("/api/v1/exporters");
    assert_eq!(list["exporters"][0]["protocols"], json!(["netflow_v5", "netflow_v9", "ipfix"]));
}

/// An IPFIX message of now, with its sets.
fn ipfix(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let body = sets.concat();
    let mut message = vec![0, 10];
    message.extend((16 + body.len() as u16).to_be_bytes());
    for number in [(SystemClock.now().micros() / SECOND) as u32, sequence, 7] {
        message.extend(number.to_be_bytes());
    }
    [message, body].concat()
}

/// A set of an identifier and 16-bit numbers.
fn set(id: u16, numbers: &[u16]) -> Vec<u8> {
    data(id, &numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>())
}

fn data(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &(4 + body.len() as u16).to_be_bytes()[..], body].concat()
}

#[test]
fn options_datagrams_become_interfaces_applications_samplers_and_statistics() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |message: &[u8]| assert_eq!(socket.send_to(message, server.collector()).unwrap(), message.len());
    let templates = [
        // Interface 10 with its name 82 and description 83; application 95 with its name 96.
        set(3, &[256, 3, 1, 10, 4, 82, 8, 83, 65_535]),
        set(3, &[257, 2, 1, 95, 4, 96, 8]),
        // Of the domain 149: flows not sent 166, and an interval of sampling 34.
        set(3, &[258, 3, 1, 149, 4, 166, 8, 34, 4]),
        // Flows with an element that IANA has not given to anybody.
        set(2, &[259, 2, 8, 4, 32_000, 2]),
    ];
    send(&ipfix(0, &templates));
    let first = [
        data(256, &[&[0, 0, 0, 3][..], b"Gi0/3\0\0\0", &[11], b"<b>up</b>\0\0"].concat()),
        data(257, &[&[3, 0, 0, 53][..], b"dns\0\0\0\0\0"].concat()),
        data(258, &[&[0, 0, 0, 7][..], &[0, 0, 0, 0, 0, 0, 0, 9], &[0, 0, 0, 100]].concat()),
        data(259, &[192, 0, 2, 7, 0, 1, 192, 0, 2, 8, 0, 2]),
    ];
    send(&ipfix(0, &first));
    // The name is told anew, and there is none for the description.
    send(&ipfix(5, &[data(256, &[&[0, 0, 0, 3][..], b"=1+1\0\0\0\0", &[0]].concat())]));
    let expected = json!([{
        "interface": 3, "name": "=1+1", "description": "<b>up</b>", "speed": null, "counters": null
    }]);
    let told = |server: &TestServer| {
        wait_for("the facts to be stored", 20, || {
            let (status, _, body) = server.fetch("/api/v1/exporters/1");
            let exporter = if status == 200 { serde_json::from_str(&body).unwrap() } else { Value::Null };
            (exporter["interfaces"] == expected).then_some(exporter)
        })
    };
    let before = told(&server);
    let application = json!([{"application_id": (3 << 24) + 53, "name": "dns", "description": null}]);
    assert_eq!(before["applications"], application);
    let statistic = &before["statistics"][0];
    let seen = (&statistic["observation_domain"], &statistic["statistic"], &statistic["value"]);
    assert_eq!(seen, (&json!(7), &json!("notSentFlowTotalCount"), &json!(9)));
    let unknown = &before["unknown_elements"][0];
    let seen = (&unknown["enterprise"], &unknown["element"], &unknown["name"], &unknown["records"]);
    assert_eq!(seen, (&json!(0), &json!(32_000), &Value::Null, &json!(2)));
    let session = &before["sessions"][0];
    assert_eq!(session["templates"].as_array().unwrap().len(), 4);
    assert_eq!(session["samplers"], json!([{"scope": "exporter", "id": null, "interval": 100}]));
    server.kill();
    server.launch();
    let after = told(&server);
    for part in ["applications", "statistics", "unknown_elements", "sessions", "totals"] {
        assert_eq!(after[part], before[part], "{part}");
    }
}

#[test]
fn a_configured_name_wins_over_the_one_in_the_database_when_the_exporter_comes_and_at_each_start() {
    let mut server = TestServer::with(&[("EXPORTER", r#"[{address="127.0.0.0/8",name="lab"}]"#)]);
    traffic::send(server.collector(), "v5", 30, 0, 1);
    server.wait_for_flows(30);
    let name = |server: &TestServer| server.json("/api/v1/exporters")["exporters"][0]["name"].clone();
    assert_eq!(name(&server), "lab");
    server.terminate();
    server.set("EXPORTER", r#"[{address="127.0.0.0/8",name="lab"},{address="127.0.0.1",name="Straße 7"}]"#);
    server.launch();
    assert_eq!(name(&server), "Straße 7");
    // Nothing configured leaves the name as it is.
    server.terminate();
    server.set("EXPORTER", "[]");
    server.launch();
    assert_eq!(name(&server), "Straße 7");
}

#[test]
fn an_exporter_that_keeps_changing_its_templates_is_named_in_the_log_once() {
    let server = TestServer::start();
    let flow = [template(0, 300, &[(1, 4)]), messages::set(300, &[7; 4])].concat();
    let datagram = |sequence, changes: u16| {
        let changing = (0..=changes).flat_map(|index| template(0, 256, &[(1 + index % 2, 4)]));
        message(9, sequence, 100_000, &[changing.collect(), flow.clone()].concat())
    };
    let quiet = UdpSocket::bind("127.0.0.2:0").unwrap();
    let loud = UdpSocket::bind("127.0.0.3:0").unwrap();
    quiet.send_to(&datagram(0, 60), server.collector()).unwrap();
    loud.send_to(&datagram(0, 61), server.collector()).unwrap();
    loud.send_to(&datagram(1, 61), server.collector()).unwrap();
    server.wait_for_flows(3);
    let log = server.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("changed the layout of templates")).collect();
    assert_eq!((told.len(), told[0].contains("127.0.0.3"), told[0].contains("61 times")), (1, true, true), "{log}");
}
