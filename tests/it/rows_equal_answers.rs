//! SQL over `flows` and the API give equal answers, for random filters, windows, dimensions, orders and counters.

use crate::support::postgres::wait_on;
use crate::support::server::TestServer;
use crate::support::traffic;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SECOND, SystemClock};
use flowledger::columns::Encoder;
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::fields::Field;
use flowledger::store::commit::Batch;
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use flowledger::wire::{ConfiguredSampling, Context, Decoder, Limits, Transport};
use serde_json::Value;

/// A random condition as a filter and as SQL over the table `flows`. A missing value makes a primitive false, so that
/// `not` of it is true: in SQL that is `coalesce(…, false)`.
pub(crate) fn condition(random: &mut fastrand::Rng, hosts: &[String], depth: u32) -> (String, String) {
    let sided = |filter: String, sql: &dyn Fn(&str) -> String, random: &mut fastrand::Rng| {
        let (word, test) = match random.u8(0..3) {
            0 => ("src ", sql("src")),
            1 => ("dst ", sql("dst")),
            _ => ("", format!("(coalesce({}, false) or coalesce({}, false))", sql("src"), sql("dst"))),
        };
        (format!("{word}{filter}"), format!("coalesce({test}, false)"))
    };
    match random.u8(0..if depth == 0 { 5 } else { 8 }) {
        0 => {
            let host = random.choice(hosts).unwrap().clone();
            sided(format!("ip {host}"), &|side| format!("{side}_ip = '{host}'"), random)
        }
        1 => {
            let host = random.choice(hosts).unwrap();
            let length = if host.contains(':') { random.u8(0..=128) } else { random.u8(0..=32) };
            let net = format!("{host}/{length}");
            sided(format!("net {net}"), &|side| format!("{side}_ip <<= network('{net}'::inet)"), random)
        }
        2 => {
            let port = *random.choice([80, 443, 53, 22, 123, 0].iter()).unwrap();
            sided(format!("port {port}"), &|side| format!("{side}_port = {port}"), random)
        }
        3 => {
            let (name, number) = *random.choice([("tcp", 6), ("udp", 17), ("icmp", 1)].iter()).unwrap();
            (format!("proto {name}"), format!("coalesce(protocol = {number}, false)"))
        }
        4 => {
            let interval = *random.choice([0, 1, 10, 1_000].iter()).unwrap();
            let test = format!("sampling_interval > {interval}");
            (test.clone(), format!("coalesce({test}, false)"))
        }
        5 => {
            let (filter, sql) = condition(random, hosts, depth - 1);
            (format!("not ({filter})"), format!("not ({sql})"))
        }
        kind => {
            let word = if kind == 6 { "and" } else { "or" };
            let (left, left_sql) = condition(random, hosts, depth - 1);
            let (right, right_sql) = condition(random, hosts, depth - 1);
            (format!("({left}) {word} ({right})"), format!("(({left_sql}) {word} ({right_sql}))"))
        }
    }
}

/// Flows as a router sends them that looks at one packet in 1,000, 10 or 1, changes that now and then, and merges some.
pub(crate) fn sampled_flows(random: &mut fastrand::Rng) -> FlowBatch {
    let plan = Plan {
        protocol: Protocol::V5,
        seed: 9,
        hosts: 50,
        exporters: 1,
        count: Some(9_000),
        template_every: 0,
        sampling_interval: 1,
    };
    let (mut stream, mut decoder, mut batch) =
        (Stream::new(plan), Decoder::new(Limits::default()), FlowBatch::default());
    let context = Context {
        // Amid what the simulation sent, which took three seconds, so that windows cut both.
        received: SystemClock.now().plus(-2 * SECOND),
        exporter_id: 1,
        source: "127.0.0.1:2055".parse().unwrap(),
        transport: Transport::Datagrams,
        sampling: ConfiguredSampling::default(),
    };
    while let Some(datagram) = stream.next(context.received) {
        assert_eq!(decoder.decode(&context, datagram.bytes, &mut batch).rejected, None);
    }
    let mut row = 0;
    while row < batch.rows() {
        let count = random.usize(1..400).min(batch.rows() - row);
        match *random.choice([None, Some(1), Some(10), Some(1_000)].iter()).unwrap() {
            None => {}
            Some(interval) => batch.column_mut(Field::SamplingInterval).u32_run(row, count).fill(interval),
        }
        if random.bool() {
            batch.column_mut(Field::AggregatedFlows).u64_run(row, count).fill(random.u64(0..4));
            batch.column_mut(Field::OutBytes).u64_run(row, count).fill(random.u64(..1 << 40));
        }
        row += count;
    }
    batch
}

