//! Each check sees its difference, and none where there is none.

use super::checks;
use super::finding::{Finding, Verdict};
use super::server::{Figures, ask, reachable};
use crate::clock::{DAY, SECOND, Timestamp};
use crate::flow::counting::FlowDirection;
use crate::flow::double_counting::{Example, Side, Summary};
use crate::flow::segment::{Segment, Totals};
use crate::journal::survey::{Survey, survey};
use crate::journal::{self, Datagram, Record, Transport};
use crate::store::audit::{StoredJournal, Sums};
use crate::store::partitions::DailyTable;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

const NOW: Timestamp = Timestamp::from_micros(1_795_435_200_000_000);

/// The differences that were found.
fn differences(finding: &Finding) -> Vec<&str> {
    if finding.verdict == Verdict::Difference {
        finding.details.iter().map(String::as_str).collect()
    } else {
        Vec::new()
    }
}

#[test]
fn a_finding_is_shown_with_each_difference_on_a_line_of_its_own() {
    let finding = Finding::of("clocks", "", vec!["one".to_owned(), "two".to_owned()]);
    assert_eq!(
        finding.to_string(),
        "DIFFERENCE  clocks                    one\n                                      two\n"
    );
    assert!(Finding::of("a", "well", Vec::new()).to_string().starts_with("OK          a "));
    assert!(Finding::not_applicable("a", "none").to_string().starts_with("n/a         a "));
}

#[test]
fn what_is_counted_twice_is_a_warning_with_the_setting_that_would_end_it() {
    assert_eq!(checks::double_counting(&[], 1).verdict, Verdict::Good);
    assert_eq!(checks::double_counting(&[], 0).verdict, Verdict::NotApplicable);
    let side = |exporter_id, direction| Side { exporter_id, direction };
    let example = Example {
        src_ip: "10.0.0.1".parse().unwrap(),
        dst_ip: "2001:db8::1".parse().unwrap(),
        src_port: 1_024,
        dst_port: 443,
        protocol: 6,
        bytes: 700,
        packets: None,
        interfaces: [None, None],
        first_seen: [0, 0],
    };
    let both = Summary {
        sides: [side(1, Some(FlowDirection::Ingress)), side(1, Some(FlowDirection::Egress))],
        addresses: ["192.0.2.1".parse().unwrap(); 2],
        hours: 3,
        last_hour: NOW,
        compared_flows: [200, 150],
        matched_flows: 120,
        double_bytes: 9_000,
        sampled_one_in: 1,
        points: Vec::new(),
        examples: vec![example],
        proposal: Some(("192.0.2.1".parse().unwrap(), "count = \"ingress\"".to_owned())),
    };
    let two = Summary { sides: [side(1, None), side(2, None)], examples: Vec::new(), proposal: None, ..both.clone() };
    let alone = Summary { sides: [side(1, None); 2], ..two.clone() };
    let finding = checks::double_counting(&[both, two, alone], 3);
    assert_eq!(finding.verdict, Verdict::Warning);
    assert!(finding.to_string().starts_with("WARNING     double counting "), "{finding}");
    assert_eq!(
        finding.details,
        [
            "192.0.2.1 (ingress) and 192.0.2.1 (egress) tell the same flows: 80 % of those compared, about 9000 bytes twice \
             in 3 h, such as 10.0.0.1:1024 to [2001:db8::1]:443, protocol 6, 700 bytes; set count = \"ingress\" below \
             [[exporter]] address = \"192.0.2.1\"",
            "192.0.2.1 and 192.0.2.1 tell the same flows: 80 % of those compared, about 9000 bytes twice in 3 h; no \
             setting separates them: change what they export",
            "two interfaces or domains of 192.0.2.1 tell the same flows: 80 % of those compared, about 9000 bytes twice in 3 h; \
             no setting separates them: change what they export",
        ]
    );
}

#[test]
fn clocks_may_differ_by_five_seconds_and_nothing_is_stored_of_the_future() {
    let check = |offset: i64, until| {
        let finding = checks::clocks(NOW, NOW.plus(offset * SECOND), NOW, until);
        differences(&finding).join("")
    };
    assert!(check(5, Some(NOW)).is_empty() && check(-5, None).is_empty());
    assert!(check(6, None).contains("6 s ahead of ours") && check(-60, None).contains("60 s behind ours"));
    assert!(check(0, Some(NOW.plus(DAY))).contains("still to come"));
}

