//! Answers from host totals are those of a scan, and those of SQL over `flows`, whichever hours and days have totals.
//!
//! The totals are summed here by SQL over `flows`, not by the code that keeps them.

mod database;

use crate::support::postgres::{TestDatabase, wait_on};
use database::*;
use flowledger::clock::{Clock, DAY, HOUR, SECOND, SystemClock, Timestamp};
use flowledger::filter;
use flowledger::flow::fields::Dimension;
use flowledger::query::window::{WindowRequest, resolve};
use flowledger::query::{
    Completeness, Counters, HostAnswer, HostRequest, Order, QueryError, Settings, Source, TopAnswer, TopRequest, Window,
};
use flowledger::store::partitions::DailyTable;
use ipnetwork::IpNetwork;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"];

fn window(random: &mut fastrand::Rng) -> Window {
    let zone: chrono_tz::Tz = ZONES[random.usize(..ZONES.len())].parse().unwrap();
    let moment = |random: &mut fastrand::Rng| first_day().plus(random.i64(-DAY / 2..(DAYS * DAY) + DAY / 2));
    match random.u8(..6) {
        0 => {
            // Local days.
            let dates = [random.i64(-1..3), random.i64(3..DAYS + 1)]
                .map(|day| Some(first_day().plus(day * DAY).to_utc().format("%Y-%m-%d").to_string()));
            let [from, to] = dates;
            let request = WindowRequest { from, to, zone: Some(zone.name().into()), ..WindowRequest::default() };
            resolve(&request, zone, SystemClock.now()).unwrap()
        }
        1 => Window { from: first_day(), to: first_day().plus(DAYS * DAY), zone },
        2 => {
            let from = moment(random);
            Window { from, to: from.plus(random.i64(1..2 * HOUR)), zone }
        }
        3 | 4 => {
            let [a, b] = [moment(random).hour(), moment(random).hour()];
            Window { from: a.min(b), to: a.max(b).plus(HOUR), zone }
        }
        _ => {
            let [a, b] = [moment(random), moment(random)];
            Window { from: a.min(b), to: a.max(b).plus(1), zone }
        }
    }
}

/// A question that totals answer, and the condition that it is in SQL.
fn question(random: &mut fastrand::Rng) -> (TopRequest, String) {
    let side = ["src", "dst"][random.usize(..2)];
    let networks = [
        "10.0.0.0/8",
        "10.0.1.0/24",
        "192.168.0.0/16",
        "fd00::/8",
        "fd00::2/127",
        "10.0.2.2/32",
        "192.168.1.2/31",
        "10.77.0.0/16",
    ];
    let count = random.usize(1..4);
    let mut picked = random.choose_multiple(&networks, count).into_iter().map(ToString::to_string).collect::<Vec<_>>();
    if random.u8(..3) == 0 {
        picked = LOCAL.iter().map(ToString::to_string).collect();
    }
    let mut text = match random.bool() {
        true => format!("{side} ip in [{}]", picked.join(" ")),
        false => picked.iter().map(|network| format!("{side} net {network}")).collect::<Vec<_>>().join(" or "),
    };
    let lists: Vec<String> = picked
        .iter()
        .map(|text| {
            let network: IpNetwork = text.parse().unwrap();
            format!("{}/{}", network.network(), network.prefix())
        })
        .collect();
    let mut sql = format!("{side}_ip <<= ANY('{{{}}}'::inet[])", lists.join(","));
    if random.u8(..4) == 0 {
        text = format!("({text}) and exporter_id in [2 3]");
        let _ = write!(sql, " AND exporter_id IN (2, 3)");
    }
    let request = TopRequest {
        window: window(random),
        by: vec![Dimension::parse(&format!("{side}_ip")).unwrap()],
        order: Order::ALL[random.usize(..3)],
        limit: [1, 3, 100][random.usize(..3)],
        filter: Some(filter::parse(&text).unwrap()),
        counters: Counters::ALL[random.usize(..2)],
    };
    (request, sql)
}

