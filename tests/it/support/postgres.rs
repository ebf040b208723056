//! One real PostgreSQL for a run of the tests, and a database of its own for each test.

use flowledger::clock::{Clock, DAY, SystemClock};
use flowledger::private_postgres::{Durability, PrivatePostgres, Settings};
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The shared server. It ends with the test program, because it asked the kernel for that.
fn shared() -> &'static PrivatePostgres {
    static SHARED: OnceLock<PrivatePostgres> = OnceLock::new();
    SHARED.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("flt-postgres-{}", std::process::id()));
        sweep();
        let settings =
            Settings { directory, memory_mib: Some(1_024), durability: Durability::Throwaway, ..Settings::default() };
        let postgres = PrivatePostgres::launch(&settings).unwrap();
        wait_on(postgres.ready()).unwrap();
        postgres
    })
}

/// Where the shared server's programs are, and the user and group it runs as.
pub fn programs() -> (PathBuf, u32, u32) {
    let process = Path::new("/proc").join(shared().pid().unwrap().to_string());
    let owner = std::fs::metadata(&process).unwrap();
    let program = std::fs::read_link(process.join("exe")).unwrap();
    (program.parent().unwrap().to_owned(), owner.uid(), owner.gid())
}

/// Removes clusters of test programs that are gone.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix("flt-postgres-")) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A database that is dropped at the end.
pub struct TestDatabase {
    name: String,
}

fn url(database: &str) -> String {
    let connection = shared().connection();
    let directory = connection.socket_directory.display().to_string();
    format!("postgres://{}@localhost/{database}?host={directory}&port={}", connection.user, connection.port)
}

/// Runs something that waits.
pub fn wait_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn administer(statement: String) {
    // Outside, because the first to ask starts the server.
    let url = url("postgres");
    wait_on(async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    });
}

impl TestDatabase {
    /// An empty database.
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        administer(format!("CREATE DATABASE {name}"));
        Self { name }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        url(&self.name)
    }

    /// Lets nobody in any more and ends all sessions: for the server, the database is away.
    pub fn close(&self) {
        administer(format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name));
        administer(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", self.name));
    }

    /// Lets sessions in again.
    pub fn open(&self) {
        administer(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name));
    }

    /// Makes it what an interrupted `DROP DATABASE` leaves: nobody can ever enter it again.
    pub fn invalidate(&self) {
        administer(format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{}'", self.name));
    }

    /// As if the collector had been installed three days ago, and something had come since: recording began when both were so.
    pub fn record_for_three_days(&self) {
        self.query("UPDATE journal_positions SET created_at = created_at - interval '3 days'");
        wait_on(async {
            let database = Database::new(&Address::Url(self.url())).unwrap();
            let began = SystemClock.now().plus(-3 * DAY);
            database.ensure_day(DailyTable::FlowSegments, began).await.unwrap();
            database.close().await;
        });
    }

    /// Runs one statement and gives the rows, each value as text.
    pub fn query(&self, statement: &str) -> Vec<Vec<Option<String>>> {
        query(&self.url(), statement)
    }
}

/// Runs one statement at a URL and gives the rows, each value as text.
pub fn query(url: &str, statement: &str) -> Vec<Vec<Option<String>>> {
    wait_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(&mut connection).await.unwrap();
        // The simple protocol gives all values as text.
        rows.iter()
            .map(|row| (0..row.len()).map(|index| row.try_get_unchecked::<Option<String>, _>(index).unwrap()).collect())
            .collect()
    })
}

/// A session of the test's own, to hold a transaction open.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
}

impl Session {
    pub fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(PgConnection::connect(url)).unwrap();
        Self { runtime, connection }
    }

    pub fn run(&mut self, statement: &str) {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        self.runtime.block_on(statement.execute(&mut self.connection)).unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            administer(format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}
