//! SQL over `flows` and the API give equal answers, for random filters, windows, dimensions and orders.

use crate::support::server::TestServer;
use crate::support::traffic;
use serde_json::Value;

/// A random condition as a filter and as SQL over the table `flows`. A missing value makes a primitive false, so that
/// `not` of it is true: in SQL that is `coalesce(…, false)`.
fn condition(random: &mut fastrand::Rng, hosts: &[String], depth: u32) -> (String, String) {
    let sided = |filter: String, sql: &dyn Fn(&str) -> String, random: &mut fastrand::Rng| {
        let (word, test) = match random.u8(0..3) {
            0 => ("src ", sql("src")),
            1 => ("dst ", sql("dst")),
            _ => ("", format!("(coalesce({}, false) or coalesce({}, false))", sql("src"), sql("dst"))),
        };
        (format!("{word}{filter}"), format!("coalesce({test}, false)"))
    };
    match random.u8(0..if depth == 0 { 4 } else { 7 }) {
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
            let (filter, sql) = condition(random, hosts, depth - 1);
            (format!("not ({filter})"), format!("not ({sql})"))
        }
        kind => {
            let word = if kind == 5 { "and" } else { "or" };
            let (left, left_sql) = condition(random, hosts, depth - 1);
            let (right, right_sql) = condition(random, hosts, depth - 1);
            (format!("({left}) {word} ({right})"), format!("(({left_sql}) {word} ({right_sql}))"))
        }
    }
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
    let hosts: Vec<String> = database
        .query("SELECT DISTINCT host(ip) FROM (SELECT src_ip AS ip FROM flows UNION ALL SELECT dst_ip FROM flows) AS ips ORDER BY 1 LIMIT 400")
        .into_iter()
        .map(|mut row| row[0].take().unwrap())
        .collect();
    let bounds = database.query(
        "SELECT (extract(epoch FROM min(received)) * 1000000)::bigint, (extract(epoch FROM max(received)) * 1000000)::bigint FROM flows",
    );
    let [first, last]: [i64; 2] = [0, 1].map(|index| bounds[0][index].as_deref().unwrap().parse().unwrap());
    let mut random = fastrand::Rng::with_seed(5);
    let mut answered = 0;
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
                    ("src_ip,dst_port", "host(src_ip) || ',' || coalesce(dst_port, 0)::text", true),
                ]
                .iter(),
            )
            .unwrap();
        let order = *random.choice(["bytes", "packets", "flows"].iter()).unwrap();
        let limit = *random.choice([1, 10, 100].iter()).unwrap();
        let moment =
            |micros: i64| chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ");
        let path = format!(
            "/api/v1/top?by={by}&order={order}&limit={limit}&from={}&to={}&filter={}",
            moment(from),
            moment(to),
            encoded(&filter)
        );
        let answer = server.json(&path);
        let window = format!("received >= '{}' AND received < '{}' AND {sql}", moment(from), moment(to));
        let totals = database.query(&format!(
            "SELECT coalesce(sum(coalesce(in_bytes, 0) + coalesce(out_bytes, 0)), 0), \
             coalesce(sum(coalesce(in_packets, 0) + coalesce(out_packets, 0)), 0), \
             coalesce(sum(coalesce(aggregated_flows, 1)), 0) FROM flows WHERE {window}"
        ));
        for (index, name) in ["bytes", "packets", "flows"].into_iter().enumerate() {
            assert_eq!(answer["totals"][name].to_string(), *totals[0][index].as_ref().unwrap(), "{name} of {path}");
        }
        // Ties go by key: one address column or number at a time, as the API orders them.
        let key_order = match by {
            "dst_ip" => "min(dst_ip)",
            "src_ip" => "min(src_ip)",
            "dst_port" => "min(coalesce(dst_port, 0))",
            "protocol" => "min(coalesce(protocol, 0))",
            "src_as" => "min(coalesce(src_as, 0))",
            _ => "min(src_ip), min(coalesce(dst_port, 0))",
        };
        let present =
            if skip_absent { format!("AND {} IS NOT NULL", by.split(',').next().unwrap()) } else { String::new() };
        let rows = database.query(&format!(
            "SELECT {expression}, sum(coalesce(in_bytes, 0) + coalesce(out_bytes, 0)) AS bytes, \
             sum(coalesce(in_packets, 0) + coalesce(out_packets, 0)) AS packets, sum(coalesce(aggregated_flows, 1)) AS flows, \
             (extract(epoch FROM min(first_seen)) * 1000000)::bigint, (extract(epoch FROM max(last_seen)) * 1000000)::bigint \
             FROM flows WHERE {window} {present} GROUP BY 1 ORDER BY {order} DESC, {key_order} LIMIT {limit}"
        ));
        let shown: Vec<Vec<Option<String>>> =
            answer["rows"].as_array().unwrap().iter().map(|row| shown(row, by)).collect();
        assert_eq!(shown, rows, "{path}");
        answered += rows.len();
    }
    assert!(answered > 500, "the questions found too little to prove anything: {answered} rows");
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
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
