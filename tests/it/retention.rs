//! Keeping to days and to a budget of bytes: what a dry run names is what goes, the oldest first, whoever reads; and nobody who
//! stores or asks is held up by it.

use crate::seal::{DAY, Ledger, flows};
use crate::support::postgres::{Session, TestDatabase, wait_on};
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::clock::{Clock, DAY as LENGTH, HOUR, SystemClock};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Names of the partitions of a table that hold something, in order.
fn days(server: &TestServer, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT relid::regclass::text FROM pg_partition_tree('{table}') WHERE isleaf \
         AND pg_total_relation_size(relid) > 131072 ORDER BY 1"
    );
    server.database.as_ref().unwrap().query(&sql).into_iter().flatten().flatten().collect()
}

/// All partitions of flows, segments and totals.
fn partitions(server: &TestServer) -> BTreeSet<String> {
    let sql = "SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE relkind = 'r'";
    server.database.as_ref().unwrap().query(sql).into_iter().flatten().flatten().collect()
}

fn number(database: &TestDatabase, sql: &str) -> u64 {
    database.query(sql)[0][0].as_deref().unwrap().parse().unwrap()
}

fn size(database: &TestDatabase) -> u64 {
    number(database, "SELECT pg_database_size(current_database())::text")
}

/// Fills days before today with some megabytes each in both tables. Returns their names by table, the oldest first. Autovacuum
/// leaves them alone: a visibility map that it adds between two looks would be a difference of sizes.
fn fill(server: &TestServer, ago: std::ops::RangeInclusive<u64>) -> [Vec<String>; 2] {
    let database = server.database.as_ref().unwrap();
    let mut names = [Vec::new(), Vec::new()];
    for ago in ago.rev() {
        let day = chrono::Utc::now().date_naive() - chrono::Days::new(ago);
        let next = day + chrono::Days::new(1);
        for (table, names) in ["flows", "flow_segments"].into_iter().zip(&mut names) {
            let name = format!("{table}_p{}", day.format("%Y_%m_%d"));
            database.query(&format!(
                "CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ('{day} 00:00Z') TO ('{next} 00:00Z') \
                 WITH (autovacuum_enabled = off)"
            ));
            names.push(name);
        }
        database.query(&format!(
            "INSERT INTO flows (received, exporter_id, in_bytes) \
             SELECT timestamptz '{day} 12:00Z' + n * interval '1 ms', 1, n FROM generate_series(1, 60000) AS n; \
             INSERT INTO flow_segments (segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, \
             total_flows, received) SELECT {ago} * 1000 + n, '{day} 12:00Z', '{day} 12:00Z', 1, 0, 0, 1, \
             decode(repeat('00', 1000000), 'hex') FROM generate_series(1, 4) AS n"
        ));
    }
    names
}