/// An answer in a form that can be compared: all of it but what it was read from.
fn told_top(answer: &TopAnswer) -> String {
    format!("{:?} {:?} {} {:?}", answer.rows, answer.totals, answer.groups, answer.completeness)
}

fn told_host(answer: &HostAnswer) -> String {
    format!("{:?} {:?} {:?} {:?}", answer.download, answer.upload, answer.internal, answer.completeness)
}

/// Compares an answer with SQL over `flows`.
fn check_top(test: &TestDatabase, request: &TopRequest, condition: &str, answer: &TopAnswer) {
    let (by, order, limit) = (request.by[0].name(), request.order.name(), request.limit);
    let (within, sums) = (in_window(&request.window), sums(factor_of(request.counters)));
    let rows = test.query(&format!(
        "SELECT host({by}), {sums}, {MOMENTS} FROM flows WHERE {within} AND {condition} GROUP BY {by} \
         ORDER BY {order} DESC, {by} LIMIT {limit}"
    ));
    let micros = |moment: Option<Timestamp>| moment.map(|moment| moment.micros().to_string());
    let shown = answer.rows.iter().map(|row| {
        let sums = [row.totals.bytes, row.totals.packets, row.totals.flows].map(|sum| Some(sum.to_string()));
        [vec![Some(row.key[0].to_string())], sums.to_vec(), vec![micros(row.first_seen), micros(row.last_seen)]]
            .concat()
    });
    assert_eq!(shown.collect::<Vec<_>>(), rows, "{request:?}");
    let totals = test.query(&format!(
        "SELECT coalesce(sum(bytes), 0), coalesce(sum(packets), 0), coalesce(sum(flows), 0), count(*), \
         coalesce(sum(sampled), 0) FROM (SELECT {sums}, sum(greatest(coalesce(aggregated_flows, 1), 1)) \
         FILTER (WHERE sampling_interval > 1) AS sampled FROM flows WHERE {within} AND {condition} GROUP BY {by}) AS groups"
    ));
    let Completeness { sampled_flows, .. } = answer.completeness;
    let told = [answer.totals.bytes, answer.totals.packets, answer.totals.flows, answer.groups, sampled_flows];
    assert_eq!(vec![told.map(|sum| Some(sum.to_string())).to_vec()], totals, "{request:?}");
}

fn check_host(test: &TestDatabase, request: &HostRequest, answer: &HostAnswer) {
    let host = request.host;
    let kinds = [
        (
            "download",
            answer.download,
            format!("dst_ip = '{host}' AND src_ip IS DISTINCT FROM dst_ip AND NOT {}", is_local("src_ip")),
        ),
        (
            "upload",
            answer.upload,
            format!("src_ip = '{host}' AND src_ip IS DISTINCT FROM dst_ip AND NOT {}", is_local("dst_ip")),
        ),
        (
            "internal",
            answer.internal,
            format!("'{host}' IN (src_ip, dst_ip) AND {} AND {}", is_local("src_ip"), is_local("dst_ip")),
        ),
    ];
    for (kind, totals, condition) in kinds {
        let rows = test.query(&format!(
            "SELECT coalesce(bytes, 0), coalesce(packets, 0), coalesce(flows, 0) FROM (SELECT {} FROM flows WHERE {} AND {condition}) AS sums",
            sums(factor_of(request.counters)),
            in_window(&request.window)
        ));
        let told = [totals.bytes, totals.packets, totals.flows].map(|sum| Some(sum.to_string())).to_vec();
        assert_eq!(vec![told], rows, "{kind} of {request:?}");
    }
}

