//! Upkeep beside others: a day is made while somebody reads, by several servers at once, and has all that its table has.

use crate::support::postgres::{TestDatabase, wait_on};
use flowledger::clock::{Clock, DAY, SystemClock};
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;

#[test]
fn a_day_is_made_while_a_reader_rests_in_a_transaction_and_is_whole() {
    let test = TestDatabase::create();
    let day = SystemClock.now().day().plus(10 * DAY);
    wait_on(async {
        let database = Database::new(&Address::Url(test.url())).unwrap();
        database.prepare(|error| panic!("{error}")).await.unwrap();
        let mut reader = PgConnection::connect(&test.url()).await.unwrap();
        for table in DailyTable::ALL {
            reader.execute("BEGIN").await.unwrap();
            let read = format!("SELECT count(*) FROM {}", table.name());
            reader.execute(sqlx::AssertSqlSafe(read)).await.unwrap();
            let made = tokio::time::timeout(Duration::from_secs(3), database.ensure_day(table, day)).await;
            made.expect("nobody is waited for").unwrap();
            assert_eq!(database.days(table).await.unwrap().last(), Some(&day));
            database.ensure_day(table, day).await.unwrap();
            reader.execute("COMMIT").await.unwrap();
        }
        database.close().await;
    });
    let flat = |statement: String| test.query(&statement).into_iter().flatten().flatten().collect::<Vec<_>>();
    let segments = DailyTable::FlowSegments.partition(day);
    let storage = format!(
        "SELECT DISTINCT attstorage::text FROM pg_attribute \
         WHERE attrelid = '{segments}'::regclass AND atttypid = 'bytea'::regtype AND attnum > 0"
    );
    assert_eq!(flat(storage), ["e"]);
    for (table, indexes) in [(DailyTable::Flows, 1), (DailyTable::FlowSegments, 2)] {
        let list = |table: &str| {
            flat(format!(
                "SELECT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '') || indisprimary || indisvalid \
                 FROM pg_index WHERE indrelid = '{table}'::regclass ORDER BY 1"
            ))
        };
        let made = list(&table.partition(day));
        assert_eq!(made, list(table.name()));
        assert_eq!(made.len(), indexes);
        let columns = |table: &str| {
            flat(format!(
                "SELECT attname || format_type(atttypid, atttypmod) || attnotnull FROM pg_attribute \
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
            ))
        };
        assert_eq!(columns(&table.partition(day)), columns(table.name()));
    }
}

#[test]
fn several_servers_make_the_same_day_at_once() {
    let test = TestDatabase::create();
    wait_on(async {
        let mut servers = Vec::new();
        for _ in 0..4 {
            servers.push(Database::new(&Address::Url(test.url())).unwrap());
        }
        servers[0].prepare(|error| panic!("{error}")).await.unwrap();
        for ahead in 10..20 {
            let day = SystemClock.now().day().plus(ahead * DAY);
            let make = servers.iter().map(|server| server.ensure_day(DailyTable::FlowSegments, day));
            for made in futures_util::future::join_all(make).await {
                made.unwrap();
            }
            assert_eq!(servers[0].days(DailyTable::FlowSegments).await.unwrap().last(), Some(&day));
        }
        for server in servers {
            server.close().await;
        }
    });
}
