//! Reports against a real PostgreSQL and a real mail server, with a clock that the test sets: each period once, whoever
//! sleeps, dies or runs beside.

use crate::support::postgres::TestDatabase;
use crate::support::server::TestServer;
use crate::support::skip;
use chrono::DateTime;
use flowledger::clock::{ManualClock, Timestamp};
use flowledger::flow::segment::Totals;
use flowledger::flow::value::Value;
use flowledger::query::{Completeness, Counted, QueryError, Source, TopAnswer, TopRequest, TopRow, Window};
use flowledger::reports::delivery::{Deliverer, email};
use flowledger::reports::run::Answer;
use flowledger::reports::{Answers, Metrics, Pace, Scheduler, Settings, Surroundings, definitions};
use flowledger::store::reports::{NewRun, RunKey, RunRow, Verdict};
use flowledger::store::{Address, Database};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).unwrap().into()
}

/// Answers every question with one row, and remembers the windows it was asked for.
#[derive(Clone, Default)]
struct Engine {
    asked: Arc<Mutex<Vec<String>>>,
    stale_since: Arc<Mutex<Option<Timestamp>>>,
    /// Flows are gone, so that only this window can be answered.
    only: Arc<Mutex<Option<Window>>>,
}

impl Engine {
    /// How many hours each window had, with the day it began.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Answers for Engine {
    fn top<'a>(&'a self, request: &'a TopRequest) -> Answer<'a> {
        let window = request.window;
        let inner = self.only.lock().unwrap().filter(|only| *only != window);
        if inner.is_some() {
            return Box::pin(async move { Err(QueryError::WindowNotOnHours { inner, outer: window }) });
        }
        let hours = (window.to.micros() - window.from.micros()) / flowledger::clock::HOUR;
        let first = window.from.to_utc().with_timezone(&window.zone).format("%F");
        let bytes = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(format!("{first} {hours} h"));
            asked.len() as u64
        };
        let totals = Totals { bytes, packets: 1, flows: 1 };
        let key = vec![Value::Address("10.0.0.7".parse().unwrap())];
        let stale_since = *self.stale_since.lock().unwrap();
        let completeness = Completeness { exact: stale_since.is_none(), stale_since, ..Completeness::default() };
        let rows = vec![TopRow { key, totals, first_seen: None, last_seen: None }];
        Box::pin(async move {
            // Long enough for another server to come in between.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let (source, counted) = (Source::default(), Counted::default());
            Ok(TopAnswer { rows, totals, groups: 1, completeness, source, counted })
        })
    }
}

/// A database of its own, a directory for reports, and a clock.
struct House {
    database: Database,
    clock: Arc<ManualClock>,
    engine: Engine,
    settings: Settings,
    mailer: Option<email::Settings>,
    pace: Pace,
    place: TempDir,
    own: Option<TestDatabase>,
}

impl Drop for House {
    fn drop(&mut self) {
        let own = self.own.take();
        std::thread::spawn(move || drop(own)).join().unwrap();
    }
}

impl House {
    async fn new(now: &str) -> Self {
        // The support code waits by itself, which it may not do on a thread that already runs the test's tasks.
        let own = tokio::task::spawn_blocking(TestDatabase::create).await.unwrap();
        let database = Database::new(&Address::Url(own.url())).unwrap();
        database.prepare(|_| {}).await.unwrap();
        Self {
            database,
            clock: Arc::new(ManualClock::new(at(now))),
            engine: Engine::default(),
            settings: Settings { name: "weekly".to_owned(), ..Settings::default() },
            mailer: None,
            pace: Pace { first_pause: Duration::ZERO, look_again: Duration::ZERO, ..Pace::default() },
            place: tempfile::tempdir().unwrap(),
            own: Some(own),
        }
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("reports")
    }

