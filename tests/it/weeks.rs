//! Weeks of traffic that come in late, are sealed, and are interrupted: totals, segments and SQL over `flows` agree to the
//! byte whenever somebody asks.
//!
//! A running server seals and adds up by itself while old archives are brought in; both are killed now and then, and come back
//! with other rules of counting. The judge is PostgreSQL: it sums the rows of `flows` that count, and by its own time zones it
//! says where local days and weeks begin.

use crate::kills::rounds;
use crate::rows_equal_answers::{condition, encoded};
use crate::support::archives::{OldFlow, nfdump_1_6};
use crate::support::postgres::wait_on;
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use flowledger::clock::Timestamp;
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How far back flows reach: into the last days before clocks change in October, when run in November.
const DAYS: i64 = 35;
const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"];

/// Midnight, UTC, of the day that lies so many days back.
fn day(back: i64) -> DateTime<Utc> {
    let today = Utc::now().date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc();
    today - TimeDelta::days(back)
}

/// Rules of counting as the configuration has them, and which flows count by them in SQL. Old archives are of the exporter
/// 192.0.2.16, by interfaces 3 to 6; what comes live is of 127.0.0.1.
const RULES: [(&str, &str); 4] = [
    ("", "true"),
    (
        "[[exporter]]\naddress = \"192.0.2.16\"\ncount_interfaces = [3]\n",
        "(exporter_id <> (SELECT exporter_id FROM exporters WHERE address = '192.0.2.16') OR 3 IN (input_interface, output_interface))",
    ),
    (
        "[[exporter]]\naddress = \"127.0.0.0/8\"\ncount = \"none\"\n",
        "exporter_id NOT IN (SELECT exporter_id FROM exporters WHERE address <<= '127.0.0.0/8')",
    ),
    ("[[exporter]]\naddress = \"192.0.2.16\"\ncount = \"egress\"\n", "true"),
];

/// A host inside or outside, of IPv6 or not.
fn host(random: &mut fastrand::Rng, v6: bool) -> IpAddr {
    match (v6, random.u8(0..3)) {
        (false, 0) => [10, 0, 0, random.u8(0..40)].into(),
        (false, 1) => [192, 168, 1, random.u8(0..8)].into(),
        (false, _) => [203, 0, 113, random.u8(0..40)].into(),
        (true, 0) => [0xfd00, 0, 0, 0, 0, 0, 0, random.u16(0..20)].into(),
        (true, _) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, random.u16(0..20)].into(),
    }
}

/// Flows of some minutes, or hours, of the past weeks.
fn flows(random: &mut fastrand::Rng) -> Vec<OldFlow> {
    let from = day(DAYS).timestamp_millis() + random.i64(0..(DAYS - 1) * 86_400_000);
    let length = *random.choice([60_000, 3_600_000, 5 * 3_600_000].iter()).unwrap();
    let count = random.usize(1..1_500);
    flows_between(random, from, length, count)
}

/// So many flows, received within `length` from `from` on, in milliseconds.
fn flows_between(random: &mut fastrand::Rng, from: i64, length: i64, count: usize) -> Vec<OldFlow> {
    let mut received: Vec<i64> = (0..count).map(|_| from + random.i64(0..length)).collect();
    received.sort_unstable();
    let flow = |received: i64| {
        let v6 = random.u8(0..4) == 0;
        OldFlow {
            received: Some(received.cast_unsigned()),
            ended: received.cast_unsigned() - random.u64(0..30_000),
            source: host(random, v6),
            destination: host(random, v6),
            ports: (random.u16(1_024..), [53, 80, 443][random.usize(0..3)]),
            protocol: [6, 17][random.usize(0..2)],
            packets: random.u32(1..1_000),
            bytes: random.u32(40..u32::MAX),
            interfaces: (random.u16(3..7), random.u16(3..7)),
        }
    };
    received.into_iter().map(flow).collect()
}