#[test]
fn answers_from_totals_are_those_of_a_scan_and_of_sql_whatever_has_totals() {
    let mut random = fastrand::Rng::with_seed(11);
    let test = filled(&mut random);
    sum_up(&test);
    let tops: Vec<(TopRequest, String)> = (0..40).map(|_| question(&mut random)).collect();
    let inside: Vec<IpAddr> =
        addresses().into_iter().filter(|host| local().iter().any(|net| net.contains(*host))).collect();
    let hosts: Vec<HostRequest> = (0..25)
        .map(|_| HostRequest {
            host: inside[random.usize(..inside.len())],
            window: window(&mut random),
            counters: Counters::ALL[random.usize(..2)],
        })
        .collect();
    let ask = |settings: Settings| {
        wait_on(async {
            let database = open(&test);
            let engine = engine(&database, settings);
            let (mut top_answers, mut host_answers) = (Vec::new(), Vec::new());
            for (request, _) in &tops {
                top_answers.push(engine.top(request).await.unwrap());
            }
            for request in &hosts {
                host_answers.push(engine.host(request).await.unwrap());
            }
            database.close().await;
            (top_answers, host_answers)
        })
    };
    let (scanned, scanned_hosts) = ask(Settings::default());
    let mut found = 0;
    for ((request, condition), answer) in tops.iter().zip(&scanned) {
        assert_eq!((answer.source.days, answer.source.hours), (0, 0));
        check_top(&test, request, condition, answer);
        found += answer.rows.len();
    }
    assert!(found > 100, "the questions found too little to prove anything: {found} rows");
    for (request, answer) in hosts.iter().zip(&scanned_hosts) {
        check_host(&test, request, answer);
    }
    let read = |condition: &str| test.query(&format!("SELECT FROM hours WHERE {condition}")).len();
    for state in 0..12 {
        // Once from rows and once from blocks, as far as they are packed.
        test.query("UPDATE hours SET totals = NULL");
        arrange(&test, &mut random, state / 2);
        if state % 2 == 1 {
            packed(&test);
            assert_eq!((read("totals IS NULL AND sealed_at IS NOT NULL"), read("totals IS NOT NULL") > 50), (0, true));
        }
        let (answers, host_answers) = ask(Settings { workers: state % 3, ..Settings::default() });
        let mut source = Source::default();
        for ((request, _), (answer, scanned)) in tops.iter().zip(answers.iter().zip(&scanned)) {
            assert_eq!(told_top(answer), told_top(scanned), "state {state}: {request:?}");
            source.days += answer.source.days;
            source.hours += answer.source.hours;
            source.segments += answer.source.segments;
        }
        for (request, (answer, scanned)) in hosts.iter().zip(host_answers.iter().zip(&scanned_hosts)) {
            assert_eq!(told_host(answer), told_host(scanned), "state {state}: {request:?}");
            source.days += answer.source.days;
            source.hours += answer.source.hours;
        }
        assert!(source.days > 5 && source.hours > 250 && source.segments > 0, "state {state}: {source:?}");
    }
    let top_answers = || ask(Settings::default()).0.iter().map(told_top).collect::<Vec<_>>();
    let expected: Vec<_> = scanned.iter().map(told_top).collect();
    // A block that is damaged is passed over.
    arrange(&test, &mut random, 0);
    packed(&test);
    for table in ["hours", "days"] {
        test.query(&format!(
            "UPDATE {table} SET totals = set_byte(totals, 1, 255 - get_byte(totals, 1)) WHERE (hashtext({table}::text) & 1) = 0"
        ));
    }
    assert_eq!(top_answers(), expected);
    // One that is whole is all that is read.
    test.query("UPDATE hours SET totals = NULL");
    test.query("UPDATE days SET totals = NULL");
    packed(&test);
    test.query("TRUNCATE host_traffic_hourly, host_traffic_daily");
    assert_eq!(top_answers(), expected);
}

/// Packs the totals of all hours and days that have some.
fn packed(test: &TestDatabase) {
    wait_on(async {
        let database = open(test);
        flowledger::keep::pack::pack(&database).await.unwrap();
        database.close().await;
    });
}

/// The whole of the recorded time.
fn everything() -> Window {
    Window { from: first_day(), to: first_day().plus(DAYS * DAY), zone: chrono_tz::Tz::UTC }
}

fn downloads(window: Window) -> TopRequest {
    TopRequest {
        window,
        by: vec![Dimension::parse("dst_ip").unwrap()],
        order: Order::Bytes,
        limit: 10,
        filter: Some(filter::parse("dst net 10.0.0.0/8").unwrap()),
        counters: Counters::Scaled,
    }
}