    /// One more server on this database.
    fn server(&self) -> Scheduler {
        let local = ["10.0.0.0/8".parse().unwrap()];
        let directory = self.directory();
        let around = Surroundings {
            zone: chrono_tz::Europe::Berlin,
            local: &local,
            directory: &directory,
            mail: self.mailer.is_some(),
        };
        let definitions = definitions(std::slice::from_ref(&self.settings), &around).unwrap();
        let mailer = self.mailer.as_ref().and_then(|settings| email::Mailer::new(settings).unwrap());
        let (database, clock) = (self.database.clone(), self.clock.clone());
        Scheduler::new(definitions, database, self.engine.clone(), Deliverer { mailer }, clock, Metrics::default())
            .with_pace(self.pace)
    }

    async fn run_at(&self, now: &str) {
        self.clock.set(at(now));
        self.server().run_due().await;
    }

    async fn runs(&self) -> Vec<RunRow> {
        self.database.report_runs("weekly").await.unwrap()
    }

    /// Each run's period and state.
    async fn states(&self) -> Vec<String> {
        self.runs().await.iter().map(|run| format!("{} {}", run.period, run.state)).collect()
    }

    fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory()) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".json")).collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_report_tells_of_the_last_week_once_ten_minutes_after_it_is_due() {
    let house = House::new("2026-11-23T01:09:59+01:00").await;
    // The report was due a week earlier too, and that one is what a new report begins with.
    house.server().run_due().await;
    assert_eq!(house.states().await, ["2026-W46 done"]);
    house.run_at("2026-11-23T01:10:00+01:00").await;
    assert_eq!(house.states().await, ["2026-W46 done", "2026-W47 done"]);
    assert_eq!(house.files(), ["weekly_2026-W46.csv", "weekly_2026-W47.csv"]);
    // Again, later in the week, and with the clock set back by an hour and by a week.
    for now in [
        "2026-11-23T01:11:00+01:00",
        "2026-11-29T23:59:59+01:00",
        "2026-11-23T00:30:00+01:00",
        "2026-11-16T09:00:00+01:00",
    ] {
        house.run_at(now).await;
    }
    assert_eq!(house.engine.asked(), ["2026-11-09 168 h", "2026-11-16 168 h"]);
    let csv = fs::read_to_string(house.directory().join("weekly_2026-W47.csv")).unwrap();
    assert_eq!(csv, "rank,dst_ip,bytes,packets,flows,first_seen,last_seen,share\n1,10.0.0.7,2,1,1,,,1.000000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeping_three_weeks_makes_up_three_and_ten_weeks_the_last_four() {
    let house = House::new("2026-08-31T14:00:00+02:00").await;
    house.server().run_due().await;
    house.run_at("2026-09-21T14:00:00+02:00").await;
    let asked = ["2026-08-24 168 h", "2026-08-31 168 h", "2026-09-07 168 h", "2026-09-14 168 h"];
    assert_eq!(house.engine.asked(), asked);
    house.run_at("2026-11-23T14:00:00+01:00").await;
    let states = house.states().await;
    assert_eq!(states[4..9].iter().filter(|state| state.ends_with("skipped")).count(), 5, "{states:?}");
    assert_eq!(states[9..], ["2026-W44 done", "2026-W45 done", "2026-W46 done", "2026-W47 done"]);
    // The autumn week has 169 hours, but it is among the skipped; a run by hand still makes it.
    let outcome = house.server().run_now("weekly", None, false).await.unwrap();
    assert_eq!(outcome.path, house.directory().join("weekly_2026-W47.csv"));
    assert!(house.server().run_now("monthly", None, false).await.unwrap_err().to_string().contains("weekly"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nights_of_daylight_saving_give_one_report_a_day() {
    let mut house = House::new("2026-03-28T00:00:00+01:00").await;
    house.settings.schedule = "30 2 * * *".to_owned();
    house.settings.period = "previous day".to_owned();
    for (name, first, hours, days) in [
        (
            "spring",
            "2026-03-28T00:10:00+01:00",
            72,
            ["2026-03-26 24 h", "2026-03-27 24 h", "2026-03-28 24 h", "2026-03-29 23 h"],
        ),
        (
            "autumn",
            "2026-10-24T00:10:00+02:00",
            74,
            ["2026-10-22 24 h", "2026-10-23 24 h", "2026-10-24 24 h", "2026-10-25 25 h"],
        ),
    ] {
        house.settings.name = name.to_owned();
        house.engine = Engine::default();
        let server = house.server();
        for hour in 0..hours {
            house.clock.set(at(first).plus(hour * flowledger::clock::HOUR));
            server.run_due().await;
        }
        assert_eq!(house.engine.asked(), days);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_make_each_period_once() {
    let house = House::new("2026-08-31T14:00:00+02:00").await;
    let servers = [house.server(), house.server(), house.server()];
    for now in ["2026-08-31T14:00:00+02:00", "2026-09-21T14:00:00+02:00"] {
        house.clock.set(at(now));
        let [one, two, three] = &servers;
        tokio::join!(one.run_due(), two.run_due(), three.run_due());
    }
    let mut asked = house.engine.asked();
    asked.sort();
    assert_eq!(asked, ["2026-08-24 168 h", "2026-08-31 168 h", "2026-09-07 168 h", "2026-09-14 168 h"]);
    assert!(house.runs().await.iter().all(|run| run.state == "done" && run.attempts == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_waits_for_its_flows_but_not_for_ever() {
    let mut house = House::new("2026-11-23T02:00:00+01:00").await;
    *house.engine.stale_since.lock().unwrap() = Some(at("2026-11-22T23:00:00+01:00"));
    // Looking again at once would go round and round, so here the next look is an hour away.
    house.pace.look_again = Duration::from_secs(3600);
    house.server().run_due().await;
    assert!(house.files().is_empty());
    let runs = house.runs().await;
    assert_eq!(runs[0].state, "pending");
    assert!(runs[0].error.as_ref().unwrap().contains("2026-11-22T22:00:00"), "{runs:?}");
    // Waiting longer is not worth it: the report is made and says what it lacks.
    let mut other = House::new("2026-11-23T02:00:00+01:00").await;
    other.engine = house.engine.clone();
    other.pace.patience = Duration::ZERO;
    other.server().run_due().await;
    assert_eq!(other.states().await, ["2026-W47 done"]);
    let manifest = fs::read_to_string(other.directory().join("weekly_2026-W47.json")).unwrap();
    assert!(manifest.contains("\"stale_since\": \"2026-11-22T23:00:00+01:00\""), "{manifest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cuts_hours_whose_flows_are_gone_tells_of_the_others_and_what_it_lacks() {
    let house = House::new("2026-11-23T02:00:00+01:00").await;
    let (from, to) = (at("2026-11-16T00:30:00+01:00"), at("2026-11-22T23:30:00+01:00"));
    *house.engine.only.lock().unwrap() = Some(Window { from, to, zone: chrono_tz::Europe::Berlin });
    house.server().run_due().await;
    assert_eq!(
        (house.states().await, house.engine.asked()),
        (vec!["2026-W47 done".to_owned()], vec!["2026-11-16 167 h".to_owned()])
    );
    let manifest = fs::read_to_string(house.directory().join("weekly_2026-W47.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let lost = serde_json::json!([{"cause": "not_recorded", "unit": "seconds", "count": 3600}]);
    assert_eq!((&told["completeness"]["lost"], &told["completeness"]["exact"]), (&lost, &false.into()), "{manifest}");
    assert_eq!(told["window"]["from"], "2026-11-16T00:00:00+01:00", "{manifest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_lost_can_write_nothing_any_more() {
    let house = House::new("2026-11-23T02:00:00+01:00").await;
    let key = RunKey {
        report: "weekly".to_owned(),
        start: at("2026-11-16T00:00:00+01:00"),
        end: at("2026-11-23T00:00:00+01:00"),
    };
    let run = NewRun { key: key.clone(), period: "2026-W47".to_owned(), due: key.end, skipped: false };
    house.database.record_report_runs(&[run.clone(), run]).await.unwrap();
    let claim = async |owner: &str, lease| house.database.claim_report_run("weekly", owner, lease).await.unwrap();
    let dead = claim("dead", Duration::ZERO).await.unwrap();
    let alive = claim("alive", Duration::from_secs(60)).await.unwrap();
    assert!(claim("third", Duration::from_secs(60)).await.is_none());
    let places = [("email", "net@example.org".to_owned())];
    house.database.report_deliveries(&key, &places).await.unwrap();
    let begin =
        async |claim| house.database.begin_report_delivery(claim, "email", "net@example.org", "id").await.unwrap();
    assert!(!begin(&dead).await && begin(&alive).await);
    // Nor does what it hears late of a mail undo that another server has sent it.
    for state in ["pending", "sent", "pending", "failed"] {
        house.database.end_report_delivery(&key, "email", "net@example.org", state, None).await.unwrap();
    }
    let known = house.database.report_deliveries(&key, &places).await.unwrap();
    assert_eq!(known[0].state, "sent");
    assert!(!house.database.renew_report_claim(&dead, Duration::from_secs(60)).await.unwrap());
    assert!(house.database.renew_report_claim(&alive, Duration::from_secs(60)).await.unwrap());
    house.database.end_report_claim(&dead, &Verdict::Failed("late".to_owned())).await.unwrap();
    assert_eq!(house.states().await, ["2026-W47 running"]);
    house.database.end_report_claim(&alive, &Verdict::Done).await.unwrap();
    assert_eq!(house.states().await, ["2026-W47 done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_scheduler_runs_what_it_slept_through_and_stops_when_asked() {
    let house = House::new("2026-11-23T02:00:00+01:00").await;
    let running = house.server().start().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while house.states().await != ["2026-W47 done"] {
        assert!(Instant::now() < deadline, "{:?}", house.states().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await;
    assert_eq!(house.files(), ["weekly_2026-W47.csv"]);
}

#[test]
fn the_command_works_beside_a_server_that_runs_its_own_postgresql() {
    let server = TestServer::with_private_postgres(&[]);
    let run = |arguments: &[&str]| server.command(&[&["report", "run"], arguments].concat());
    let output = run(&["weekly-top-downloaders", "--week", "2026-W43"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = server.folder().join(told.trim_end());
    assert!(path.ends_with("reports/weekly-top-downloaders_2026-W43.csv"), "{told}");
    let csv = fs::read_to_string(path).unwrap();
    assert_eq!(csv, "rank,dst_ip,bytes,packets,flows,first_seen,last_seen,share\n");
    for (arguments, problem) in [
        (["monthly", "--week", "2026-W43"], "the configured ones are: weekly-top-downloaders"),
        (["weekly-top-downloaders", "--week", "43"], "write it like 2026-W47"),
    ] {
        let output = run(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(problem), "{error}");
    }
}

const MAIL_SERVER_MISSING: &str = "aiosmtpd is missing; install Debian's package python3-aiosmtpd";

/// aiosmtpd, the real mail server, with a mailbox in `directory`.
struct MailServer {
    process: Child,
    port: u16,
    mailbox: PathBuf,
}

impl MailServer {
    /// `None` when aiosmtpd is not installed, which fails where CI is set.
    fn start(directory: &Path) -> Option<Self> {
        // Debian's package is for Debian's Python, which need not be the first in the path.
        let knows = |python: &&str| {
            let asked = Command::new(python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        };
        let Some(python) = ["/usr/bin/python3", "python3"].into_iter().find(knows) else {
            skip(std::thread::current().name().unwrap_or_default(), MAIL_SERVER_MISSING);
            return None;
        };
        let mailbox = directory.join("mailbox");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = Command::new(python)
            .args(["-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{port}"), "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&mailbox)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "aiosmtpd ended before it listened");
            assert!(Instant::now() < deadline, "aiosmtpd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { process, port, mailbox })
    }

    fn mails(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.mailbox.join("new")) else { return Vec::new() };
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mail_settings(port: u16) -> email::Settings {
    email::Settings {
        host: "127.0.0.1".to_owned(),
        port,
        security: "none".to_owned(),
        from: "flowledger@example.org".to_owned(),
        timeout_seconds: 10,
        ..email::Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_once_a_recipient_with_the_bytes_and_name_of_the_first_attempt() {
    let mut house = House::new("2026-11-23T14:00:00+01:00").await;
    let Some(mail) = MailServer::start(house.place.path()) else { return };
    house.settings.deliveries = vec!["file".to_owned(), "email".to_owned()];
    house.settings.recipients = vec!["Net Team <net@example.org>".to_owned(), "boss@example.org".to_owned()];
    // The mail server is away (nobody listens on port 1): the file is dropped, the mails stay due.
    house.pace.first_pause = Duration::from_millis(1500);
    house.mailer = Some(mail_settings(1));
    house.server().run_due().await;
    assert_eq!(house.states().await, ["2026-W47 pending"]);
    assert_eq!(house.files(), ["weekly_2026-W47.csv"]);
    let key = house.runs().await.remove(0).key;
    let named: Vec<_> = house.database.report_deliveries(&key, &[]).await.unwrap();
    let state = |row: &flowledger::store::reports::DeliveryRow| (row.delivery.clone(), row.state.clone(), row.attempts);
    let states: Vec<_> = named.iter().map(state).collect();
    let expected = [("email", "pending"), ("email", "pending"), ("file", "sent")];
    assert_eq!(states, expected.map(|(delivery, state)| (delivery.to_owned(), state.to_owned(), 1)));
    // It comes back, and three servers notice.
    house.mailer = Some(mail_settings(mail.port));
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let servers = [house.server(), house.server(), house.server()];
    let [one, two, three] = &servers;
    tokio::join!(one.run_due(), two.run_due(), three.run_due());
    assert_eq!(house.states().await, ["2026-W47 done"]);
    house.run_at("2026-11-23T15:00:00+01:00").await;
    let mails = mail.mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    assert_eq!(house.engine.asked().len(), 1, "the document is made once");
    let attached = base64(&fs::read(house.directory().join("weekly_2026-W47.csv")).unwrap());
    for row in named.iter().filter(|row| row.delivery == "email") {
        let mine = mails.iter().find(|mail| mail.contains(&format!("X-RcptTo: {}", row.recipient))).unwrap();
        let id = format!("Message-ID: <{}@example.org>", row.message_id.as_ref().unwrap());
        assert!(mine.contains(&id), "{id}: {mine}");
        assert!(mine.replace(['\r', '\n'], "").contains(&attached), "{mine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_mails_only_when_told_and_leaves_the_schedule_alone() {
    let mut house = House::new("2026-11-23T14:00:00+01:00").await;
    let Some(mail) = MailServer::start(house.place.path()) else { return };
    house.mailer = Some(mail_settings(mail.port));
    house.settings.deliveries = vec!["email".to_owned()];
    house.settings.recipients = vec!["net@example.org".to_owned()];
    let span = flowledger::reports::Span::parse(flowledger::reports::Period::Week, "2026-W43").unwrap();
    let outcome = house.server().run_now("weekly", Some(span), false).await.unwrap();
    assert_eq!(outcome.path, house.directory().join("weekly_2026-W43.csv"));
    assert_eq!(house.engine.asked(), ["2026-10-19 169 h"]);
    assert!(mail.mails().is_empty());
    let outcome = house.server().run_now("weekly", Some(span), true).await.unwrap();
    assert_eq!(outcome.mailed, ["net@example.org"]);
    assert_eq!(mail.mails().len(), 1);
    assert!(house.states().await.is_empty());
}

/// Base64 (RFC 4648) without line breaks.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain(&[0, 0]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = LETTERS[bits >> (18 - 6 * place) & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
