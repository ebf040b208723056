//! Flows that are told twice are found while their hour is sealed, and shown by the API and by the doctor.

use crate::seal::{DAY, Ledger};
use crate::support::archives::capture_from;
use crate::support::messages::{message, set, template};
use crate::support::postgres::{TestDatabase, wait_on};
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::clock::HOUR;
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::counting::FlowDirection;
use flowledger::flow::double_counting::Side;
use flowledger::flow::fields::Field;
use flowledger::flow::value::wide_from_v4;
use serde_json::{Value, json};

/// A flow as a router of the tests tells it: its number, `direction`, and where it came in and left.
type Told = (u32, u8, [u32; 2]);

/// Addresses, ports, protocol, bytes, packets, interfaces, direction.
const FIELDS: [(u16, u16); 10] = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4), (10, 4), (14, 4), (61, 1)];

fn record((number, direction, [input, output]): Told) -> Vec<u8> {
    let mut record = (0x0a00_0000 + number).to_be_bytes().to_vec();
    record.extend(0xc633_6401_u32.to_be_bytes());
    record.extend([1_024 + number as u16, 443].into_iter().flat_map(u16::to_be_bytes));
    record.push(6);
    record.extend([1_000 + number, 3, input, output].into_iter().flat_map(u32::to_be_bytes));
    record.push(direction);
    record
}

/// The flows in NetFlow v9, as a capture of what 192.0.2.`last` sent 60 s after the start of the last hour that is over.
fn captured(last: u8, told: &[Told]) -> Vec<u8> {
    let begin = chrono::Utc::now().timestamp() / 3_600 * 3_600 - 3_600 + 60;
    let mut datagrams = Vec::new();
    for (sequence, told) in (0..).zip(told.chunks(30)) {
        let records: Vec<_> = told.iter().flat_map(|told| record(*told)).collect();
        let sets = [template(0, 256, &FIELDS), set(256, &records)].concat();
        datagrams.push((begin as u64 * 1_000_000 + u64::from(sequence), message(9, sequence, 0, &sets)));
    }
    capture_from(last, &datagrams, 2_055)
}

