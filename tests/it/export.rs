//! Exports over a real database: each format sums up to what the API and SQL say, files are whole or not there, memory stays
//! flat.

use crate::rows_equal_answers::{condition, encoded, sampled_flows, store};
use crate::support::postgres::TestDatabase;
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::clock::{SECOND, SharedClock, SystemClock, Timestamp};
use flowledger::export::{self, Destination, ExportRequest, Format};
use flowledger::filter;
use flowledger::query::extract::ExtractRequest;
use flowledger::query::{Engine, Settings, Window};
use flowledger::store::{Address, Database};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FORMATS: [Format; 3] = [Format::Csv, Format::Ndjson, Format::Parquet];

/// A row as its fields that have a value, as text.
type Row = BTreeMap<String, String>;

/// The files below `place`, those of the dot included, as paths within it.
fn files(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(place).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn csv_rows(text: &[u8]) -> Vec<Row> {
    let mut reader = csv::Reader::from_reader(text);
    let head = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        let cells = head.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        cells.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn ndjson_rows(text: &[u8]) -> Vec<Row> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let row = |line: &str| {
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        object.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
    };
    std::str::from_utf8(text).unwrap().lines().map(row).collect()
}

/// What lies below `place` as days of Parquet. Moments are written as in the other formats, in UTC.
fn parquet_rows(place: &Path) -> Vec<Row> {
    let plain = |value: &record::Field| match value {
        record::Field::Null => None,
        record::Field::Str(text) => Some(text.clone()),
        record::Field::TimestampMicros(micros) => {
            Some(Timestamp::from_micros(*micros).to_utc().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        number => Some(number.to_string()),
    };
    let mut rows = Vec::new();
    for file in files(place).iter().filter(|file| file.ends_with(".parquet")) {
        let reader = SerializedFileReader::new(File::open(place.join(file)).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let columns = row.unwrap().into_columns();
            rows.push(columns.iter().filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect::<Row>());
        }
    }
    rows
}

/// What an export to `place` wrote: its rows, and its manifest.
fn read(format: Format, place: &Path, manifest: &Path) -> (Vec<Row>, Value) {
    let rows = match format {
        Format::Csv => csv_rows(&fs::read(place).unwrap()),
        Format::Ndjson => ndjson_rows(&fs::read(place).unwrap()),
        Format::Parquet => parquet_rows(place),
    };
    (rows, serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap())
}

/// Sums over rows: bytes, packets, flows, as exported and with samples multiplied.
fn sums(rows: &[Row]) -> [[u128; 3]; 2] {
    let mut sums = [[0; 3]; 2];
    for row in rows {
        let number = |name: &str, absent: u128| row.get(name).map_or(absent, |text| text.parse().unwrap());
        let interval = number("sampling_interval", 1).max(1);
        let raw = [
            number("in_bytes", 0) + number("out_bytes", 0),
            number("in_packets", 0) + number("out_packets", 0),
            number("aggregated_flows", 1),
        ];
        for index in 0..3 {
            sums[0][index] += raw[index];
            sums[1][index] += raw[index] * if index < 2 { interval } else { 1 };
        }
    }
    sums
}

fn three(totals: &Value) -> [u128; 3] {
    ["bytes", "packets", "flows"].map(|name| totals[name].as_u64().unwrap().into())
}

/// An engine over the database, in this process.
fn engine(url: &str) -> (Engine, SharedClock) {
    let database = Database::new(&Address::Url(url.to_owned())).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    (Engine::new(database, Arc::clone(&clock), Settings::default(), &[]), clock)
}

/// A server with flows of all versions, sampled ones among them.
fn filled(flows: u64) -> TestServer {
    let server = TestServer::start();
    let mut sent = 0;
    for (seed, protocol) in ["v5", "v9", "ipfix"].into_iter().enumerate() {
        let totals = traffic::send(server.collector(), protocol, flows, flows, seed as u64 + 1);
        sent += totals["flows"].as_u64().unwrap();
    }
    server.wait_for_flows(sent);
    store(&server.database.as_ref().unwrap().url(), sampled_flows(&mut fastrand::Rng::with_seed(5)));
    server
}

#[test]
fn every_format_sums_up_to_what_the_api_and_sql_say_for_random_filters() {
    let server = filled(3_000);
    let database = server.database.as_ref().unwrap();
    let hosts: Vec<String> = database
        .query("SELECT DISTINCT host(src_ip) FROM flows ORDER BY 1 LIMIT 400")
        .into_iter()
        .map(|mut row| row[0].take().unwrap())
        .collect();
    let bounds = database.query(
        "SELECT (extract(epoch FROM min(received)) * 1000000)::bigint, (extract(epoch FROM max(received)) * 1000000)::bigint FROM flows",
    );
    let [first, last]: [i64; 2] = [0, 1].map(|index| bounds[0][index].as_deref().unwrap().parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (engine, clock) = runtime.block_on(async { engine(&database.url()) });
    let mut random = fastrand::Rng::with_seed(11);
    let (mut exported, mut scaled_matters) = (0, false);
    for question in 0..10 {
        let (text, sql) =
            if question == 0 { ("any".to_owned(), "true".to_owned()) } else { condition(&mut random, &hosts, 3) };
        let (a, b) = (random.i64(first - SECOND..=last), random.i64(first..=last + SECOND));
        let (from, to) = if question % 3 == 0 { (first, last + 1) } else { (a.min(b), a.max(b) + 1) };
        let (from, to) = (Timestamp::from_micros(from), Timestamp::from_micros(to));
        let path = format!("/api/v1/top?by=dst_ip&limit=1&counters=raw&from={from}&to={to}&filter={}", encoded(&text));
        let answer = server.json(&path);
        let window = format!("received >= '{from}' AND received < '{to}' AND {sql}");
        let counted = database.query(&format!(
            "SELECT count(*), coalesce(sum(coalesce(in_bytes, 0)::numeric + coalesce(out_bytes, 0)), 0), \
             coalesce(sum(coalesce(in_packets, 0)::numeric + coalesce(out_packets, 0)), 0), \
             coalesce(sum(coalesce(aggregated_flows, 1)), 0) FROM flows WHERE {window}"
        ));
        let counted: Vec<u128> = counted[0].iter().map(|text| text.as_deref().unwrap().parse().unwrap()).collect();
        let mut all_rows: Vec<Vec<Row>> = Vec::new();
        for format in FORMATS {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("flows");
            let request = ExportRequest {
                flows: ExtractRequest {
                    window: Window { from, to, zone: chrono_tz::UTC },
                    filter: Some(filter::parse(&text).unwrap()),
                    fields: None,
                },
                format,
                destination: Destination::Path(path.clone()),
                manifest: None,
            };
            let outcome = runtime.block_on(export::run(&engine, &clock, &request)).unwrap();
            let (mut rows, manifest) = read(format, &path, outcome.manifest.as_ref().unwrap());
            let [raw, scaled] = sums(&rows);
            assert_eq!(raw, three(&answer["totals"]), "{format:?} and the API: {text}");
            assert_eq!([rows.len() as u128, raw[0], raw[1], raw[2]], *counted, "{format:?} and SQL: {text}");
            assert_eq!((three(&manifest["totals"]), three(&manifest["scaled_totals"])), (raw, scaled), "{text}");
            assert_eq!(manifest["rows"], rows.len());
            let told: u64 =
                manifest["files"].as_array().unwrap().iter().map(|file| file["rows"].as_u64().unwrap()).sum();
            assert_eq!(told, rows.len() as u64, "{format:?}");
            let (stamp, expected) = (&manifest["completeness"], &answer["completeness"]);
            assert_eq!(stamp["lost"], expected["lost"]);
            assert_eq!(stamp["sampled_flows"], expected["sampled_flows"]);
            assert_eq!(stamp["estimated"], false);
            exported += rows.len();
            scaled_matters |= scaled != raw;
            rows.sort();
            all_rows.push(rows);
        }
        assert!(all_rows[0] == all_rows[1], "CSV and NDJSON have other rows: {text}");
        assert!(all_rows[0] == all_rows[2], "CSV and Parquet have other rows: {text}");
        if question == 0 {
            equals_sql(database, &all_rows[0]);
        }
    }
    assert!(exported > 10_000 && scaled_matters, "too little was exported to prove anything: {exported} rows");
}

/// All rows of the table `flows`, value by value.
fn equals_sql(database: &TestDatabase, rows: &[Row]) {
    let known =
        ["src_ip", "dst_ip", "src_port", "protocol", "in_bytes", "out_bytes", "in_packets", "sampling_interval"];
    let columns: Vec<_> = known
        .iter()
        .map(|name| if name.ends_with("_ip") { format!("host({name})") } else { format!("{name}::text") })
        .collect();
    let mut expected = database.query(&format!("SELECT {} FROM flows", columns.join(", ")));
    let mut found: Vec<Vec<Option<String>>> =
        rows.iter().map(|row| known.iter().map(|name| row.get(*name).cloned()).collect()).collect();
    expected.sort();
    found.sort();
    assert!(found == expected, "{} rows differ from the {} of the table", found.len(), expected.len());
}

#[test]
fn the_command_writes_data_with_its_manifest_and_says_where() {
    let server = filled(1_000);
    let total = server.json("/api/v1/top?last=1h&counters=raw")["totals"]["flows"].as_u64().unwrap();
    let place = server.folder().join("exports");
    fs::create_dir(&place).unwrap();
    for format in ["csv", "ndjson"] {
        let output = format!("exports/flows.{format}");
        let done = server.command(&["export", "--last", "1h", "--format", format, "--output", &output]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("{output}.json\n"));
    }
    let (tz, week) = ("--tz", "Europe/Berlin");
    let done = server.command(&["export", "--last", "24h", tz, week, "--format", "parquet", "-o", "exports/days"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let manifest = String::from_utf8(done.stdout).unwrap();
    let told: Value = serde_json::from_slice(&fs::read(server.folder().join(manifest.trim())).unwrap()).unwrap();
    assert_eq!(told["totals"]["flows"], total);
    assert_eq!(told["flowledger"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["window"]["timezone"], "Europe/Berlin");
    assert_eq!((&told["completeness"]["exact"], &told["filter"]), (&Value::Bool(false), &Value::Null));
    let fields: Vec<_> = told["fields"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(fields.starts_with(&["received", "exporter_id"]) && fields.contains(&"sampling_interval"), "{fields:?}");
    assert!(!fields.contains(&"firewall_event"), "{fields:?}");
    // Days that have no flow have no directory, and what was written is where the manifest says.
    let days = place.join("days");
    let written: Vec<_> = files(&days).into_iter().filter(|file| !file.starts_with('_')).collect();
    let listed: Vec<_> = told["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(written, listed);
    assert!((1..=2).contains(&written.len()), "{written:?}");
    // The same days once more are refused, and nothing is touched.
    let before = files(&days);
    let again = server.command(&["export", "--last", "1h", tz, week, "--format", "parquet", "-o", "exports/days"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("is there already; remove it first"), "{said}");
    assert_eq!(files(&days), before);
    // To standard output, with a manifest elsewhere and fields of one's own.
    let more = ["--fields", "dstip,ibyte", "--output", "-", "--manifest", "exports/m.json"];
    let done = server.command(&[&["export", "--last", "1h", "--format", "csv"], &more[..]].concat());
    assert!(done.stdout.starts_with(b"dst_ip,in_bytes\n"));
    let told: Value = serde_json::from_slice(&fs::read(place.join("m.json")).unwrap()).unwrap();
    assert_eq!(csv_rows(&done.stdout).len() as u64, told["rows"].as_u64().unwrap());
    assert_eq!(told["totals"]["flows"], total, "sums do not depend on the fields that are written");
}

#[test]
fn an_empty_window_has_a_head_no_days_and_a_stamp() {
    let server = TestServer::start();
    let window = ["export", "--from", "2026-01-01", "--to", "2026-01-03"];
    let done = server.command(&[&window[..], &["--format", "csv", "--to-stdout"]].concat());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "received,exporter_id\n");
    let done = server.command(&[&window[..], &["--format", "ndjson", "--to-stdout"]].concat());
    assert_eq!((done.status.success(), done.stdout), (true, Vec::new()));
    let done = server.command(&[&window[..], &["--format", "parquet", "-o", "days"]].concat());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "days/_manifest_2026-01-01_2026-01-03.json\n");
    assert_eq!(files(&server.folder().join("days")), ["_manifest_2026-01-01_2026-01-03.json"]);
    let told = fs::read(server.folder().join("days/_manifest_2026-01-01_2026-01-03.json")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["completeness"]["lost"][0]["cause"], "not_recorded");
    assert_eq!(told["rows"], 0);
}

#[test]
fn what_is_asked_wrongly_is_refused_as_by_the_api() {
    let server = TestServer::start();
    for (arguments, query) in [
        (&["--from", "2026-11-24", "--to", "2026-11-23"][..], "from=2026-11-24&to=2026-11-23"),
        (&["--from", "yesterday"], "from=yesterday"),
        (&["--last", "7x"], "last=7x"),
        (&["--week", "2026-W60"], "week=2026-W60"),
        (&["--week", "2026-W47", "--last", "1d"], "week=2026-W47&last=1d"),
        (&["--last", "1d", "--tz", "Europe/Berln"], "last=1d&tz=Europe/Berln"),
        (&["--last", "1h", "--filter", "dst prot 80"], "last=1h&filter=dst%20prot%2080"),
    ] {
        let command = [&["export", "--format", "csv", "--to-stdout"], arguments].concat();
        let done = server.command(&command);
        let said = String::from_utf8(done.stderr).unwrap();
        let (status, _, body) = server.fetch(&format!("/api/v1/top?{query}"));
        let problem: Value = serde_json::from_str(&body).unwrap();
        let detail = problem["detail"].as_str().unwrap().trim_end_matches('.');
        // The API makes a sentence of it.
        let same = said.trim().to_lowercase().ends_with(&detail.to_lowercase());
        assert!(status == 400 && same && !done.status.success(), "{arguments:?}: {said} {detail}");
        assert!(done.stdout.is_empty(), "{arguments:?}");
    }
    for (arguments, expected) in [
        (&["--format", "csv", "--to-stdout", "--fields", "dts_ip"][..], "did you mean dst_ip?"),
        (&["--format", "parquet", "--to-stdout"], "give --output DIR"),
        (&["--format", "csv", "-o", "/dev/null"], "no regular file"),
        (&["--format", "csv", "-o", "flows.csv", "--manifest", "nowhere/m.json"], "No such file or directory"),
        (&["--format", "csv"], "required"),
        (&["--format", "xml", "--to-stdout"], "possible values: csv, ndjson, parquet"),
    ] {
        let done = server.command(&[&["export"], arguments].concat());
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(expected) && !done.status.success(), "{arguments:?}: {said}");
    }
    assert!(!server.folder().join("flows.csv").exists(), "its manifest has no place");
}

/// Starts an export with the settings of `server`.
fn begin(server: &TestServer, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_flowledger"))
        .args(["export", "--last", "24h"])
        .args(arguments)
        .current_dir(server.folder())
        .env("FLOWLEDGER__DATABASE__URL", server.database.as_ref().unwrap().url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_reader_that_has_had_enough_ends_the_export_quietly() {
    let server = filled(3_000);
    for format in ["csv", "ndjson"] {
        let mut child = begin(&server, &["--format", format, "--to-stdout"]);
        let mut first = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        // Our PostgreSQL is warned of, being a throwaway.
        let quiet = said.lines().all(|line| line.contains(" WARN "));
        assert!(done.status.success() && quiet, "{format}: {} {said}", done.status);
    }
}

#[test]
fn whenever_it_is_stopped_no_half_export_has_its_name() {
    let server = filled(3_000);
    let place = server.folder().join("exports");
    fs::create_dir(&place).unwrap();
    let mut stopped = 0;
    // Signals at ever later moments, until one comes too late. What the process cannot clean up after `kill -9` lies under
    // names with a dot.
    for (signal, format, output) in [
        ("-TERM", "csv", "exports/flows.csv"),
        ("-INT", "parquet", "exports/days"),
        ("-KILL", "csv", "exports/flows.csv"),
        ("-KILL", "parquet", "exports/days"),
    ] {
        for pause in (1..).map(|step| Duration::from_millis(100 * step)) {
            let mut child = begin(&server, &["--format", format, "-o", output]);
            std::thread::sleep(pause);
            Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
            let done = wait_for("the export to end", 30, || child.try_wait().unwrap());
            let left = files(&place);
            let named = left.iter().filter(|file| !file.starts_with('.') && !file.contains("/.")).count();
            // After `kill -9` data may have its name without the manifest, but then it is whole.
            assert!(named == 0 || whole(&place, format), "{signal} {format}: {left:?}");
            assert!(signal == "-KILL" || named == left.len(), "{signal} {format}: {left:?}");
            let all = if done.success() { 2 } else { 0 };
            assert!(named == all || signal == "-KILL" && !done.success(), "{signal} {format}: {left:?}");
            fs::remove_dir_all(&place).unwrap();
            fs::create_dir(&place).unwrap();
            if done.success() {
                break;
            }
            stopped += 1;
        }
    }
    assert!(stopped >= 4, "only {stopped} exports were stopped");
}

/// Whether the data of an export that was killed has all flows.
fn whole(place: &Path, format: &str) -> bool {
    let rows = match format {
        "csv" => csv_rows(&fs::read(place.join("flows.csv")).unwrap()).len(),
        _ => parquet_rows(&place.join("days")).len(),
    };
    rows == 9_000 + 9_000
}

/// The most memory that an export of everything in the database had resident, in KiB.
fn resident(server: &TestServer, arguments: &[&str]) -> u64 {
    let mut child = begin(server, arguments);
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()).unwrap());
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = line.map_or(most, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
        std::thread::sleep(Duration::from_millis(3));
    }
    reader.join().unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    most
}

#[test]
fn memory_does_not_grow_with_the_window() {
    let server = filled(1_000);
    let database = server.database.as_ref().unwrap();
    // Copies of segments under other numbers: what an export holds at a time is reached by the smaller one.
    let multiply = |times: u32| {
        let columns = database.query(
            "SELECT string_agg(attname::text, ', ') FROM pg_attribute WHERE attrelid = 'flow_segments'::regclass \
             AND attnum > 0 AND NOT attisdropped AND attname <> 'segment_id'",
        );
        let columns = columns[0][0].as_ref().unwrap();
        database.query(&format!(
            "INSERT INTO flow_segments (segment_id, {columns}) \
             SELECT least(0, (SELECT min(segment_id) FROM flow_segments)) - row_number() OVER (), {columns} \
             FROM flow_segments_open, generate_series(1, {times}) WHERE segment_id > 0"
        ));
    };
    let times = if std::env::var_os("FLOWLEDGER_LONG_TESTS").is_some() { 400 } else { 60 };
    multiply(40);
    // Few rows are written, so that the test takes seconds; all are read.
    let what = ["--fields", "received,src_ip,in_bytes", "--filter", "sampling_interval > 100"];
    let csv = [&["--format", "csv", "--to-stdout"], &what[..]].concat();
    let parquet = [&["--format", "parquet", "-o", "days"], &what[..]].concat();
    let exports = [csv, parquet];
    let clear = || {
        let _ = fs::remove_dir_all(server.folder().join("days"));
    };
    let before = exports.each_ref().map(|arguments| resident(&server, arguments));
    clear();
    multiply(times);
    let after = exports.each_ref().map(|arguments| resident(&server, arguments));
    clear();
    for ((before, after), arguments) in before.into_iter().zip(after).zip(exports) {
        println!("{before} KiB, then {after} KiB: {arguments:?}");
        assert!(after < before + before / 4, "{before} KiB, then {after} KiB: {arguments:?}");
    }
}