/// Stores `flows` in segments of 1,000 and as rows, as another collector on the same database does.
pub(crate) fn store(url: &str, flows: FlowBatch) {
    wait_on(async {
        let database = Database::new(&Address::Url(url.to_owned())).unwrap();
        let journal = "11111111-2222-4333-8444-555555555555";
        database.journal_position(journal).await.unwrap();
        let mut encoder = Encoder::new(0);
        let segments = (0..flows.rows()).step_by(1_000);
        let segments = segments.map(|first| encoder.encode(&flows, first..flows.rows().min(first + 1_000)).unwrap());
        let segments: Vec<_> = segments.collect();
        database.ensure_open().await.unwrap();
        database.ensure_day(DailyTable::Flows, segments[0].received_first.day()).await.unwrap();
        let batch = Batch { end: 1, segments, rows: vec![flows], ..Batch::default() };
        database.commit(journal, &batch).await.unwrap();
        database.close().await;
    });
}

#[test]
fn sql_and_api_agree_on_random_questions() {
    let server = TestServer::start();
    let mut sent = 0;
    for (seed, protocol) in ["v5", "v9", "ipfix"].into_iter().enumerate() {
        let totals = traffic::send(server.collector(), protocol, 15_000, 15_000, seed as u64 + 1);
        sent += totals["flows"].as_u64().unwrap();
    }
    server.wait_for_flows(sent);
    let database = server.database.as_ref().unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    store(&database.url(), sampled_flows(&mut random));
    let hosts: Vec<String> = database
        .query("SELECT DISTINCT host(ip) FROM (SELECT src_ip AS ip FROM flows UNION ALL SELECT dst_ip FROM flows) AS ips ORDER BY 1 LIMIT 400")
        .into_iter()
        .map(|mut row| row[0].take().unwrap())
        .collect();
    let bounds = database.query(
        "SELECT (extract(epoch FROM min(received)) * 1000000)::bigint, (extract(epoch FROM max(received)) * 1000000)::bigint FROM flows",
    );
    let [first, last]: [i64; 2] = [0, 1].map(|index| bounds[0][index].as_deref().unwrap().parse().unwrap());
    let (mut answered, mut estimated) = (0, 0);
    for question in 0..120 {
        let (filter, sql) = condition(&mut random, &hosts, 3);
        let (a, b) = (random.i64(first - 1_000_000..=last), random.i64(first..=last + 1_000_000));
        let (from, to) = if question % 3 == 0 { (first - 1, last + 1) } else { (a.min(b), a.max(b) + 1) };
        let (by, expression, skip_absent) = *random
            .choice(
                [
                    ("dst_ip", "host(dst_ip)", true),
                    ("src_ip", "host(src_ip)", true),
                    ("dst_port", "coalesce(dst_port, 0)::text", false),
                    ("protocol", "coalesce(protocol, 0)::text", false),
                    ("src_as", "coalesce(src_as, 0)::text", false),
                    ("sampling_interval", "coalesce(sampling_interval, 0)::text", false),
                    ("src_ip,dst_port", "host(src_ip) || ',' || coalesce(dst_port, 0)::text", true),
                ]
                .iter(),
            )
            .unwrap();
        let order = *random.choice(["bytes", "packets", "flows"].iter()).unwrap();
        let limit = *random.choice([1, 10, 100].iter()).unwrap();
        // `numeric`, because a large counter times a large interval is more than a bigint holds.
        let (counters, factor) = match random.bool() {
            true => ("scaled", "coalesce(sampling_interval, 1)::numeric"),
            false => ("raw", "1::numeric"),
        };
        let sums = format!(
            "coalesce(sum((coalesce(in_bytes, 0) + coalesce(out_bytes, 0)) * {factor}), 0) AS bytes, \
             coalesce(sum((coalesce(in_packets, 0) + coalesce(out_packets, 0)) * {factor}), 0) AS packets, \
             coalesce(sum(coalesce(aggregated_flows, 1)), 0) AS flows"
        );
        let moment =
            |micros: i64| chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ");
        let path = format!(
            "/api/v1/top?by={by}&order={order}&limit={limit}&counters={counters}&from={}&to={}&filter={}",
            moment(from),
            moment(to),
            encoded(&filter)
        );
        let answer = server.json(&path);
        let window = format!("received >= '{}' AND received < '{}' AND {sql}", moment(from), moment(to));
        let totals = database.query(&format!(
            "SELECT {sums}, coalesce(sum(greatest(coalesce(aggregated_flows, 1), 1)) \
             FILTER (WHERE sampling_interval > 1), 0) FROM flows WHERE {window}"
        ));
        for (index, name) in ["bytes", "packets", "flows"].into_iter().enumerate() {
            assert_eq!(answer["totals"][name].to_string(), *totals[0][index].as_ref().unwrap(), "{name} of {path}");
        }
        let (completeness, sampled) = (&answer["completeness"], totals[0][3].as_deref().unwrap());
        assert_eq!(completeness["sampled_flows"].to_string(), sampled, "{path}");
        assert_eq!(completeness["estimated"], counters == "scaled" && sampled != "0", "{path}");
        assert_eq!(answer["counters"], counters);
        estimated += usize::from(completeness["estimated"] == true);
        // Ties go by key: one address column or number at a time, as the API orders them.
        let key_order = match by {
            "dst_ip" => "min(dst_ip)",
            "src_ip" => "min(src_ip)",
            "dst_port" => "min(coalesce(dst_port, 0))",
            "protocol" => "min(coalesce(protocol, 0))",
            "src_as" => "min(coalesce(src_as, 0))",
            "sampling_interval" => "min(coalesce(sampling_interval, 0))",
            _ => "min(src_ip), min(coalesce(dst_port, 0))",
        };
        let present =
            if skip_absent { format!("AND {} IS NOT NULL", by.split(',').next().unwrap()) } else { String::new() };
        let rows = database.query(&format!(
            "SELECT {expression}, {sums}, (extract(epoch FROM min(first_seen)) * 1000000)::bigint, \
             (extract(epoch FROM max(last_seen)) * 1000000)::bigint FROM flows WHERE {window} {present} GROUP BY 1 ORDER BY {order} DESC, {key_order} LIMIT {limit}"
        ));
        let shown: Vec<Vec<Option<String>>> =
            answer["rows"].as_array().unwrap().iter().map(|row| shown(row, by)).collect();
        assert_eq!(shown, rows, "{path}");
        answered += rows.len();
    }
    assert!(answered > 500, "the questions found too little to prove anything: {answered} rows");
    assert!(estimated > 20, "too few answers had samples to multiply: {estimated}");
    hosts_agree(&server, &hosts);
}

