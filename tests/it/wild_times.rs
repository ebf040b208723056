//! Times in imported files that no clock shows: the server imports, seals, packs and answers, and lives.

use crate::import::{flows, hour, import, window, write};
use crate::support::archives::{nfdump_1_6, nfdump_1_7};
use crate::support::server::TestServer;
use crate::support::wait_for;

/// The year 287,167, in milliseconds. chrono reads no year beyond 262,142, PostgreSQL some.
const WILD: u64 = 9_000_000_000_000_000;

fn count(server: &TestServer, sql: &str) -> u64 {
    server.database.as_ref().unwrap().query(sql)[0][0].as_deref().unwrap_or("0").parse().unwrap()
}

fn wait_until_packed(server: &TestServer) {
    let left = "SELECT count(*) FROM hours WHERE totals IS NULL AND hour < date_trunc('hour', now())";
    wait_for("all hours to be sealed and packed", 60, || (count(server, left) == 0).then_some(()));
}

#[test]
fn wild_times_in_archives_cost_their_field_or_their_record_and_not_the_server() {
    let mut server = TestServer::start();
    let begin = hour(1);
    let ms = begin.timestamp_millis() as u64 + 60_000;
    let times = [[ms - 500, WILD, ms], [WILD, ms - 500, ms], [ms - 500, ms - 100, WILD], [WILD, WILD, 0]];
    let path = write(&server, "nfcapd.layout2", &nfdump_1_7(&times.map(|times| (16, times))));
    let output = import(&server, &[], &path);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("2 flows of 0 files") && printed.contains("1 flows have no time at all"), "{printed}");
    let damage = "nfcapd.layout2: at byte 40: 1 of 4 records of a block have a receive time beyond the year 9999";
    assert!(output.status.code() == Some(1) && said.contains(damage), "{said}");
    let mut old = flows(20, begin, 51);
    old[7].received = Some(WILD);
    // 1.6 tells the packets of a flow in 32 bits of seconds: at most in the year 2106.
    old[8].ended = 4_294_967_295_000;
    let output = import(&server, &[], &write(&server, "nfcapd.layout1", &nfdump_1_6(&old, 100, 0)));
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("19 flows of 0 files"), "{printed}");
    assert!(said.contains("nfcapd.layout1: at byte 276: 1 of 22 records of a block have a receive time"), "{said}");
    // It seals as soon as it starts.
    server.kill();
    server.launch();
    wait_until_packed(&server);
    let ask = |server: &TestServer| {
        let host = server.json(&format!("/api/v1/hosts/10.0.0.1?{}", window(begin, 1)));
        assert_eq!(host["source"]["hours"], 1, "{host}");
        let top = server.json(&format!("/api/v1/top?by=dst_ip&filter=dst%20net%20192.168.0.0/16&{}", window(begin, 1)));
        assert_eq!(top["totals"]["flows"], 21, "{top}");
        top.to_string()
    };
    let top = ask(&server);
    assert!(!top.contains("\"9999-") && !top.contains("\"2106-"), "{top}");
    // What imports of earlier versions left in the tables: it is read and packed anew all the same.
    let database = server.database.as_ref().unwrap();
    database.query("UPDATE host_traffic_hourly SET last_seen = '287167-01-01Z' RETURNING 1");
    database.query("UPDATE hours SET totals = '' RETURNING 1");
    let top = ask(&server);
    assert!(top.contains("\"9999-12-31T"), "{top}");
    database.query("UPDATE hours SET totals = NULL RETURNING 1");
    wait_until_packed(&server);
    ask(&server);
    let api = server.url("");
    let output = server.command(&["doctor", "--all", "--server", api.strip_prefix("http://").unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("exporters = segments") && told.contains("host totals = segments"), "{told}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