#[test]
fn days_that_lack_and_days_that_stayed_are_named_with_a_day_of_grace() {
    let days =
        |range: std::ops::RangeInclusive<i64>| range.map(|ago| NOW.day().plus(-ago * DAY)).rev().collect::<Vec<_>>();
    let check = |present: &[Timestamp], keep| {
        let finding = checks::days(DailyTable::Flows, present, NOW, Some(NOW), keep);
        differences(&finding).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(check(&days(-1..=8), 7).is_empty());
    assert_eq!(check(&days(-1..=9), 7), ["2026-11-14 is older than 7 days and still there"]);
    assert_eq!(check(&days(0..=1), 7), ["no partition for 2026-11-24"]);
    assert!(check(&[], 0).is_empty());
}

#[test]
fn rows_and_segments_are_compared_in_every_sum() {
    let sums = Sums { rows: 5, bytes: 1 << 70, packets: 7, flows: 6, cut: false };
    let check = |rows| checks::rows_and_segments(&[(NOW.day(), rows, sums)]);
    assert_eq!(check(sums).verdict, Verdict::Good);
    for (rows, named) in [
        (Sums { rows: 4, ..sums }, "2026-11-23: the table flows has 4 records, the segments have 5"),
        (Sums { bytes: 1, ..sums }, "has 1 bytes"),
        (Sums { packets: 1, ..sums }, "has 1 packets"),
        (Sums { flows: 1, ..sums }, "has 1 flows"),
    ] {
        let finding = check(rows);
        assert!(matches!(differences(&finding).as_slice(), [one] if one.contains(named)), "{finding}");
    }
    assert_eq!(checks::rows_and_segments(&[]).verdict, Verdict::NotApplicable);
    // A segment with a counter as large as there is keeps less than its rows sum up to.
    let cut = |rows| checks::rows_and_segments(&[(NOW.day(), rows, Sums { cut: true, ..sums })]).verdict;
    assert_eq!(cut(Sums { bytes: (1 << 70) + 1, packets: 8, flows: 7, ..sums }), Verdict::Good);
    for rows in [Sums { bytes: 1, ..sums }, Sums { rows: 6, ..sums }] {
        assert_eq!(cut(rows), Verdict::Difference);
    }
}

#[test]
fn a_segment_tells_the_sums_and_times_of_its_columns_as_far_as_the_database_can_hold_them() {
    let totals = Totals { bytes: i64::MAX as u64, packets: 2, flows: 1 };
    let segment = Segment { rows: 1, received_first: NOW, received_last: NOW.plus(5), totals, columns: Vec::new() };
    let times = Some((NOW.micros(), NOW.micros() + 5));
    assert_eq!(checks::segment(7, &segment, &Totals { bytes: u64::MAX, ..totals }, times), None);
    let differs = checks::segment(7, &segment, &Totals { packets: 3, ..totals }, times).unwrap();
    assert!(
        differs.contains("segment 7") && differs.contains("2 packets") && differs.contains(", 3 and 1"),
        "{differs}"
    );
    for times in [None, Some((NOW.micros(), NOW.micros()))] {
        assert!(checks::segment(7, &segment, &totals, times).unwrap().contains("were not received from"));
    }
}

#[test]
fn records_are_compared_while_no_day_was_dropped() {
    let check = |stored, oldest: i64| checks::records(5, stored, Some(NOW), Some(NOW.day().plus(oldest * DAY)));
    assert_eq!((check(5, 0).verdict, check(4, -1).verdict), (Verdict::Good, Verdict::Difference));
    assert_eq!(
        (check(4, 1).verdict, checks::records(0, 0, None, None).verdict),
        (Verdict::NotApplicable, Verdict::NotApplicable)
    );
    assert_eq!(differences(&checks::segment_ids(&[3], &[4])).len(), 2);
    assert_eq!(checks::segment_ids(&[], &[]).verdict, Verdict::Good);
}

/// What a journal of several files in `directory` looks like; everything was written through the journal itself.
fn written(directory: &Path, datagrams: usize) -> Survey {
    let settings = journal::Settings {
        directory: directory.to_owned(),
        segment_bytes: 4_096,
        max_bytes: 1 << 20,
        ..journal::Settings::default()
    };
    let (writer, _reader) = journal::open(settings).unwrap();
    let source = "192.0.2.1:2055".parse().unwrap();
    let payload = [7; 1_400];
    let datagram = Datagram { received: NOW, source, listener: 0, transport: Transport::Datagram, payload: &payload };
    for _ in 0..datagrams {
        writer.append(&[Record::Datagram(datagram)]).unwrap();
    }
    survey(directory).unwrap().unwrap()
}

fn stored_at(survey: &Survey, position: u64) -> [StoredJournal; 1] {
    [StoredJournal { id: survey.id.to_string(), position, complete_until: None, updated_at: NOW }]
}

#[test]
fn a_position_lies_within_the_journal_and_no_file_that_is_still_needed_is_gone() {
    let room = tempfile::tempdir().unwrap();
    assert_eq!(survey(&room.path().join("none")).unwrap(), None);
    let whole = written(room.path(), 12);
    assert!(whole.files.len() >= 4, "{whole:?}");
    let (first, end) = (whole.files[0].start.get(), whole.files.last().unwrap().end.get());
    let check = |survey: &Survey, position| checks::journal(survey, &stored_at(survey, position), survey);
    for position in [first, first + 1, end, end + 1, end + 65_536] {
        assert_eq!(check(&whole, position).verdict, Verdict::Good, "{position}");
    }
    assert!(check(&whole, first).to_string().contains(&format!("{} bytes not stored yet", end - first)));
    let ahead = check(&whole, end + 65_537);
    assert!(ahead.to_string().contains("its end is missing"), "{ahead}");
    // The first file was deleted: good once it is stored.
    let mut rest = whole.clone();
    let gone = rest.files.remove(0);
    let behind = check(&rest, gone.start.get());
    assert!(behind.to_string().contains("what is between is missing"), "{behind}");
    assert_eq!(check(&rest, gone.end.get()).verdict, Verdict::Good);
    // One in the middle.
    let mut holed = whole.clone();
    let gone = holed.files.remove(1);
    let missing = check(&holed, first);
    assert!(
        missing.to_string().contains(&format!("{} bytes of the journal", gone.end.get() - gone.start.get())),
        "{missing}"
    );
    assert_eq!(check(&holed, end).verdict, Verdict::Good);
    // All of them.
    let empty = Survey { files: Vec::new(), ..whole.clone() };
    assert!(check(&empty, 5).to_string().contains("no file of the journal is left"));
    // The directory was replaced.
    let other = [StoredJournal { id: "another".to_owned(), ..stored_at(&whole, 0)[0].clone() }];
    assert!(checks::journal(&whole, &other, &whole).to_string().contains("knows no journal"));
    assert_eq!(checks::journal(&whole, &[], &whole).verdict, Verdict::NotApplicable);
    // The next opening leaves a gap; what lay before it may have been stored and deleted.
    let mut second = written(room.path(), 1);
    second.files.retain(|file| file.start.get() > end);
    assert_eq!(check(&second, end).verdict, Verdict::Good);
    assert!(check(&second, end - 1_000).to_string().contains("what is between is missing"));
}

#[test]
fn counters_are_equal_once_or_differ_by_what_stays_or_move_too_fast() {
    let check = |samples: &[(i128, i128)]| checks::identity("decoded", "read = decoded + refused", samples).verdict;
    assert_eq!(check(&[]), Verdict::NotApplicable);
    assert_eq!(check(&[(5, 5)]), Verdict::Good);
    assert_eq!(check(&[(5, 3), (9, 8), (10, 10), (12, 11)]), Verdict::Good);
    assert_eq!(check(&[(5, 4), (9, 8)]), Verdict::Difference);
    assert_eq!(check(&[(5, 4), (9, 6)]), Verdict::NotApplicable);
    let verdicts = [None, Some(0), Some(-1)].map(|error| checks::accounting(error).verdict);
    assert_eq!(verdicts, [Verdict::NotApplicable, Verdict::Good, Verdict::Difference]);
    let buffer = [("udp://[::]:2055".to_owned(), 212_992)];
    assert_eq!(checks::buffers(&buffer, 212_992).verdict, Verdict::Good);
    assert!(checks::buffers(&buffer, 1 << 25).to_string().contains("net.core.rmem_max=33554432"));
    let late = |server| checks::freshness(server, Some(NOW.plus(-DAY)), NOW).verdict;
    assert_eq!((late(true), late(false)), (Verdict::Difference, Verdict::Good));
}

const METRICS: &str = "# HELP flowledger_collector_datagrams Datagrams.\n\
    flowledger_collector_datagrams_total{listener=\"udp://0.0.0.0:2055\"} 10\n\
    flowledger_collector_datagrams_total{listener=\"tcp://0.0.0.0:4739\"} 5\n\
    flowledger_collector_not_allowed_total{listener=\"udp://0.0.0.0:2055\"} 2\n\
    flowledger_collector_not_allowed_total{listener=\"tcp://0.0.0.0:4739\"} 9\n\
    flowledger_journal_datagrams_total 12\nflowledger_journal_dropped_datagrams_total 1\n\
    flowledger_journal_corrupt_records_total 2\nflowledger_journal_untold_datagrams 0\n\
    flowledger_ingest_datagrams_of_earlier_starts_total 0\n\
    flowledger_collector_kernel_drops_total 4\nflowledger_ingest_datagrams_dropped_total 5\n\
    flowledger_ingest_datagrams_total 10\nflowledger_ingest_datagrams_decoded_total 7\n\
    flowledger_ingest_rejected_total{reason=\"too_short\",unit=\"datagrams\"} 3\n\
    flowledger_ingest_rejected_total{reason=\"set_length\",unit=\"sets\"} 8\n\
    flowledger_ingest_flows_decoded_total 70\nflowledger_ingest_flows_stored_total 70\n\
    flowledger_ingest_backlog_bytes 0\nflowledger_ingest_uninterrupted 1\n\
    flowledger_collector_receive_buffer_bytes{listener=\"udp://0.0.0.0:2055\"} 4096\n# EOF\n";

/// Answers one request with `answer`, and gives what was asked.
fn answering(answer: String) -> (std::net::SocketAddr, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1_024];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (address, asked)
}