/// A window as parameters of a request, and as a condition in SQL.
fn window(random: &mut fastrand::Rng) -> (String, String) {
    let zone = *random.choice(ZONES.iter()).unwrap();
    let local = |text: &str| format!("('{text}'::timestamp AT TIME ZONE '{zone}')");
    let (parameters, from, to) = match random.u8(0..5) {
        0 => {
            let week = (day(random.i64(7..DAYS))).iso_week();
            let monday = format!("to_date('{}-{}', 'IYYY-IW')::timestamp", week.year(), week.week());
            let at = |moment: &str| format!("(({moment}) AT TIME ZONE '{zone}')");
            let text = format!("week={}-W{:02}", week.year(), week.week());
            (text, at(&monday), at(&format!("{monday} + interval '7 days'")))
        }
        1 | 2 => {
            let first = random.i64(1..=DAYS);
            let [from, to] = [first, random.i64(0..first)].map(|back| day(back).format("%F").to_string());
            (format!("from={from}&to={to}"), local(&from), local(&to))
        }
        kind => {
            let exact = kind == 3;
            let mut moment = || {
                let micros = day(DAYS).timestamp_micros() + random.i64(0..DAYS * 86_400_000_000);
                let micros = if exact { micros } else { micros / 3_600_000_000 * 3_600_000_000 };
                DateTime::from_timestamp_micros(micros).unwrap()
            };
            let (a, b) = (moment(), moment());
            let end = a.max(b) + TimeDelta::hours(1);
            let [from, to] = [a.min(b), end].map(|moment| moment.format("%FT%T%.6fZ").to_string());
            (format!("from={from}&to={to}"), format!("'{from}'"), format!("'{to}'"))
        }
    };
    (format!("{parameters}&tz={}", encoded(zone)), format!("received >= {from} AND received < {to}"))
}

const SUMS: &str = "coalesce(sum(in_bytes), 0), coalesce(sum(in_packets), 0), count(*)";

/// What an answer says of one group, or of all.
fn sums(value: &Value) -> Vec<Option<String>> {
    ["bytes", "packets", "flows"].map(|name| Some(value[name].to_string())).to_vec()
}

