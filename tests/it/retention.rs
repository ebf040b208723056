//! Keeping to a budget of bytes: what a dry run names is what goes, the oldest first, and the API tells what is taken.

use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};

/// Names of the partitions of a table that hold something, in order.
fn days(server: &TestServer, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT relid::regclass::text FROM pg_partition_tree('{table}') WHERE isleaf \
         AND pg_total_relation_size(relid) > 131072 ORDER BY 1"
    );
    server.database.as_ref().unwrap().query(&sql).into_iter().flatten().flatten().collect()
}

#[test]
fn beyond_the_budget_go_the_days_that_a_dry_run_names_and_no_others() {
    let mut server = TestServer::start();
    server.terminate();
    let database = server.database.as_ref().unwrap();
    // Five days of some megabytes each in both tables, before today.
    let mut names = [Vec::new(), Vec::new()];
    for ago in (2..=6).rev() {
        let day = chrono::Utc::now().date_naive() - chrono::Days::new(ago);
        let next = day + chrono::Days::new(1);
        for (table, names) in ["flows", "flow_segments"].into_iter().zip(&mut names) {
            let name = format!("{table}_p{}", day.format("%Y_%m_%d"));
            database.query(&format!(
                "CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ('{day} 00:00Z') TO ('{next} 00:00Z')"
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
    assert_eq!([days(&server, "flows"), days(&server, "flow_segments")], names);
    let size: u64 =
        database.query("SELECT pg_database_size(current_database())::text")[0][0].as_deref().unwrap().parse().unwrap();
    let rows: u64 = database.query(&format!("SELECT pg_total_relation_size('{}')::text", names[0][0]))[0][0]
        .as_deref()
        .unwrap()
        .parse()
        .unwrap();

    let expire = |server: &mut TestServer, max_bytes: u64, arguments: &[&str]| -> Vec<String> {
        server.set("STORAGE__MAX_BYTES", &max_bytes.to_string());
        let output = server.command(&[&["expire"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .filter(|line| line.starts_with("flow"))
            .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
            .collect()
    };
    // All rows and two days of segments.
    let budget = size - 5 * rows - 5_000_000;
    let planned = expire(&mut server, budget, &["--dry-run"]);
    assert_eq!(planned, [&names[0][..], &names[1][..2]].concat());
    assert_eq!([days(&server, "flows"), days(&server, "flow_segments")], names);
    assert_eq!(expire(&mut server, 0, &["--dry-run"]), [""; 0]);
    assert_eq!(expire(&mut server, size - 1, &[]), names[0][..1]);
    assert_eq!(days(&server, "flows"), names[0][1..]);

    // The server does the same by itself, under load.
    server.set("STORAGE__MAX_BYTES", &budget.to_string());
    server.launch();
    let stream = traffic::begin(server.collector(), "v9", 60_000, 2_000, 9);
    wait_for("the oldest days to go", 60, || {
        let left = [days(&server, "flows"), days(&server, "flow_segments")];
        (!left[0].contains(&names[0][4]) && left[1].starts_with(&names[1][2..3])).then_some(())
    });
    stream.stop();
    let storage = server.json("/api/v1/storage?tz=Asia/Kathmandu");
    assert_eq!(storage["max_bytes"], budget);
    assert!(storage["bytes"].as_u64().unwrap() <= budget, "{storage}");
    let table = |name: &str| {
        storage["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).cloned().unwrap()
    };
    let segments = table("flow_segments");
    let large =
        segments["partitions"].as_array().unwrap().iter().filter(|part| part["bytes"].as_u64().unwrap() > 131_072);
    assert_eq!(large.count(), 3, "{storage}");
    assert!(segments["partitions"][0]["start"].as_str().unwrap().ends_with("T05:45:00+05:45"), "{storage}");
    assert!(table("flow_segments_open")["bytes"].as_u64().unwrap() > 0);
}