fn import(server: &TestServer, last: u8, told: &[Told]) {
    let path = server.folder().join(format!("{last}-{}.pcap", told.len()));
    std::fs::write(&path, captured(last, told)).unwrap();
    let output = server.command(&["import", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The exporter's number by the end of its address.
fn id(server: &TestServer, last: u8) -> u64 {
    let list = server.json("/api/v1/exporters");
    let address = format!("192.0.2.{last}");
    let found = list["exporters"].as_array().unwrap().iter().find(|row| row["address"] == address.as_str());
    found.unwrap()["id"].as_u64().unwrap()
}

fn found(server: &TestServer, last: u8, window: &str) -> Vec<Value> {
    let details = server.json(&format!("/api/v1/exporters/{}?{window}", id(server, last)));
    details["double_counting"].as_array().unwrap().clone()
}

#[test]
fn what_is_told_twice_is_found_with_its_hour_and_shown_with_the_setting_that_would_end_it() {
    let mut server = TestServer::start();
    // The first router meters what comes and what leaves; the second one stands behind it and has nothing else.
    let both: Vec<Told> = (0..300).flat_map(|number| [(number, 0, [1, 2]), (number, 1, [1, 2])]).collect();
    import(&server, 17, &both);
    import(&server, 18, &(0..200).map(|number| (number, 0, [7, 8])).collect::<Vec<_>>());
    let shown = wait_for("the hour to be sealed", 60, || {
        let shown = found(&server, 17, "last=24h");
        (shown.len() == 3).then_some(shown)
    });
    let first = &shown[0];
    let address = "192.0.2.17";
    assert_eq!(first["other"], json!({"exporter": id(&server, 17), "address": address, "direction": "egress"}));
    let counts = ["compared_flows", "other_compared_flows", "matched_flows", "sampled_one_in", "hours"];
    assert_eq!(counts.map(|name| first[name].as_u64().unwrap()), [300, 300, 300, 1, 1], "{first:#}");
    let bytes: u64 = (0..300).map(|number| 1_000 + number).sum();
    assert_eq!((&first["direction"], &first["double_bytes"]), (&json!("ingress"), &json!(bytes)));
    assert_eq!(first["proposal"], format!("[[exporter]]\naddress = \"{address}\"\ncount = \"ingress\""));
    let pair = json!([{"interface": 1, "observation_domain": 7, "other_interface": 2, "other_observation_domain": 7,
        "matched_flows": 300}]);
    assert_eq!(first["interfaces"], pair);
    let flow = &first["examples"][0];
    assert_eq!(
        (&flow["src_ip"], &flow["src_port"], &flow["bytes"]),
        (&json!("10.0.1.43"), &json!(1_323), &json!(1_299))
    );
    for other in &shown[1..] {
        assert_eq!(other["other"]["address"], "192.0.2.18");
        assert_eq!(other["proposal"], "[[exporter]]\naddress = \"192.0.2.18\"\ncount = \"none\"");
    }
    let of_second = found(&server, 18, "last=24h");
    assert_eq!((of_second.len(), &of_second[0]["other"]["address"]), (2, &json!(address)));
    assert_eq!(found(&server, 17, "from=2024-01-01&to=2024-01-02"), Vec::<Value>::new());

    let api = server.url("");
    let doctor = server.command(&["doctor", "--server", api.strip_prefix("http://").unwrap()]);
    let told = String::from_utf8(doctor.stdout).unwrap();
    let advice = "set count = \"ingress\" below [[exporter]] address = \"192.0.2.17\"";
    assert!(told.contains("WARNING     double counting ") && told.contains(advice), "{told}");

    // What comes late opens the hour; sealed again it is looked at anew.
    import(&server, 18, &(1_000..1_900).map(|number| (number, 0, [9, 8])).collect::<Vec<_>>());
    let shown = wait_for("the hour to be sealed again", 60, || {
        let shown = found(&server, 18, "last=24h");
        (shown.first()?["compared_flows"] == 1_100).then_some(shown)
    });
    assert_eq!(shown[0]["proposal"], "[[exporter]]\naddress = \"192.0.2.18\"\ncount_interfaces = [9]");

    // Hours that were sealed by other networks tell of other sums.
    server.terminate();
    server.set("NETWORK__LOCAL", r#"["10.0.0.0/8"]"#);
    server.launch();
    assert_eq!(found(&server, 17, "last=24h"), Vec::<Value>::new());
}

#[test]
fn large_segments_that_stay_as_they_are_are_looked_at_again_and_findings_go_after_their_time() {
    let test = TestDatabase::create();
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let exporter = ledger.database.exporter_id([192, 0, 2, 1].into()).await.unwrap();
        let flows = |numbers: std::ops::Range<u32>| {
            let mut batch = FlowBatch::default();
            for (row, number) in numbers.flat_map(|number| [number, number]).enumerate() {
                batch.add_rows(1);
                batch.column_mut(Field::Received).time_run(row, 1).fill(DAY.micros() + i64::from(number));
                batch.column_mut(Field::ExporterId).u32_run(row, 1).fill(exporter);
                batch.column_mut(Field::SrcIp).wide_run(row, 1).fill(wide_from_v4(0x0a00_0000 + number));
                batch.column_mut(Field::DstIp).wide_run(row, 1).fill(wide_from_v4(0xc633_6401));
                batch.column_mut(Field::SrcPort).u16_run(row, 1).fill(50_000);
                batch.column_mut(Field::DstPort).u16_run(row, 1).fill(443);
                batch.column_mut(Field::Protocol).u8_run(row, 1).fill(17);
                batch.column_mut(Field::InBytes).u64_run(row, 1).fill(100);
                batch.column_mut(Field::Direction).u8_run(row, 1).fill((row % 2) as u8);
            }
            batch
        };
        let counted_by = crate::seal::local().fingerprint();
        for (numbers, compared) in [(0..20_000, 20_000), (20_000..20_100, 20_100)] {
            ledger.store(flows(numbers), 10_000).await;
            assert!(ledger.seal(DAY).await);
            let found = ledger.database.double_counting(None, DAY, DAY.plus(HOUR), &counted_by).await.unwrap();
            let [one] = found.as_slice() else { panic!("{found:#?}") };
            let side = |direction| Side { exporter_id: exporter, direction: Some(direction) };
            assert_eq!(one.sides, [side(FlowDirection::Ingress), side(FlowDirection::Egress)]);
            assert_eq!((one.compared_flows, one.matched_flows, one.percent()), ([compared; 2], compared, 100));
        }
        let database = &ledger.database;
        let count = async |exporter: Option<u32>, by: &str| {
            database.double_counting(exporter, DAY, DAY.plus(HOUR), by).await.unwrap().len()
        };
        assert_eq!((count(Some(exporter), &counted_by).await, count(Some(exporter + 1), &counted_by).await), (1, 0));
        assert_eq!(count(None, "other rules").await, 0);
        database.trim_double_counting(DAY).await.unwrap();
        assert_eq!(count(None, &counted_by).await, 1);
        database.trim_double_counting(DAY.plus(1)).await.unwrap();
        assert_eq!(count(None, &counted_by).await, 0);
        database.close().await;
    });
}
