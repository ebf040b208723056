//! The two halves of the one transaction: batches are loaded beside each other and stored in their turn, each once.

use crate::support::postgres::{TestDatabase, wait_on};
use crate::support::server::TestServer;
use crate::support::traffic;
use flowledger::clock::{Clock, DAY, SystemClock, Timestamp};
use flowledger::columns::Encoder;
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::fields::Field;
use flowledger::store::commit::Batch;
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database, StoreError};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;

const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";

/// A batch of one segment with `bytes` in one flow, from position `start` to the next.
fn batch(now: Timestamp, start: u64, bytes: u64) -> Batch {
    let mut flows = FlowBatch::default();
    flows.add_rows(1);
    flows.column_mut(Field::Received).time_run(0, 1).fill(now.micros());
    flows.column_mut(Field::ExporterId).u32_run(0, 1).fill(1);
    flows.column_mut(Field::InBytes).u64_run(0, 1).fill(bytes);
    let segments = vec![Encoder::new(0).encode(&flows, 0..1).unwrap()];
    Batch { start, end: start + 1, complete_until: now, segments, rows: vec![flows], ..Batch::default() }
}

/// What is stored, as segments and as rows.
fn stored(test: &TestDatabase) -> [Vec<String>; 2] {
    ["SELECT total_bytes::text FROM segment_headers ORDER BY 1", "SELECT in_bytes::text FROM flows ORDER BY 1"]
        .map(|sql| test.query(sql).into_iter().flatten().flatten().collect())
}

/// A database with today's partitions and a new journal, and the id of the journal's first segment.
async fn database(test: &TestDatabase, now: Timestamp) -> (Database, i64) {
    let database = Database::new(&Address::Url(test.url())).unwrap();
    database.prepare(|error| panic!("{error}")).await.unwrap();
    database.ensure_day(DailyTable::Flows, now).await.unwrap();
    database.ensure_open().await.unwrap();
    let first = database.journal_position(JOURNAL).await.unwrap().next_segment;
    (database, first)
}

#[test]
fn loaded_batches_are_stored_in_their_turn_only_and_what_is_dropped_leaves_nothing() {
    let (test, now) = (TestDatabase::create(), SystemClock.now());
    let (one, two, three) = (batch(now, 0, 10), batch(now, 1, 20), batch(now, 2, 30));
    wait_on(async {
        let (database, first) = database(&test, now).await;
        let early = database.load(first + 1, &two).await.unwrap();
        let loaded_one = database.load(first, &one).await.unwrap();
        let refused = database.finish(JOURNAL, &two, early).await;
        assert!(matches!(refused, Err(StoreError::PositionMoved { expected: 1, found: 0, .. })), "{refused:?}");
        let loaded_two = database.load(first + 1, &two).await.unwrap();
        database.finish(JOURNAL, &one, loaded_one).await.unwrap();
        database.finish(JOURNAL, &two, loaded_two).await.unwrap();
        drop(database.load(first + 2, &three).await.unwrap());
        assert_eq!(database.journal_position(JOURNAL).await.unwrap().position, 2);
        database.close().await;
    });
    assert_eq!(stored(&test), [["10", "20"], ["10", "20"]]);
}

#[test]
fn a_batch_whose_answer_was_lost_is_neither_stored_nor_copied_again() {
    let (test, now) = (TestDatabase::create(), SystemClock.now());
    wait_on(async {
        let (database, first) = database(&test, now).await;
        let batch = batch(now, 0, 10);
        let loaded = database.load(first, &batch).await.unwrap();
        database.finish(JOURNAL, &batch, loaded).await.unwrap();
        // With its day gone, copying would fail.
        database.drop_day(DailyTable::Flows, now.day()).await.unwrap();
        assert_eq!(database.commit(JOURNAL, &batch).await.unwrap(), 0);
        // One that was copied before it turned out is taken back.
        database.ensure_day(DailyTable::Flows, now).await.unwrap();
        let again = database.load(first, &batch).await.unwrap();
        assert_eq!(database.finish(JOURNAL, &batch, again).await.unwrap(), 0);
        database.close().await;
    });
    assert_eq!(stored(&test), [vec!["10"], vec![]]);
}

#[test]
fn a_day_of_rows_is_made_before_its_first_flows_only_and_a_batch_can_leave_out_some_of_its_days() {
    let (test, now) = (TestDatabase::create(), SystemClock.now());
    let yesterday = now.plus(-DAY);
    wait_on(async {
        let (database, _) = database(&test, now).await;
        let (days, dropped) = (database.days(DailyTable::Flows).await.unwrap(), yesterday.day());
        // Several begin at once; one that ended before its first commit left a day without flows.
        for _ in 0..2 {
            for written in futures_util::future::join_all((0..4).map(|_| database.ensure_rows(dropped))).await {
                assert!(written.unwrap());
            }
        }
        database.commit(JOURNAL, &batch(yesterday, 0, 10)).await.unwrap();
        assert!(database.ensure_rows(dropped).await.unwrap());
        database.drop_day(DailyTable::Flows, dropped).await.unwrap();
        // What waited for its template makes a batch reach over midnight.
        let (mut two_days, late) = (batch(now, 1, 20), batch(yesterday, 1, 30));
        two_days.rows[0].append(&late.rows[0]);
        two_days.rows[0].append(&batch(now, 1, 40).rows[0]);
        two_days.segments.extend(late.segments);
        assert!(!database.ensure_rows(dropped).await.unwrap());
        assert!(database.commit(JOURNAL, &two_days).await.unwrap_err().lacks_partition());
        two_days.without_rows.insert(dropped);
        database.commit(JOURNAL, &two_days).await.unwrap();
        assert_eq!(database.days(DailyTable::Flows).await.unwrap(), days);
        database.close().await;
    });
    assert_eq!(stored(&test), [vec!["10", "20", "30"], vec!["20", "40"]]);
}

/// Asks again and again until the answer is `expected`.
async fn becomes(connection: &mut PgConnection, statement: &'static str, expected: i64) {
    for _ in 0..400 {
        let answer: i64 = sqlx::query_scalar(statement).fetch_one(&mut *connection).await.unwrap();
        if answer == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("\"{statement}\" did not become {expected}");
}

/// Somebody who lets no batch be finished.
async fn hold(connection: &mut PgConnection) {
    connection.execute("BEGIN").await.unwrap();
    connection.execute("SELECT position FROM journal_positions FOR UPDATE").await.unwrap();
}

#[test]
fn batches_that_wait_are_copied_beside_each_other() {
    const LOADED: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flowledger' \
                          AND datname = current_database() AND backend_xid IS NOT NULL";
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flowledger' \
                           AND datname = current_database() AND wait_event_type = 'Lock'";
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let url = server.database.as_ref().unwrap().url();
    wait_on(async {
        let mut connections = Vec::new();
        for _ in 0..3 {
            connections.push(PgConnection::connect(&url).await.unwrap());
        }
        let [first, second, looker] = connections.get_disjoint_mut([0, 1, 2]).unwrap();
        hold(first).await;
        let sent = traffic::begin(server.collector(), "v9", 20_000, 20_000, 3);
        becomes(looker, WAITING, 1).await;
        // More comes in while the first batch waits. Then it is let through, and the lock is taken again behind it.
        let totals = sent.end();
        let let_through = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            first.execute("ROLLBACK").await.unwrap();
        };
        tokio::join!(hold(second), let_through);
        becomes(looker, LOADED, 2).await;
        second.execute("ROLLBACK").await.unwrap();
        becomes(looker, "SELECT count(*) FROM flows", totals["flows"].as_i64().unwrap()).await;
    });
}
