//! Files that come again: grown since, or because something of them is still to be brought in. Each flow counts once.

use crate::import::{flows, hour, import, imported, simulated, sums, totals, window, write};
use crate::support::archives::{capture, capture_from, nfdump_1_6, nfdump_1_7, nfdump_1_7_in};
use crate::support::faults::{failing, given};
use crate::support::messages::{message, set, template, words};
use crate::support::postgres::{Session, query, wait_on};
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::store::imports::{ImportBatch, ImportFile, ImportState, ImportStep};
use flowledger::store::{Address, Database};
use std::path::Path;

/// What an import that may fail said, and its exit code.
fn said(server: &TestServer, arguments: &[&str], path: &Path) -> (Option<i32>, String) {
    let output = import(server, arguments, path);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// What is missing, as cause, unit and count.
fn loss(server: &TestServer) -> Vec<String> {
    let rows =
        server.database.as_ref().unwrap().query("SELECT cause, unit, count FROM loss WHERE count <> 0 ORDER BY 1");
    rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn flow_exports_to_other_ports_of_a_capture_are_told_and_follow_by_their_port() {
    let server = TestServer::start();
    let begin = hour(3);
    let datagrams = simulated("v5", 3_000, begin);
    let other = capture_from(18, &simulated("v9", 2_000, begin), 9_000);
    let path = write(&server, "two.pcap", &[&capture(&datagrams, 2_055), &other[24..]].concat());
    for round in 0..2 {
        let (code, told) = said(&server, &[], &path);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("two.pcap: WARNING: ") && told.contains(" 9000 (") && told.contains("--port"), "{told}");
        assert_eq!(told.contains("1 files had been brought in before"), round > 0, "{told}");
        assert_eq!(totals(&server, &window(begin, 1)).0, 3_000);
    }
    let (code, told) = said(&server, &["--port", "9000"], &path);
    assert!(code == Some(0) && told.starts_with("2000 flows of 1 files"), "{told}");
    assert!(!told.contains("WARNING"), "the others are there: {told}");
    for arguments in [&["--port", "2055", "--port", "9000"][..], &["--port", "9000"], &[]] {
        let (code, told) = said(&server, arguments, &path);
        assert!(code == Some(0) && told.starts_with("0 flows of 0 files") && !told.contains("WARNING"), "{told}");
        assert!(told.contains("1 files had been brought in before"), "{told}");
    }
    assert_eq!(totals(&server, &window(begin, 1)).0, 5_000);
    // Both at once are one file.
    let begin = hour(4);
    let other = capture_from(18, &simulated("v9", 2_000, begin), 4_739);
    let path = write(&server, "both.pcap", &[&capture(&simulated("v5", 3_000, begin), 2_055), &other[24..]].concat());
    assert!(imported(&server, &path).starts_with("5000 flows of 1 files"));
    assert_eq!(totals(&server, &window(begin, 1)).0, 5_000);
}

#[test]
fn a_file_that_was_cut_goes_on_where_it_ended_when_it_comes_whole() {
    let server = TestServer::start();
    let begin = hour(2);
    let made = flows(1_000, begin, 31);
    let whole = nfdump_1_6(&made, 100, 3);
    let block = 12 + 100 * 64;
    let third = 276 + 2 * block + 16 + 12;
    // Within a block, at its start, and in its head.
    for (blocks, cut) in [(2, third + 700), (5, third + 3 * block), (5, third + 3 * block + 5)] {
        let (code, told) = said(&server, &[], &write(&server, "cut/nfcapd.1", &whole[..cut]));
        assert!(code == Some(1) && told.contains("at byte "), "{told}");
        assert_eq!(totals(&server, &window(begin, 1)).0, blocks * 100, "{told}");
    }
    // One that was never read to its end cannot go on by itself from then on.
    let database = server.database.as_ref().unwrap();
    database.query(&format!("UPDATE imports SET state = 'running' WHERE size = {}", third + 3 * block + 5));
    let (code, told) = said(&server, &[], &write(&server, "nfcapd.1", &whole));
    assert!(code == Some(0) && told.contains("nfcapd.1: goes on at byte "), "{told}");
    assert_eq!(totals(&server, &window(begin, 1)), sums(&made));
    assert_eq!(database.query("SELECT sum(flows)::text FROM imports")[0][0].as_deref(), Some("1000"));
    assert_eq!(database.query("SELECT count(*) FROM imports WHERE state = 'running'")[0][0].as_deref(), Some("0"));
    // The gaps that the head of the file tells were told once.
    assert_eq!(loss(&server), ["network gaps 3"]);
    let (_, told) = said(&server, &[], &server.folder().join("nfcapd.1"));
    assert!(told.contains("1 files had been brought in before"), "{told}");
}

#[test]
fn a_whole_file_beside_its_cut_copy_goes_on_with_the_next_import() {
    let server = TestServer::start();
    let begin = hour(2);
    let made = flows(600, begin, 32);
    let whole = nfdump_1_6(&made, 100, 0);
    write(&server, "archive/nfcapd.1", &whole[..whole.len() - 300]);
    write(&server, "archive/nfcapd.2", &whole);
    let archive = server.folder().join("archive");
    let (code, told) = said(&server, &[], &archive);
    assert!(code == Some(1) && told.contains("nfcapd.2: ") && told.contains("start the import again"), "{told}");
    assert_eq!(totals(&server, &window(begin, 1)).0, 500);
    for _ in 0..2 {
        said(&server, &[], &archive);
        assert_eq!(totals(&server, &window(begin, 1)), sums(&made));
    }
}

#[test]
fn a_capture_that_has_grown_brings_in_what_is_new_and_what_was_missing_stays_missing_once() {
    const FIELDS: [(u16, u16); 2] = [(8, 4), (1, 4)];
    let server = TestServer::start();
    let begin = hour(3);
    let at = |seconds: i64| (begin.timestamp_micros() + seconds * 1_000_000) as u64;
    let record = |bytes: u32| set(256, &words(&[0x0a00_0001, bytes]));
    let datagrams = [
        (at(1), message(9, 0, 1_000, &template(0, 300, &FIELDS))),
        (at(2), message(9, 1, 1_000, &record(100))),
        (at(3), message(9, 2, 1_000, &template(0, 256, &FIELDS))),
        (at(4), message(9, 3, 1_000, &record(400))),
        (at(5), message(9, 4, 1_000, &record(800))),
    ];
    // Between packets, and within the last one.
    for (count, cut, bytes) in [(2, 0, 0), (4, 0, 400), (5, 9, 400), (5, 0, 1_200)] {
        let mut file = capture(&datagrams[..count], 2_055);
        file.truncate(file.len() - cut);
        let (code, told) = said(&server, &[], &write(&server, "growing.pcap", &file));
        assert_eq!(code, Some(i32::from(cut > 0)), "{told}");
        assert_eq!(totals(&server, &window(begin, 1)).1, bytes, "{told}");
        assert_eq!(loss(&server), ["no_template sets 1"], "{told}");
    }
}

#[test]
fn a_file_that_is_still_being_copied_counts_once_when_it_is_whole() {
    let server = TestServer::start();
    let url = server.database.as_ref().unwrap().url();
    let (first, second) = (hour(3), hour(2));
    let made = flows(1_000, first, 33);
    for (name, whole, begin, flows) in [
        ("nfcapd.1", nfdump_1_6(&made, 100, 0), first, 1_000),
        ("copied.pcap", capture(&simulated("v5", 900, second), 2_055), second, 900),
    ] {
        let path = write(&server, name, &whole[..whole.len() * 2 / 3]);
        // It is known by what it held first, and waits here before that is read.
        let mut other = Session::open(&url);
        other.run("BEGIN; LOCK TABLE imports IN EXCLUSIVE MODE");
        let mut reading = server.begin(&["import", path.to_str().unwrap()]);
        let waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'imports'::regclass";
        wait_for("the import to wait", 20, || (query(&url, waits).len() == 1).then_some(()));
        std::fs::write(&path, &whole).unwrap();
        other.run("ROLLBACK");
        reading.wait().unwrap();
        let part = totals(&server, &window(begin, 1)).0;
        assert!(part < flows, "{part} flows of {name} were brought in");
        let (code, told) = said(&server, &[], &path);
        assert_eq!((code, totals(&server, &window(begin, 1)).0), (Some(0), flows), "{told}");
    }
}

#[test]
fn a_capture_that_cannot_be_read_for_a_moment_goes_in_with_the_next_import() {
    let server = TestServer::start();
    let begin = hour(2);
    let datagrams = simulated("v5", 45_000, begin);
    let path = write(&server, "far.pcap", &capture(&datagrams, 2_055));
    let path_said = path.to_str().unwrap();
    let mut failed = 0;
    for read in 1.. {
        // Each time from a later read on: while it is looked at, surveyed, and brought in.
        let Some(mut tracer) = given(failing("read", &format!("error=EIO:when={read}+"))) else { return };
        tracer.extend(["-P".to_owned(), path_said.to_owned()]);
        let output = server.command_under(&tracer, &["import", path_said]);
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        if output.status.success() {
            break;
        }
        assert!(told.contains("far.pcap: cannot be read: Input/output error"), "{told}");
        failed += 1;
    }
    assert!(failed > 10, "{failed} reads failed");
    assert_eq!(totals(&server, &window(begin, 1)).0, 45_000);
}

#[test]
fn one_template_makes_no_more_of_what_waited_for_it_than_memory_holds_and_the_rest_is_told() {
    const SETS: u64 = 1_100;
    let server = TestServer::with(&[("STORAGE__FLOWS_DAYS", "0")]);
    let begin = hour(2);
    let at = |micros: u64| begin.timestamp_micros() as u64 + micros;
    let data = set(256, &[6; 8_192]);
    let mut datagrams: Vec<_> = (0..SETS).map(|number| (at(number), message(9, number as u32, 1_000, &data))).collect();
    datagrams.push((at(SETS), message(9, SETS as u32, 1_000, &template(0, 256, &[(4, 1)]))));
    let (code, told) = said(&server, &[], &write(&server, "made.pcap", &capture(&datagrams, 2_055)));
    let kept = (64 << 20) / 8;
    assert!(code == Some(0) && told.starts_with(&format!("{kept} flows of 1 files")), "{told}");
    assert_eq!(totals(&server, &window(begin, 1)).0, kept);
    assert_eq!(loss(&server), [format!("output_limit records {}", SETS * 8_192 - kept)]);
}

#[test]
fn an_hour_of_losses_alone_is_counted_by_other_networks_as_any_hour_is() {
    let mut server = TestServer::start();
    let begin = hour(3);
    let data = message(9, 0, 1_000, &set(256, &words(&[1, 2])));
    let file = capture(&[(begin.timestamp_micros() as u64, data)], 2_055);
    let (_, told) = said(&server, &[], &write(&server, "lost.pcap", &file));
    assert_eq!(loss(&server), ["no_template sets 1"], "{told}");
    let sealed = format!("SELECT FROM hours WHERE hour = '{begin}' AND sealed_at IS NOT NULL");
    wait_for("the hour to be sealed", 30, || {
        (server.database.as_ref().unwrap().query(&sealed).len() == 1).then_some(())
    });
    server.set("NETWORK__LOCAL", r#"["10.0.0.4/30"]"#);
    let from = begin.format("%FT%TZ").to_string();
    for count in [1, 0] {
        let output = server.command(&["rebuild-totals", "--from", &from]);
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.starts_with(&format!("hours counted anew: {count};")), "{told}");
        assert!(!told.contains("no longer kept"), "{told}");
    }
}

#[test]
fn a_file_with_too_many_exporters_is_named_the_rest_goes_in_and_it_follows_when_more_are_allowed() {
    let mut server = TestServer::with(&[("INGEST__MAX_EXPORTERS", "1")]);
    let begin = hour(1);
    let ms = begin.timestamp_millis() as u64 + 1_000;
    write(&server, "archive/nfcapd.1", &nfdump_1_6(&flows(300, begin, 61), 100, 0));
    // Those before the one of another exporter are not stored without it.
    let mixed: Vec<_> = [16, 16, 18, 16].into_iter().map(|last| (last, [ms, ms, ms])).collect();
    write(&server, "archive/nfcapd.2", &nfdump_1_7(&mixed));
    write(&server, "archive/nfcapd.3.pcap", &capture(&simulated("v5", 90, begin), 2_055));
    write(&server, "archive/nfcapd.4", &nfdump_1_6(&flows(200, begin, 62), 100, 0));
    let archive = server.folder().join("archive");
    let (code, told) = said(&server, &[], &archive);
    assert!(code == Some(1) && told.contains("2 files were not brought in whole"), "{told}");
    for name in ["nfcapd.2", "nfcapd.3.pcap"] {
        let line = told.lines().find(|line| line.contains(&format!("{name}: "))).unwrap_or(&told);
        assert!(line.contains("more than 1: raise [ingest] max_exporters"), "{told}");
    }
    assert_eq!(totals(&server, &window(begin, 1)).0, 500);
    server.set("INGEST__MAX_EXPORTERS", "10");
    let (code, told) = said(&server, &[], &archive);
    assert!(code == Some(0) && told.starts_with("94 flows of 2 files"), "{told}");
    assert_eq!(totals(&server, &window(begin, 1)).0, 594);
}

#[test]
fn a_file_that_failed_halfway_counts_once_beside_its_copies_and_goes_on_with_the_next_import() {
    let mut server = TestServer::with(&[("INGEST__MAX_EXPORTERS", "1")]);
    let (begin, later) = (hour(2), hour(1));
    let blocks = |begin: chrono::DateTime<chrono::Utc>| {
        let flows = |lasts: &[u8]| -> Vec<_> {
            lasts.iter().map(|last| (*last, [begin.timestamp_millis() as u64 + 1_000; 3])).collect()
        };
        nfdump_1_7_in(&[&flows(&[16, 16, 16]), &flows(&[16, 18]), &flows(&[16])])
    };
    // Its first block is still to be stored when the same comes again, under other names and as a longer file.
    let path = write(&server, "copies/nfcapd.1", &blocks(begin));
    write(&server, "copies/nfcapd.2", &blocks(begin));
    std::os::unix::fs::symlink(&path, server.folder().join("copies/nfcapd.3")).unwrap();
    let whole = blocks(later);
    write(&server, "grown/nfcapd.1", &whole[..whole.len() - 9]);
    write(&server, "grown/nfcapd.2", &whole);
    let (copies, grown) = (server.folder().join("copies"), server.folder().join("grown"));
    for _ in 0..2 {
        let (code, told) = said(&server, &[], &copies);
        assert_eq!(totals(&server, &window(begin, 1)).0, 3, "{told}");
        assert!(code == Some(1) && told.contains("nfcapd.1: with its exporters there would be more than 1"), "{told}");
        for name in ["nfcapd.2", "nfcapd.3"] {
            assert!(told.contains(&format!("{name}: its content is that of a file that failed just now")), "{told}");
        }
        let (code, told) = said(&server, &[], &grown);
        assert_eq!(totals(&server, &window(later, 1)).0, 3, "{told}");
        assert!(code == Some(1) && told.contains("nfcapd.2: its beginning was read just now"), "{told}");
    }
    server.set("INGEST__MAX_EXPORTERS", "10");
    let (code, told) = said(&server, &[], &copies);
    assert!(code == Some(0) && told.starts_with("3 flows of 1 files"), "{told}");
    assert!(told.contains("2 files had been brought in before"), "{told}");
    assert_eq!(totals(&server, &window(begin, 1)).0, 6);
    // The shorter one is read to its end first.
    for flows in [5, 6, 6] {
        let (_, told) = said(&server, &[], &grown);
        assert_eq!(totals(&server, &window(later, 1)).0, flows, "{told}");
    }
}

#[test]
fn gaps_that_are_more_than_can_be_counted_are_as_many_as_can() {
    let server = TestServer::start();
    let begin = hour(2);
    imported(&server, &write(&server, "nfcapd.1", &nfdump_1_6(&flows(200, begin, 63), 100, 3)));
    // Newer files tell such numbers themselves.
    server.database.as_ref().unwrap().query(&format!("UPDATE loss SET count = {}", i64::MAX));
    let told = imported(&server, &write(&server, "nfcapd.2", &nfdump_1_6(&flows(300, begin, 64), 100, 3)));
    assert!(told.starts_with("300 flows of 1 files"), "{told}");
    assert_eq!(loss(&server), [format!("network gaps {}", i64::MAX)]);
}

#[test]
fn packets_without_their_end_are_told_where_the_first_of_them_begins() {
    let server = TestServer::start();
    let datagrams = simulated("v5", 90, hour(1));
    let mut file = capture(&datagrams, 2_055);
    let second = 24 + 16 + 28 + datagrams[0].1.len();
    // It was longer than what was captured of it.
    file[second + 12..second + 16].copy_from_slice(&9_000u32.to_le_bytes());
    let (code, told) = said(&server, &[], &write(&server, "cut.pcap", &file));
    let damage = format!("cut.pcap: at byte {second}: the first of 1 packets that were captured without their end");
    assert!(code == Some(1) && told.contains(&damage), "{told}");
}

#[test]
fn a_file_that_another_import_has_moved_is_named() {
    let server = TestServer::start();
    let url = server.database.as_ref().unwrap().url();
    wait_on(async {
        let database = Database::new(&Address::Url(url)).unwrap();
        let file = ImportFile { hash: [7; 32], port: 0, name: "/archive/nfcapd.7", size: 900, format: "nfdump" };
        let import_id = database.begin_import(&file, None).await.unwrap().import_id;
        let state = ImportState::Running;
        let (flows, refused, received, error) = (0, 0, None, None);
        let step = ImportStep { import_id, start: 500, end: 700, flows, refused, received, state, error };
        let error = database.commit_import(&ImportBatch { steps: vec![step], ..ImportBatch::default() }).await;
        let told = error.unwrap_err().to_string();
        assert!(told.starts_with("/archive/nfcapd.7 is no longer stored up to byte 500"), "{told}");
        database.close().await;
    });
}