#[test]
fn the_servers_counters_are_read_and_summed_for_each_identity() {
    let (address, asked) = answering(format!("HTTP/1.1 200 OK\r\n\r\n{METRICS}"));
    let figures = ask(address).unwrap();
    assert!(asked.join().unwrap().starts_with("GET /metrics HTTP/1.0\r\n"));
    assert_eq!(figures.received(), Some((15, 15)));
    assert_eq!(figures.journalled(), Some((12, 12)));
    assert_eq!(figures.decoded(), Some((10, 10)));
    assert_eq!(figures.dropped(), None, "what is damaged may have told of drops");
    assert_eq!(figures.stored(), Some((70, 70)));
    assert_eq!(figures.by_listener("collector_receive_buffer_bytes"), [("udp://0.0.0.0:2055".to_owned(), 4_096)]);
    let (address, asked) =
        answering(METRICS.replace("uninterrupted 1", "uninterrupted 0").replacen("#", "\r\n\r\n#", 1));
    assert_eq!(ask(address).unwrap().stored(), None, "what was not stored is decoded twice");
    asked.join().unwrap();
    for (figure, other, journalled) in [
        ("earlier_starts_total 0", "earlier_starts_total 3", None),
        ("corrupt_records_total 2", "corrupt_records_total 0", Some((12, 10))),
        ("backlog_bytes 0", "backlog_bytes 9", None),
        ("uninterrupted 1", "uninterrupted 0", None),
    ] {
        let figures = Figures::read(&METRICS.replace(figure, other));
        assert_eq!(figures.journalled(), journalled, "{figure}");
    }
    let restarted = METRICS
        .replace("earlier_starts_total 0", "earlier_starts_total 3")
        .replace("records_total 2", "records_total 0");
    assert_eq!(Figures::read(&restarted).journalled(), Some((12, 7)));
    assert_eq!(Figures::read(&restarted).dropped(), Some((5, 5)));
    assert_eq!(
        Figures::read(&restarted.replace("kernel_drops_total 4", "kernel_drops_total 6")).dropped(),
        Some((7, 5))
    );
    // What the journal has no room to tell of is not missing.
    let untold = restarted.replace("kernel_drops_total 4", "kernel_drops_total 6");
    assert_eq!(Figures::read(&untold.replace("untold_datagrams 0", "untold_datagrams 2")).dropped(), None);
    // A pipeline that has not begun has no backlog that it could tell of.
    let unbegun = Figures::read(&restarted.replace("uninterrupted 1", "uninterrupted 0"));
    assert_eq!([unbegun.journalled(), unbegun.dropped(), unbegun.stored()], [None; 3]);
    assert_eq!(Figures::default().decoded(), None);
    let (address, asked) = answering("HTTP/1.1 404 Not Found\r\n\r\nnothing here\n".to_owned());
    assert!(ask(address).unwrap_err().to_string().contains("no Flowledger: \"HTTP/1.1 404 Not Found\""));
    asked.join().unwrap();
    for (listens, reached) in
        [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:1", "[::1]:1"), ("192.0.2.1:5", "192.0.2.1:5")]
    {
        assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap());
    }
}