/// What `expire` says, by the beginning of its lines: partitions now, partitions later, everything.
fn expire(server: &TestServer, arguments: &[&str]) -> (Vec<String>, Vec<String>, String) {
    let output = server.command(&[&["expire"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let named = |line: &str| Some(line.split_once(" bytes, ")?.0.split_once(": ")?.0.to_owned());
    let (later, now): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with("later: "));
    let later = later.into_iter().filter_map(|line| named(line.strip_prefix("later: ")?)).collect();
    (now.into_iter().filter_map(named).collect(), later, said)
}

#[test]
fn beyond_the_budget_go_the_days_that_a_dry_run_names_and_no_others() {
    let mut server = TestServer::start();
    server.terminate();
    let names = fill(&server, 2..=6);
    assert_eq!([days(&server, "flows"), days(&server, "flow_segments")], names);
    let database = server.database.as_ref().unwrap();
    let (size, rows) =
        (size(database), number(database, &format!("SELECT pg_total_relation_size('{}')::text", names[0][0])));
    let mut with = |max_bytes: u64, arguments: &[&str]| {
        server.set("STORAGE__MAX_BYTES", &max_bytes.to_string());
        expire(&server, arguments).0
    };
    // All rows and two days of segments.
    let planned = with(size - 5 * rows - 5_000_000, &["--dry-run"]);
    assert_eq!(planned, [&names[0][..], &names[1][..2]].concat());
    assert_eq!(with(0, &["--dry-run"]), [""; 0]);
    assert_eq!(with(size - 1, &[]), names[0][..1]);
    assert_eq!(days(&server, "flows"), names[0][1..]);
    assert_eq!(days(&server, "flow_segments"), names[1]);
}

#[test]
fn what_goes_by_age_and_for_the_budget_is_named_once_and_is_what_then_goes() {
    let mut server = TestServer::start();
    server.terminate();
    let names = fill(&server, 2..=8);
    let database = server.database.as_ref().unwrap();
    // Totals of a month long before, of some hundred kilobytes.
    let year = chrono::Utc::now().format("%Y").to_string().parse::<i32>().unwrap() - 1;
    let month = format!("{year}-03-01");
    for (table, moment) in [("host_traffic_hourly", "hour"), ("host_traffic_daily", "day")] {
        database.query(&format!(
            "CREATE TABLE {table}_p{year}_03 PARTITION OF {table} FOR VALUES FROM ('{month} 00:00Z') TO ('{year}-04-01 00:00Z'); \
             INSERT INTO {table} (host, {moment}, exporter_id, direction, bytes, packets, flows, records, raw_bytes, \
             raw_packets, sampled_flows) SELECT '10.0.0.0'::inet + n, '{month} 00:00Z', 1, 'upload', 1, 1, 1, 1, 1, 1, 0 \
             FROM generate_series(1, 3000) AS n"
        ));
    }
    database.query(&format!(
        "INSERT INTO hours (hour, sealed_at, version, local, flows_dropped) VALUES ('{month} 00:00Z', now(), 1, 'x', true); \
         INSERT INTO days (day, hours, versions, local) VALUES ('{month} 00:00Z', 1, 1, 'x')"
    ));
    let totals = ["hourly", "daily"].map(|unit| format!("host_traffic_{unit}_p{year}_03"));
    server.set("STORAGE__FLOWS_DAYS", "4");
    server.set("STORAGE__SEGMENTS_DAYS", "6");

    // By age alone: of four days of rows three at once.
    let (now, later, said) = expire(&server, &["--dry-run"]);
    assert_eq!(now, [&names[0][..3], &names[1][..2]].concat());
    assert_eq!(later, names[0][3..4], "{said}");

    // Age and budget: two days more of segments than age asks for.
    let size = size(server.database.as_ref().unwrap());
    let of = |name: &str| {
        number(server.database.as_ref().unwrap(), &format!("SELECT pg_total_relation_size('{name}')::text"))
    };
    let sum: u64 = names[0].iter().chain(&names[1][..4]).map(|name| of(name)).sum();
    server.set("STORAGE__MAX_BYTES", &(size - sum + 65_536).to_string());
    let (planned, later, said) = expire(&server, &["--dry-run"]);
    let expected = [&names[0][..3], &names[1][..2], &names[0][3..], &names[1][2..4]].concat();
    assert_eq!((planned.clone(), later), (expected, vec![]), "{said}");
    let before = partitions(&server);
    let (gone, _, done) = expire(&server, &[]);
    assert_eq!(gone, planned);
    let lines =
        |said: &str| said.lines().filter(|line| line.contains(" bytes, ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&done), lines(&said), "with the same sizes and reasons");
    let after = partitions(&server);
    assert_eq!(before.difference(&after).cloned().collect::<BTreeSet<_>>(), gone.into_iter().collect());

    // When no more flows can go: the old totals, and what is on record of their time.
    server.set("STORAGE__MAX_BYTES", "1");
    let (planned, _, said) = expire(&server, &["--dry-run"]);
    assert_eq!(planned, [&names[1][4..], &totals[..]].concat());
    assert!(said.contains("bytes stay above [storage] max_bytes"), "{said}");
    assert_eq!(expire(&server, &[]).0, planned);
    assert_eq!(after.difference(&partitions(&server)).cloned().collect::<BTreeSet<_>>(), planned.into_iter().collect());
    let database = server.database.as_ref().unwrap();
    let left = number(
        database,
        &format!(
            "SELECT (SELECT count(*) FROM hours WHERE hour = '{month} 00:00Z' AND local IS NOT NULL) + (SELECT count(*) FROM days)"
        ),
    );
    assert_eq!(left, 0);
}

#[test]
fn an_open_hour_that_cannot_be_sealed_is_named_before_its_day_goes_for_the_budget_and_when_it_goes() {
    let mut server = TestServer::start();
    server.terminate();
    fill(&server, 2..=3);
    let database = server.database.as_ref().unwrap();
    wait_on(async { Ledger::open(database).await.database.close().await });
    let hour = SystemClock.now().day().plus(13 * HOUR - 2 * LENGTH);
    database.query(&format!(
        "INSERT INTO flow_segments_open (segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, \
         total_flows, received) VALUES (9, '{hour}', '{hour}', 7, 0, 0, 7, '\\x01ff'); INSERT INTO hours (hour) VALUES ('{hour}')"
    ));
    // Younger than segments are kept.
    server.set("STORAGE__MAX_BYTES", "1");
    let (_, _, said) = expire(&server, &["--dry-run"]);
    let named = format!("the open hour {hour}: goes with its day, uncounted where it cannot be sealed\n");
    assert_eq!(said.matches(&named).count(), 1, "{said}");
    let (_, _, done) = expire(&server, &[]);
    let named = format!("the open hour {hour}: went with its day and could not be sealed");
    assert!(done.contains(&named) && done.contains("deleted 7 flows that waited in open hours of it\n"), "{done}");
}

#[test]
fn the_budget_is_held_while_more_comes_in_than_it_has_room_for() {
    let mut server = TestServer::start();
    server.terminate();
    let names = fill(&server, 2..=13);
    let database = server.database.as_ref().unwrap();
    let budget = size(database) + (2 << 20);
    server.set("STORAGE__MAX_BYTES", &budget.to_string());
    server.set("STORAGE__FLOWS_DAYS", "30");
    server.launch();
    let mut stream = traffic::begin(server.collector(), "v9", 200_000, 12_000, 9);
    let database = server.database.as_ref().unwrap();
    let mut most = 0u64;
    while stream.is_sending() {
        most = most.max(size(database));
        std::thread::sleep(Duration::from_millis(100));
    }
    let sql = "SELECT sum(pg_total_relation_size(relid))::text FROM (SELECT relid FROM pg_partition_tree('flows') \
               UNION ALL SELECT relid FROM pg_partition_tree('flow_segments_open')) AS tree \
               WHERE relid::regclass::text <> ALL('{NAMES}')";
    let rows = number(database, &sql.replace("NAMES", &names[0].join(",")));
    // What comes in between two looks at the size, which is every 5 s, and while a day is dropped: on a busy machine, what waited
    // for the database at once. It is half of what comes in all in all.
    let slack = 18 << 20;
    assert!(most <= budget + slack, "{most} bytes, {budget} allowed");
    assert!(rows > slack + (6 << 20), "only {rows} bytes came in: this proves nothing");
    stream.stop();
    wait_for("the size to be within the budget", 20, || (size(database) <= budget).then_some(()));
    let left = days(&server, "flows");
    assert!(!left.contains(&names[0][4]) && left.contains(&names[0][11]), "{left:?}");
    assert!(names[1].iter().all(|name| days(&server, "flow_segments").contains(name)), "rows are enough");

    let storage = server.json("/api/v1/storage?tz=Asia/Kathmandu");
    assert_eq!(storage["max_bytes"], budget);
    assert!(storage["bytes"].as_u64().unwrap() <= budget, "{storage}");
    let table = |name: &str| {
        storage["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).cloned().unwrap()
    };
    let segments = table("flow_segments");
    let large =
        segments["partitions"].as_array().unwrap().iter().filter(|part| part["bytes"].as_u64().unwrap() > 131_072);
    assert_eq!(large.count(), 12, "{storage}");
    assert!(segments["partitions"][0]["start"].as_str().unwrap().ends_with("T05:45:00+05:45"), "{storage}");
    assert!(table("flow_segments_open")["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_reader_that_rests_in_a_transaction_keeps_its_tables_and_holds_up_nobody() {
    let mut server = TestServer::with(&[
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
        ("STORAGE__FLOWS_DAYS", "36500"),
        ("STORAGE__SEGMENTS_DAYS", "36500"),
    ]);
    server.terminate();
    let names = fill(&server, 2..=4);
    let test = server.database.as_ref().unwrap();
    wait_on(async {
        let mut ledger = Ledger::open(test).await;
        ledger.store(flows(&mut fastrand::Rng::with_seed(20), DAY.plus(3 * HOUR), 400), 100).await;
        ledger.database.close().await;
    });
    // A collector that is gone holds no hour open; and a partition of open segments is over.
    test.query(
        "DELETE FROM journal_positions WHERE journal_id = '11111111-2222-4333-8444-555555555555'; \
         CREATE TABLE flow_segments_open_p2023_11_15_00 PARTITION OF flow_segments_open FOR VALUES FROM \
         ('2023-11-15 00:00Z') TO ('2023-11-15 01:00Z')",
    );
    let mut reader = Session::open(&test.url());
    reader.run("BEGIN; SELECT count(*) FROM flows; SELECT count(*) FROM segment_headers");
    // Everything that can go is to go.
    server.set("STORAGE__MAX_BYTES", "1");
    server.launch();
    let stream = traffic::begin(server.collector(), "v9", 100_000, 1_000, 11);
    let test = server.database.as_ref().unwrap();
    let position = || number(test, "SELECT sum(position)::text FROM journal_positions");
    wait_for("the first commit", 10, || (position() > 0).then_some(()));
    let (begun, mut last, mut moved) = (Instant::now(), position(), Instant::now());
    let (mut longest, mut slowest) = (Duration::ZERO, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(12) {
        std::thread::sleep(Duration::from_millis(50));
        if position() != last {
            longest = longest.max(moved.elapsed());
            (last, moved) = (position(), Instant::now());
        }
        let asked = Instant::now();
        server.json("/api/v1/top?by=dst_ip&limit=1&last=1h");
        slowest = slowest.max(asked.elapsed());
    }
    longest = longest.max(moved.elapsed());
    stream.stop();
    assert!(longest < Duration::from_secs(2), "nothing was stored for {longest:?}\n{}", server.log());
    assert!(slowest < Duration::from_secs(2), "an answer took {slowest:?}\n{}", server.log());
    // Meanwhile days are added up, and steps that fail are told and counted.
    let summed = || number(test, "SELECT count(*) FROM days WHERE day = '2023-11-15 00:00Z'") == 1;
    wait_for("the day to be added up", 15, || summed().then_some(()));
    assert!(server.metric("keep_failures_total") > 0);
    assert!(server.log().contains("stays for now"), "{}", server.log());
    assert!(names[1].iter().all(|name| days(&server, "flow_segments").contains(name)));
    reader.run("COMMIT");
    wait_for("the days to go", 30, || {
        (days(&server, "flows")
            .iter()
            .chain(&days(&server, "flow_segments"))
            .all(|name| !names.concat().contains(name)))
        .then_some(())
    });
    wait_for("the open partition to go", 30, || {
        (number(test, "SELECT count(*) FROM pg_class WHERE relname = 'flow_segments_open_p2023_11_15_00'") == 0)
            .then_some(())
    });
}

#[test]
fn a_reader_of_rows_alone_does_not_keep_segments() {
    let mut server = TestServer::start();
    server.terminate();
    let names = fill(&server, 2..=3);
    let mut reader = Session::open(&server.database.as_ref().unwrap().url());
    reader.run("BEGIN; SELECT count(*) FROM flows");
    // One who pauses for less than a second does not rest yet.
    std::thread::sleep(Duration::from_secs(2));
    server.set("STORAGE__FLOWS_DAYS", "1");
    server.set("STORAGE__SEGMENTS_DAYS", "1");
    server.launch();
    wait_for("the segments to go", 20, || days(&server, "flow_segments").is_empty().then_some(()));
    assert_eq!(days(&server, "flows"), names[0]);
    reader.run("COMMIT");
}
