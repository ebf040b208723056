//! Moving over from nfdump: archives of the real one and made by hand, and captures, become the same numbers, once.

use crate::kills::rounds;
use crate::nfdump::{Nfcapd, nfdump, rows};
use crate::support::archives::{OldFlow, capture, nfdump_1_6};
use crate::support::messages::{message, set, template, words};
use crate::support::server::TestServer;
use crate::support::{skip_anywhere, traffic};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// Brings in what is named, with further arguments.
pub fn import(server: &TestServer, arguments: &[&str], path: &Path) -> Output {
    server.command(&[&["import"], arguments, &[path.to_str().unwrap()]].concat())
}

/// The same, which must go well; gives what was printed.
pub fn imported(server: &TestServer, path: &Path) -> String {
    let output = import(server, &[], path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

/// The start of a whole hour that is over, so many days ago.
pub fn hour(days: i64) -> chrono::DateTime<chrono::Utc> {
    let hour = now().timestamp() / 3_600 * 3_600 - 3_600 - days * 86_400;
    chrono::DateTime::from_timestamp(hour, 0).unwrap()
}

/// A window as parameters.
pub fn window(from: chrono::DateTime<chrono::Utc>, hours: i64) -> String {
    let to = from + chrono::TimeDelta::hours(hours);
    format!("from={}&to={}", from.format("%FT%TZ"), to.format("%FT%TZ"))
}

/// Made-up flows, received one after the other, 50 ms apart.
pub fn flows(count: u32, begin: chrono::DateTime<chrono::Utc>, seed: u64) -> Vec<OldFlow> {
    let mut random = fastrand::Rng::with_seed(seed);
    let begin = begin.timestamp_millis() as u64;
    let flow = |index: u32| OldFlow {
        received: Some(begin + 50 * u64::from(index)),
        ended: begin + 50 * u64::from(index) - random.u64(100..20_000),
        source: [10, 0, 0, random.u8(0..200)].into(),
        destination: [192, 168, 0, random.u8(0..50)].into(),
        ports: (random.u16(1_024..), [53, 80, 443, 8_080][random.usize(0..4)]),
        protocol: [6, 17][random.usize(0..2)],
        packets: random.u32(1..1_000),
        bytes: random.u32(40..1_000_000),
        interfaces: (3, 4),
    };
    (0..count).map(flow).collect()
}

/// A filter that selects some of the flows, made of what both languages have.
fn filter(random: &mut fastrand::Rng) -> String {
    let mut term = || match random.u8(0..9) {
        0 => format!("dst port {}", [53, 80, 443, 8_080][random.usize(0..4)]),
        1 => format!("src port > {}", random.u16(1_024..)),
        2 => "proto tcp".to_owned(),
        3 => "proto udp".to_owned(),
        4 => format!("bytes > {}", random.u32(40..100_000)),
        5 => format!("packets < {}", random.u32(2..200)),
        6 => format!("dst net 192.168.0.0/{}", random.u8(16..30)),
        7 => {
            // Newer nfdumps take a network with bits behind its mask for one that holds nothing.
            let bits = random.u8(1..4);
            format!("src net {}.0.0.0/{bits}", random.u8(1..224) & !(0xff >> bits))
        }
        _ => "port 443".to_owned(),
    };
    let (first, second) = (term(), term());
    match random.u8(0..4) {
        0 => first,
        1 => format!("{first} and {second}"),
        2 => format!("{first} or not {second}"),
        _ => format!("not ({first} or {second})"),
    }
}

fn encoded(filter: &str) -> String {
    filter.replace('%', "%25").replace(' ', "%20").replace('<', "%3C").replace('>', "%3E").replace('/', "%2F")
}

/// Compares the largest sources and destinations under random filters with what `nfdump -s` says of the archive.
fn compare(server: &TestServer, archive: &Path, window: &str, filters: u64) {
    let mut random = fastrand::Rng::with_seed(16);
    let mut selected = 0;
    for round in 0..filters {
        let filter = (round > 0).then(|| filter(&mut random));
        let parameter = filter.as_deref().map(|text| format!("&filter={}", encoded(text))).unwrap_or_default();
        for (element, dimension) in [("dstip", "dst_ip"), ("srcip", "src_ip")] {
            let answer = server.json(&format!("/api/v1/top?by={dimension}&order=bytes&limit=500&{window}{parameter}"));
            let expected = nfdump(archive, element, filter.as_deref(), 500);
            assert_eq!(rows(&answer, dimension), expected, "{element} {filter:?}");
            selected += usize::from(!expected.is_empty());
        }
    }
    assert!(selected > filters as usize, "{selected} answers of {filters} filters hold anything");
}

/// The totals of a window: flows, bytes, packets.
pub fn totals(server: &TestServer, window: &str) -> (u64, u64, u64) {
    let totals = &server.json(&format!("/api/v1/top?by=dst_ip&limit=1&{window}"))["totals"];
    let of = |name: &str| totals[name].as_u64().unwrap();
    (of("flows"), of("bytes"), of("packets"))
}

pub fn sums(flows: &[OldFlow]) -> (u64, u64, u64) {
    let sum = |of: fn(&OldFlow) -> u32| flows.iter().map(|flow| u64::from(of(flow))).sum();
    (flows.len() as u64, sum(|flow| flow.bytes), sum(|flow| flow.packets))
}

pub fn write(server: &TestServer, name: &str, file: &[u8]) -> PathBuf {
    let path = server.folder().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, file).unwrap();
    path
}

/// All is as the doctor expects it.
fn is_well(server: &TestServer) {
    let api = server.url("");
    let output = server.command(&["doctor", "--all", "--server", api.strip_prefix("http://").unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout);
    // The PostgreSQL of the tests does not write to the disk at once, which is told.
    let differ: Vec<_> = told.lines().filter(|line| line.starts_with("DIFFERENCE")).collect();
    assert!(told.contains("exporters = segments") && differ.len() == 1 && differ[0].contains("durability"), "{told}");
}

#[test]
fn archives_of_the_installed_nfcapd_answer_as_nfdump_does_whatever_their_compression() {
    let server = TestServer::start();
    let archive = server.folder().join("archive");
    for (seed, compression) in ["", "-z", "-y", "-j"].into_iter().enumerate() {
        let folder = archive.join(format!("live/{seed}"));
        std::fs::create_dir_all(&folder).unwrap();
        let nfcapd = Nfcapd::with(&folder, &[compression]);
        for protocol in ["v5", "v9", "ipfix"] {
            traffic::send(nfcapd.address, protocol, 2_000, 20_000, 10 + seed as u64);
        }
        std::thread::sleep(Duration::from_millis(300));
        nfcapd.end();
    }
    write(&server, "archive/live/nfcapd.current.17", b"half");
    write(&server, "archive/notes.txt", b"what people write down");
    // A collector that comes to the end of its five minutes begins another file.
    let collected = |seed| std::fs::read_dir(archive.join(format!("live/{seed}/nfcapd"))).unwrap().count();
    let files: usize = (0..4).map(collected).sum();
    let told = imported(&server, &archive);
    assert!(told.starts_with(&format!("24000 flows of {files} files were brought in\n")), "{told}");
    assert!(told.contains("1 files nfcapd.current") && told.contains("1 files in directories are none"), "{told}");
    std::fs::remove_file(archive.join("live/nfcapd.current.17")).unwrap();
    std::fs::remove_file(archive.join("notes.txt")).unwrap();
    compare(&server, &archive, "last=2h", rounds(12, 200));
    // Nobody sent anything to this server, and its own PostgreSQL and rows agree with the segments.
    assert_eq!(server.metric("ingest_datagrams_total"), 0);
    is_well(&server);
    let database = server.database.as_ref().unwrap();
    let count = database.query("SELECT count(*), count(DISTINCT exporter_id) FROM flows");
    assert_eq!(count, [[Some("24000".to_owned()), Some("1".to_owned())]]);
}

#[test]
fn archives_of_nfdump_1_6_answer_as_nfdump_does() {
    let server = TestServer::start();
    let begin = hour(3);
    let (first, second) = (flows(4_000, begin, 1), flows(3_000, begin, 2));
    write(&server, "old/2026/11/nfcapd.202611221200", &nfdump_1_6(&first, 300, 0));
    write(&server, "old/2026/11/nfcapd.202611221205", &nfdump_1_6(&second, 5_000, 0));
    let told = imported(&server, &server.folder().join("old"));
    assert!(told.starts_with("7000 flows of 2 files"), "{told}");
    compare(&server, &server.folder().join("old"), &window(begin, 1), rounds(12, 200));
    let exporters = server.json("/api/v1/exporters");
    assert_eq!(exporters["exporters"][0]["address"], "192.0.2.16", "{exporters}");
    is_well(&server);
}

#[test]
fn the_same_content_under_any_name_changes_nothing() {
    let server = TestServer::start();
    let begin = hour(1);
    let made = flows(2_000, begin, 3);
    let file = nfdump_1_6(&made, 500, 0);
    let path = write(&server, "one/nfcapd.202611221200", &file);
    write(&server, "one/nfcapd.copy", &file);
    let told = imported(&server, &server.folder().join("one"));
    assert!(told.starts_with("2000 flows of 1 files") && told.contains("1 files had been brought in before"), "{told}");
    std::fs::rename(path, server.folder().join("moved")).unwrap();
    let told = imported(&server, &server.folder().join("moved"));
    assert!(told.starts_with("0 flows of 0 files") && told.contains("1 files had been brought in before"), "{told}");
    assert_eq!(totals(&server, &window(begin, 1)), sums(&made));
}

#[test]
fn an_import_that_is_killed_anywhere_goes_on_and_counts_each_flow_once() {
    let server = TestServer::start();
    let begin = hour(2);
    let made: Vec<_> = (0..12).map(|index| flows(3_000, begin, 100 + index)).collect();
    for (index, flows) in made.iter().enumerate() {
        write(&server, &format!("archive/nfcapd.2026112212{index:02}"), &nfdump_1_6(flows, 100, 0));
    }
    let datagrams = simulated("v9", 6_000, begin);
    write(&server, "archive/export.pcap", &capture(&datagrams, 2_055));
    let archive = server.folder().join("archive");
    let arguments = ["import", "--flows-at-once", "700", archive.to_str().unwrap()];
    let mut random = fastrand::Rng::with_seed(9);
    let mut killed = 0;
    for _ in 0..rounds(12, 300) {
        let mut child = server.begin(&arguments);
        std::thread::sleep(Duration::from_millis(random.u64(20..250)));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 0, "every import was at its end before it was killed");
    let stored = |statement: &str| server.database.as_ref().unwrap().query(statement)[0][0].clone().unwrap();
    let output = server.command(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<_> = made.concat();
    let (flows, ..) = sums(&all);
    assert_eq!(stored("SELECT sum(flow_rows) FROM segment_headers"), (flows + 6_000).to_string());
    assert_eq!(stored("SELECT count(*) FROM imports WHERE state <> 'done'"), "0");
    assert_eq!(stored("SELECT sum(flows) FROM imports"), (flows + 6_000).to_string());
    assert_eq!(totals(&server, &format!("{}&filter=src%20net%2010.0.0.0/24", window(begin, 1))), sums(&all));
    is_well(&server);
}

#[test]
fn imports_of_the_same_files_beside_each_other_count_each_flow_once() {
    let server = TestServer::start();
    let begin = hour(2);
    let made: Vec<_> = (0..4).map(|index| flows(1_500, begin, 200 + index)).collect();
    for (index, flows) in made.iter().enumerate() {
        write(&server, &format!("archive/nfcapd.2026112212{index:02}"), &nfdump_1_6(flows, 100, 0));
    }
    let archive = server.folder().join("archive");
    let arguments = ["import", "--flows-at-once", "300", archive.to_str().unwrap()];
    let both = [server.begin(&arguments), server.begin(&arguments)];
    for mut child in both {
        // The later one ends where it finds a file further than it has brought it itself.
        child.wait().unwrap();
    }
    let output = server.command(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(totals(&server, &window(begin, 1)), sums(&made.concat()));
    is_well(&server);
}

#[test]
fn a_file_that_is_cut_or_damaged_is_named_with_the_offset_and_the_rest_goes_in() {
    let server = TestServer::start();
    let begin = hour(1);
    let made = flows(1_000, begin, 5);
    let file = nfdump_1_6(&made, 100, 0);
    // Each block has 100 flows of 64 bytes, the first one two maps before them.
    let block = 12 + 100 * 64;
    let second = 276 + block + 16 + 12;
    write(&server, "archive/nfcapd.1", &file[..second + 3 * block + 500]);
    let mut damaged = nfdump_1_6(&flows(1_000, begin, 6), 100, 0);
    damaged[second + block + 12 + 2] = 1;
    write(&server, "archive/nfcapd.2", &damaged);
    write(&server, "archive/nfcapd.3", &nfdump_1_6(&flows(1_000, begin, 7), 100, 0));
    for round in 0..2 {
        let output = import(&server, &[], &server.folder().join("archive"));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        for (name, offset) in [("nfcapd.1", second + 3 * block), ("nfcapd.2", second + block)] {
            let before = if round > 0 { "damaged, as told when it was brought in: " } else { "" };
            assert!(told.contains(&format!("{name}: {before}at byte {offset}: ")), "{told}");
        }
        assert!(told.contains("2 files were not brought in whole"), "{told}");
        assert_eq!(totals(&server, &window(begin, 1)).0, 400 + 900 + 1_000, "{told}");
    }
}

#[test]
fn flows_older_than_segments_are_kept_are_counted_and_left_out_until_more_is_kept() {
    let mut server = TestServer::with(&[("STORAGE__SEGMENTS_DAYS", "30")]);
    let begin = hour(40);
    let made = flows(500, begin, 8);
    let path = write(&server, "nfcapd.old", &nfdump_1_6(&made, 100, 0));
    for _ in 0..2 {
        let told = imported(&server, &path);
        assert!(told.contains("500 flows are older than 30 days") && told.contains("segments_days"), "{told}");
    }
    server.set("STORAGE__SEGMENTS_DAYS", "60");
    server.terminate();
    server.launch();
    assert!(imported(&server, &path).starts_with("500 flows of 1 files"));
    assert_eq!(totals(&server, &window(begin, 1)), sums(&made));
    // Upkeep has no reason to drop anything, and rows are kept for some days only.
    let rows = server.database.as_ref().unwrap().query("SELECT count(*) FROM flows");
    assert_eq!(rows[0][0].as_deref(), Some("0"));
    is_well(&server);
}

#[test]
fn a_file_that_names_no_exporter_needs_one_and_its_flows_lie_at_their_end() {
    let server = TestServer::start();
    let begin = hour(1) + chrono::TimeDelta::minutes(10);
    let mut made = flows(300, begin, 9);
    made.iter_mut().for_each(|flow| flow.received = None);
    let path = write(&server, "nfcapd.nameless", &nfdump_1_6(&made, 100, 0));
    let output = import(&server, &[], &path);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("--exporter ADDRESS"), "{told}");
    let output = import(&server, &["--exporter", "198.51.100.7"], &path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.json("/api/v1/exporters")["exporters"][0]["address"], "198.51.100.7");
    assert_eq!(totals(&server, &window(hour(1), 1)), sums(&made));
}

/// Datagrams of the simulated exporter, 20 ms apart from a moment on.
pub fn simulated(protocol: &str, count: u64, begin: chrono::DateTime<chrono::Utc>) -> Vec<(u64, Vec<u8>)> {
    let printed = traffic::print(&["--protocol", protocol, "--count", &count.to_string(), "--seed", "21"]);
    let begin = begin.timestamp_micros() as u64;
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    let datagrams = printed.lines().filter(|line| line.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let datagrams = datagrams.map(|line| line.as_bytes().chunks(2).map(byte).collect());
    datagrams.enumerate().map(|(index, datagram)| (begin + 20_000 * index as u64, datagram)).collect()
}

#[test]
fn captures_are_decoded_at_the_moments_of_their_packets() {
    let server = TestServer::start();
    let begin = hour(5);
    for (protocol, port) in [("v5", 2_055), ("ipfix", 4_739), ("sflow", 6_343)] {
        let path = write(&server, &format!("{protocol}.pcap"), &capture(&simulated(protocol, 3_000, begin), port));
        assert!(imported(&server, &path).starts_with("3000 flows of 1 files"), "{protocol}");
    }
    assert_eq!(totals(&server, &window(begin, 1)).0, 9_000);
    let addresses = server.database.as_ref().unwrap().query("SELECT host(address) FROM exporters ORDER BY 1");
    assert!(addresses.contains(&vec![Some("192.0.2.17".to_owned())]), "{addresses:?}");
    // Other ports must be named.
    let path = write(&server, "other.pcap", &capture(&simulated("v9", 3_000, begin), 7_777));
    let output = import(&server, &[], &path);
    assert!(String::from_utf8_lossy(&output.stderr).contains("7777 ("), "{output:?}");
    assert!(import(&server, &["--port", "7777"], &path).status.success());
    assert_eq!(totals(&server, &window(begin, 1)).0, 12_000);
}

#[test]
fn data_before_its_template_lies_where_it_was_captured_and_an_hour_of_templates_is_empty() {
    const FIELDS: [(u16, u16); 2] = [(8, 4), (1, 4)];
    let server = TestServer::start();
    let begin = hour(3);
    let at = |seconds: i64| (begin.timestamp_micros() + seconds * 1_000_000) as u64;
    let datagrams = [
        (at(-1_800), message(9, 0, 1_000, &template(0, 300, &FIELDS))),
        (at(60), message(9, 1, 1_000, &set(256, &words(&[0x0a00_0001, 100, 0x0a00_0002, 200])))),
        (at(3_700), message(9, 2, 1_000, &template(0, 256, &FIELDS))),
        (at(3_701), message(9, 3, 1_000, &set(256, &words(&[0x0a00_0003, 400])))),
        (at(3_702), message(9, 4, 1_000, &set(999, &[0; 8]))),
    ];
    let path = write(&server, "late.pcap", &capture(&datagrams, 2_055));
    assert!(imported(&server, &path).starts_with("3 flows of 1 files"));
    let of = |hours: i64| totals(&server, &window(begin + chrono::TimeDelta::hours(hours), 1));
    assert_eq!(((of(-1).0, of(0).1, of(1).1), of(0).0), ((0, 300, 400), 2));
    // What waited and came is not missing; the set whose template never came is.
    let loss = server.database.as_ref().unwrap().query("SELECT cause, unit, count FROM loss WHERE count <> 0");
    let told: Vec<Vec<_>> = loss.into_iter().map(|row| row.into_iter().flatten().collect()).collect();
    assert_eq!(told, [["no_template", "sets", "1"]]);
    is_well(&server);
}

#[test]
fn answers_about_imported_hours_are_recorded_but_never_exact_and_tell_the_gaps() {
    let server = TestServer::start();
    let begin = hour(4);
    let path = write(&server, "nfcapd.gaps", &nfdump_1_6(&flows(600, begin, 11), 100, 3));
    imported(&server, &path);
    let completeness = |window: &str| {
        let answer = server.json(&format!("/api/v1/top?by=dst_ip&limit=1&{window}"));
        let stamp = answer["completeness"].clone();
        let of = |row: &Value| format!("{} {} {}", row["cause"], row["unit"], row["count"]).replace('"', "");
        let lost: Vec<_> = stamp["lost"].as_array().unwrap().iter().map(of).collect();
        assert_eq!((&stamp["exact"], &stamp["undercount"]), (&Value::Bool(false), &Value::Null), "{stamp}");
        lost.join(", ")
    };
    assert_eq!(completeness(&window(begin, 1)), "imported hours 1, network gaps 3");
    assert_eq!(completeness(&window(begin, 2)), "imported hours 1, network gaps 3, not_recorded seconds 3600");
    let earlier = begin - chrono::TimeDelta::hours(2);
    assert_eq!(completeness(&window(earlier, 1)), "not_recorded seconds 3600");
    // A collector that was there all the time knows more, but not of what somebody else received.
    server
        .database
        .as_ref()
        .unwrap()
        .query("UPDATE journal_positions SET created_at = created_at - interval '9 days', complete_until = now()");
    assert_eq!(completeness(&window(begin, 2)), "imported hours 1, network gaps 3");
    let later = window(begin + chrono::TimeDelta::hours(1), 1);
    let stamp = server.json(&format!("/api/v1/top?by=dst_ip&limit=1&{later}"))["completeness"].clone();
    assert_eq!((&stamp["exact"], &stamp["lost"]), (&Value::Bool(true), &serde_json::json!([])));
}

#[test]
fn it_works_with_a_private_postgresql_beside_the_server_and_without_it() {
    let mut server = TestServer::with_private_postgres(&[]);
    let begin = hour(2);
    let (first, second) = (flows(200, begin, 12), flows(300, begin, 13));
    imported(&server, &write(&server, "nfcapd.1", &nfdump_1_6(&first, 100, 0)));
    server.terminate();
    imported(&server, &write(&server, "nfcapd.2", &nfdump_1_6(&second, 100, 0)));
    server.launch();
    assert_eq!(totals(&server, &window(begin, 1)), sums(&[first, second].concat()));
}

#[test]
fn archives_that_the_environment_names_answer_as_their_nfdump_does() {
    // FLOWLEDGER_ARCHIVES: directories with `:` between them, of flows received within the last two hours;
    // FLOWLEDGER_NFDUMP: the program that reads them, when it is not the installed one.
    let Ok(archives) = std::env::var("FLOWLEDGER_ARCHIVES") else {
        return skip_anywhere("FLOWLEDGER_ARCHIVES names no archives of another nfdump, see docs/import.md");
    };
    for archive in archives.split(':').map(Path::new) {
        let server = TestServer::start();
        let told = imported(&server, archive);
        println!("{}: {told}", archive.display());
        compare(&server, archive, "last=2h", 40);
        is_well(&server);
    }
}