#[test]
fn a_total_as_large_as_the_database_can_keep_is_not_believed_while_the_flows_are_there() {
    let mut random = fastrand::Rng::with_seed(12);
    let test = filled(&mut random);
    sum_up(&test);
    let host = HostRequest { host: "10.0.1.1".parse().unwrap(), window: everything(), counters: Counters::Scaled };
    let ask = || {
        wait_on(async {
            let database = open(&test);
            let engine = engine(&database, Settings::default());
            let answers = (engine.top(&downloads(everything())).await.unwrap(), engine.host(&host).await.unwrap());
            database.close().await;
            answers
        })
    };
    let (scanned, scanned_host) = ask();
    seal_all(&test);
    let (answer, of_host) = ask();
    assert_eq!((told_top(&answer), told_host(&of_host)), (told_top(&scanned), told_host(&scanned_host)));
    assert_eq!((answer.source.days, answer.source.hours, answer.source.segments), (5, 0, 0));
    assert_eq!(of_host.source, answer.source);
    test.query("UPDATE host_traffic_daily SET packets = 9223372036854775807 WHERE host = '10.0.1.1' AND direction = 'download'");
    let (answer, of_host) = ask();
    assert_eq!((told_top(&answer), told_host(&of_host)), (told_top(&scanned), told_host(&scanned_host)));
    assert_eq!((answer.source, of_host.source), (scanned.source, scanned_host.source));
}

#[test]
fn the_budget_holds_for_totals_and_a_dropped_query_gives_back_what_it_took() {
    let test = with_totals(3_000, 1);
    wait_on(async {
        let database = open(&test);
        let request = downloads(Window { to: first_day().plus(DAY), ..everything() });
        let small = engine(&database, Settings { max_memory_bytes: 50_000, ..Settings::default() });
        assert!(matches!(small.top(&request).await, Err(QueryError::Memory { limit: 50_000 })));
        let one = engine(&database, Settings { max_queries: 1, ..Settings::default() });
        for millis in 0..30 {
            let _ = tokio::time::timeout(Duration::from_micros(millis * 700), one.top(&request)).await;
        }
        let answer = one.top(&request).await.unwrap();
        assert_eq!((answer.groups, answer.source.days, answer.source.segments), (3_000, 1, 0));
        database.close().await;
    });
}