/// Asks one question of each kind, where the flows count that meet a condition, and returns what the answers were read from:
/// days, hours and segments.
fn ask(server: &TestServer, counts: &str, random: &mut fastrand::Rng) -> [u64; 3] {
    let database = server.database.as_ref().unwrap();
    let mut sources = [0; 3];
    let mut note = |answer: &Value| {
        for (sum, name) in sources.iter_mut().zip(["days", "hours", "segments"]) {
            *sum += answer["source"][name].as_u64().unwrap();
        }
    };
    let hosts: Vec<String> = (0..9).map(|number| host(random, number % 3 == 0).to_string()).collect();
    let side = *random.choice(["src", "dst"].iter()).unwrap();
    let networks =
        *random.choice(["10.0.0.0/8", "192.168.1.0/24", "10.0.0.16/28", "fd00::/16", "local"].iter()).unwrap();
    let inside = |side: &str| format!("{side}_ip <<= ANY('{{10.0.0.0/8,192.168.0.0/16,fc00::/7}}')");
    let lies_in = if networks == "local" { inside(side) } else { format!("{side}_ip <<= '{networks}'") };
    // What totals can answer, and what only segments can.
    let (any, any_sql) = condition(random, &hosts, 2);
    for (by, filter, sql) in
        [(format!("{side}_ip"), format!("{side} net {networks}"), lies_in), ("dst_port".to_owned(), any, any_sql)]
    {
        let (parameters, within) = window(random);
        let path = format!("/api/v1/top?by={by}&limit=20&{parameters}&filter={}", encoded(&filter));
        let answer = server.json(&path);
        note(&answer);
        let rows = database.query(&format!(
            "SELECT {}, {SUMS} FROM flows WHERE {within} AND {counts} AND {sql} GROUP BY {by} ORDER BY 2 DESC, {by} LIMIT 20",
            if by == "dst_port" { "dst_port::text".to_owned() } else { format!("host({by})") }
        ));
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let row = |row: &Value| [vec![Some(plain(&row[by.as_str()]))], sums(row)].concat();
        assert_eq!(answer["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>(), rows, "{path}: {answer}");
        let totals = database.query(&format!("SELECT {SUMS} FROM flows WHERE {within} AND {counts} AND {sql}"));
        assert_eq!(vec![sums(&answer["totals"])], totals, "{path}: {answer}");
    }
    let (parameters, within) = window(random);
    let path = format!("/api/v1/hosts/{}?{parameters}", hosts[0]);
    let answer = server.json(&path);
    note(&answer);
    let host = &hosts[0];
    let own = !host.starts_with("203.") && !host.starts_with("2001:");
    let internal = |other: &str| format!("(src_ip = dst_ip OR ({own} AND {}))", inside(other));
    for (kind, sql) in [
        ("download", format!("dst_ip = '{host}' AND NOT {}", internal("src"))),
        ("upload", format!("src_ip = '{host}' AND NOT {}", internal("dst"))),
        (
            "internal",
            format!("(dst_ip = '{host}' AND {} OR src_ip = '{host}' AND {})", internal("src"), internal("dst")),
        ),
    ] {
        let expected = database.query(&format!("SELECT {SUMS} FROM flows WHERE {within} AND {counts} AND {sql}"));
        assert_eq!(vec![sums(&answer[kind])], expected, "{kind} of {path}: {answer}");
    }
    sources
}

/// Counts totals anew by the present rules.
fn rebuild(server: &TestServer, from: DateTime<Utc>, to: DateTime<Utc>) {
    let [from, to] = [from, to].map(|moment| moment.format("%FT%H:00:00Z").to_string());
    let output = server.command(&["rebuild-totals", "--from", &from, "--to", &to]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn totals_segments_and_rows_agree_while_weeks_are_imported_sealed_and_interrupted() {
    let mut server = TestServer::with(&[("STORAGE__FLOWS_DAYS", "60"), ("STORAGE__SEGMENTS_DAYS", "90")]);
    let seed = rounds(1, std::process::id().into());
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut sent, mut pending, mut sources) = (0u64, Vec::<PathBuf>::new(), [0u64; 3]);
    let mut counts = "true";
    let number = |server: &TestServer, sql: &str| -> u64 {
        server.database.as_ref().unwrap().query(sql)[0][0].as_deref().unwrap().parse().unwrap()
    };
    for round in 0..rounds(14, 400) {
        match random.u8(0..6) {
            0..=2 => {
                let flows = flows(&mut random);
                sent += flows.len() as u64;
                let path = server.folder().join(format!("nfcapd.{round}"));
                std::fs::write(&path, nfdump_1_6(&flows, random.usize(1..400), 0)).unwrap();
                let mut import = server.begin(&["import", path.to_str().unwrap()]);
                if random.bool() {
                    std::thread::sleep(Duration::from_millis(random.u64(0..600)));
                    import.kill().unwrap();
                }
                if !import.wait().unwrap().success() {
                    pending.push(path);
                }
            }
            3 => {
                // What was interrupted goes on where it was; what was not changes nothing.
                for path in pending.drain(..) {
                    let output = server.command(&["import", path.to_str().unwrap()]);
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                }
            }
            4 => {
                // A server seals as soon as it starts.
                std::thread::sleep(Duration::from_millis(random.u64(0..500)));
                server.kill();
                let rules;
                (rules, counts) = *random.choice(RULES.iter()).unwrap();
                std::fs::write(server.folder().join("flowledger.toml"), rules).unwrap();
                server.launch();
                if random.bool() {
                    rebuild(&server, day(DAYS), day(random.i64(0..DAYS)));
                }
            }
            _ => {
                let before = number(&server, "SELECT coalesce(sum(flow_rows), 0) FROM segment_headers");
                sent += traffic::send(server.collector(), "v9", 400, 4_000, round)["flows"].as_u64().unwrap();
                wait_for("live flows", 30, || {
                    let stored = number(&server, "SELECT coalesce(sum(flow_rows), 0) FROM segment_headers");
                    (stored >= before + 400).then_some(())
                });
            }
        }
        for (sum, more) in sources.iter_mut().zip(ask(&server, counts, &mut random)) {
            *sum += more;
        }
    }
    for path in pending {
        assert!(server.command(&["import", path.to_str().unwrap()]).status.success());
    }
    server.kill();
    server.launch();
    rebuild(&server, day(DAYS), Utc::now());
    let over = "hour < date_trunc('hour', now()) - interval '1 hour'";
    wait_for("all hours to be sealed and all days added up", 120, || {
        let open = number(&server, &format!("SELECT count(*) FROM hours WHERE sealed_at IS NULL AND {over}"));
        let unsummed = number(
            &server,
            "SELECT count(*) FROM (SELECT date_trunc('day', hour, 'UTC') AS day, count(*) AS hours, sum(version) AS versions \
             FROM hours WHERE hour < date_trunc('day', now(), 'UTC') - interval '1 day' GROUP BY 1) AS present \
             LEFT JOIN days USING (day, hours, versions) WHERE days.day IS NULL",
        );
        (open + unsummed == 0).then_some(())
    });
    // Windows go with the day of the test, and few may cut a day that has flows.
    let enough = |sources: &[u64]| sources.iter().all(|sum| *sum > 5);
    for asked in 0..300 {
        if asked >= rounds(15, 300) && enough(&sources) {
            break;
        }
        for (sum, more) in sources.iter_mut().zip(ask(&server, counts, &mut random)) {
            *sum += more;
        }
    }
    println!("read from {sources:?} days, hours and segments");
    assert!(enough(&sources), "too little was read from one of days, hours and segments: {sources:?}");
    assert_eq!(number(&server, "SELECT sum(flow_rows) FROM segment_headers"), sent);
    assert_eq!(number(&server, "SELECT count(*) FROM flows"), sent);
}

#[test]
fn an_archive_of_an_hour_whose_flows_were_dropped_is_added_to_its_totals() {
    let mut server = TestServer::with(&[("STORAGE__FLOWS_DAYS", "60"), ("STORAGE__SEGMENTS_DAYS", "90")]);
    let mut random = fastrand::Rng::with_seed(3);
    let (day, mut sent) = (day(9), 0);
    for round in 0..3 {
        let flows = flows_between(&mut random, day.timestamp_millis(), 3_600_000, 400);
        sent += flows.len() as u64;
        let path = server.folder().join(format!("nfcapd.{round}"));
        std::fs::write(&path, nfdump_1_6(&flows, 100, 0)).unwrap();
        let output = server.command(&["import", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // It seals as soon as it starts.
        server.kill();
        server.launch();
        let database = server.database.as_ref().unwrap();
        wait_for("the hour to be sealed", 30, || {
            let open =
                database.query(&format!("SELECT count(*) FROM hours WHERE hour = '{day}' AND sealed_at IS NULL"));
            (open[0][0].as_deref() == Some("0")).then_some(())
        });
        let local = "ANY('{10.0.0.0/8,192.168.0.0/16,fc00::/7}')";
        let downloads = format!("dst_ip <<= {local} AND NOT src_ip <<= {local}");
        assert_eq!(
            database.query("SELECT sum(bytes), sum(records) FROM host_traffic_hourly WHERE direction = 'download'"),
            database.query(&format!("SELECT sum(in_bytes), count(*) FROM flows WHERE {downloads}")),
            "round {round}"
        );
        wait_on(async {
            let database = Database::new(&Address::Url(database.url())).unwrap();
            let day = Timestamp::from(day);
            database.drop_day(DailyTable::FlowSegments, day).await.unwrap();
            database.close().await;
        });
    }
    assert_eq!(server.database.as_ref().unwrap().query("SELECT count(*) FROM flows")[0][0], Some(sent.to_string()));
}