/// What comes to a host and what leaves it, scaled and raw, as SQL has it and as the API has it.
fn hosts_agree(server: &TestServer, hosts: &[String]) {
    let mut sampled = 0;
    for (index, host) in hosts.iter().enumerate().step_by(29) {
        let (counters, factor) = [("scaled", "coalesce(sampling_interval, 1)::numeric"), ("raw", "1")][index % 2];
        let answer = server.json(&format!("/api/v1/hosts/{host}?last=24h&counters={counters}"));
        let sql = format!(
            "SELECT coalesce(sum((coalesce(in_bytes, 0) + coalesce(out_bytes, 0)) * {factor}), 0), \
             coalesce(sum(greatest(coalesce(aggregated_flows, 1), 1)) FILTER (WHERE sampling_interval > 1), 0) \
             FROM flows WHERE src_ip = '{host}' OR dst_ip = '{host}'"
        );
        let expected = server.database.as_ref().unwrap().query(&sql);
        let bytes = ["download", "upload", "internal"].map(|kind| answer[kind]["bytes"].as_u64().unwrap());
        assert_eq!(bytes.iter().sum::<u64>().to_string(), *expected[0][0].as_ref().unwrap(), "{host} {counters}");
        let told = &answer["completeness"]["sampled_flows"];
        assert_eq!(told.to_string(), *expected[0][1].as_ref().unwrap(), "{host} {counters}");
        assert_eq!(answer["counters"], counters);
        sampled += told.as_u64().unwrap();
        let peers = server.json(&format!("/api/v1/hosts/{host}/peers?last=24h&counters={counters}&direction=upload"));
        let sql = format!(
            "SELECT coalesce(sum((coalesce(in_bytes, 0) + coalesce(out_bytes, 0)) * {factor}), 0) FROM flows \
             WHERE src_ip = '{host}'"
        );
        let expected = server.database.as_ref().unwrap().query(&sql);
        assert_eq!(peers["totals"]["bytes"].to_string(), *expected[0][0].as_ref().unwrap(), "peers of {host}");
    }
    assert!(sampled > 0, "no host had samples");
}

/// A row of an answer in the shape of the SQL rows.
fn shown(row: &Value, by: &str) -> Vec<Option<String>> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let key: Vec<_> = by.split(',').map(|name| plain(&row[name])).collect();
    let moment = |name: &str| {
        row[name]
            .as_str()
            .map(|text| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros().to_string())
    };
    vec![
        Some(key.join(",")),
        Some(plain(&row["bytes"])),
        Some(plain(&row["packets"])),
        Some(plain(&row["flows"])),
        moment("first_seen"),
        moment("last_seen"),
    ]
}

/// A text as a query parameter's value.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