#[test]
fn windows_whose_flows_are_gone_are_answered_on_whole_hours_and_others_are_told_which_ones() {
    let test = with_totals(4, DAYS);
    // Of one hour there are no totals.
    let lost = first_day().plus(DAY + 5 * HOUR);
    test.query(&format!("UPDATE hours SET local = NULL WHERE hour = '{lost}'"));
    // Of one day they were counted by other networks.
    let other = first_day().plus(2 * DAY);
    test.query(&format!("UPDATE hours SET local = 'other' WHERE date_trunc('day', hour, 'UTC') = '{other}'"));
    test.query(&format!("UPDATE days SET local = 'other' WHERE day = '{other}'"));
    wait_on(async {
        let database = open(&test);
        // Flows are kept of the last day only.
        for day in 0..DAYS - 1 {
            let day = first_day().plus(day * DAY);
            database.ensure_day(DailyTable::FlowSegments, day).await.unwrap();
            database.drop_day(DailyTable::FlowSegments, day).await.unwrap();
        }
        let engine = engine(&database, Settings::default());
        let between = |from: i64, to: i64| Window {
            from: first_day().plus(from),
            to: first_day().plus(to),
            zone: chrono_tz::Tz::Asia__Kolkata,
        };
        let told = |completeness: &Completeness, cause| {
            let row = completeness.lost.iter().find(|row| row.cause == cause);
            row.map_or(0, |row| row.count)
        };
        let lost = |completeness: &Completeness| told(completeness, "not_recorded");
        // (hours from, hours to, days, hours, seconds that are missing, hours that were counted otherwise)
        for (from, to, days, hours, missing, otherwise) in [
            (2, 24, 0, 22, 0, 0),
            (48, 120, 3, 0, 0, 24),
            (50, 70, 0, 20, 0, 20),
            (72, 120, 2, 0, 0, 0),
            (0, 120, 4, 23, 3_600, 24),
            (29, 30, 0, 0, 3_600, 0),
            (-3, 24, 1, 0, 3 * 3_600, 0),
        ] {
            let window = between(from * HOUR, to * HOUR);
            let host = HostRequest { host: "10.0.0.3".parse().unwrap(), window, counters: Counters::Raw };
            let (top, host) = (engine.top(&downloads(window)).await.unwrap(), engine.host(&host).await.unwrap());
            for (source, completeness) in [(top.source, &top.completeness), (host.source, &host.completeness)] {
                assert_eq!((source.days, source.hours, source.segments), (days, hours, 0), "{from} to {to}");
                assert_eq!(lost(completeness), missing, "{from} to {to}");
                assert_eq!(told(completeness, "counted_otherwise"), otherwise, "{from} to {to}");
                assert_eq!(completeness.undercount.is_some(), missing == 0 && otherwise == 0);
            }
        }
        // What totals do not answer needs the flows.
        let window = between(0, 3 * 24 * HOUR);
        let all = TopRequest { filter: None, ..downloads(window) };
        let answer = engine.top(&all).await.unwrap();
        assert_eq!((lost(&answer.completeness), answer.source), (3 * 86_400, Source::default()));
        // Windows that cut an hour.
        let window = between(90 * 60 * SECOND, 3 * DAY);
        let error = engine.top(&downloads(window)).await.unwrap_err();
        let QueryError::WindowNotOnHours { inner, outer } = &error else { panic!("{error}") };
        assert_eq!(*inner, Some(Window { from: first_day().plus(2 * HOUR), ..window }));
        assert_eq!(*outer, Window { from: first_day().plus(HOUR), ..window });
        let text = error.to_string();
        let shown = first_day().plus(2 * HOUR).to_utc().format("from %Y-%m-%dT07:30:00+05:30 to ").to_string();
        assert!(text.contains(&shown), "{text}");
        let host = HostRequest { host: "10.0.0.3".parse().unwrap(), window, counters: Counters::Raw };
        assert!(matches!(engine.host(&host).await, Err(QueryError::WindowNotOnHours { .. })));
        // The flows of the last day are there, so it may be cut.
        let cut = between(2 * HOUR, (DAYS - 1) * DAY + HOUR / 2);
        assert_eq!(engine.top(&downloads(cut)).await.unwrap().source.days, 2);
        database.close().await;
    });
}

#[test]
fn a_weekly_top_is_read_from_days_and_hours_alone() {
    // The figures are those of the long run.
    let hosts = if std::env::var_os("FLOWLEDGER_LONG_TESTS").is_some() { 2_000 } else { 100 };
    let test = with_totals(hosts, 7);
    wait_on(async {
        let database = open(&test);
        let engine = engine(&database, Settings::default());
        let shifted = Window {
            from: first_day().plus(6 * HOUR),
            to: first_day().plus(6 * DAY + 18 * HOUR),
            zone: chrono_tz::Tz::UTC,
        };
        let week = Window { to: first_day().plus(7 * DAY), ..everything() };
        for (name, window, filter) in [
            ("week, all local", week, "dst net 10.0.0.0/8 or dst net 192.168.0.0/16 or dst net fd00::/8"),
            ("week, one network", week, "dst net 10.0.0.0/16"),
            ("5 days and 36 hours", shifted, "dst net 10.0.0.0/8 or dst net 192.168.0.0/16 or dst net fd00::/8"),
        ] {
            let request = TopRequest { filter: Some(filter::parse(filter).unwrap()), ..downloads(window) };
            let mut times: Vec<Duration> = Vec::new();
            for _ in 0..20 {
                let begun = Instant::now();
                let answer = engine.top(&request).await.unwrap();
                times.push(begun.elapsed());
                assert_eq!((answer.groups, answer.rows.len(), answer.source.segments), (hosts.into(), 10, 0));
            }
            times.sort_unstable();
            println!("{name}: median {:?}, fastest {:?}, slowest {:?}", times[10], times[0], times[19]);
        }
        database.close().await;
    });
}
