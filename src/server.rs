//! Joins the parts: binds, starts in order, stops in reverse.
//!
//! The order is what keeps flows: sockets and journal come first, so that flows are taken in while PostgreSQL still starts,
//! recovers or is away. From then on every part that is at work is watched, whether the others have started or not, and
//! stopping stops whatever there is. This is the only place that knows all parts.

use crate::api;
use crate::clock::SharedClock;
use crate::collect::{self, CollectError, Collector, Endpoint, Inherited};
use crate::config::{Config, ConfigError};
use crate::flow::local::Local;
use crate::ingest::{self, Ingest, IngestError};
use crate::journal::{self, JournalError};
use crate::keep::{self, Keeper};
use crate::metrics::Registry;
use crate::private_postgres::{self, Connection, PrivatePostgres, PrivatePostgresError};
use crate::query::Engine;
use crate::reports::delivery::Deliverer;
use crate::reports::delivery::email::Mailer;
use crate::reports::{self, Scheduler};
use crate::store::{Address, Database, StoreError};
use actix_web::dev::ServerHandle;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinHandle};

/// How often the parts are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long each part that stops behind the receiving ones may take.
const PATIENCE: Duration = Duration::from_secs(35);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be made.
    #[error("the data directory {path} cannot be made: {source}; name another in [storage] data_dir")]
    DataDirectory {
        /// The directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// No PostgreSQL of our own can be run.
    #[error(transparent)]
    PrivatePostgres(#[from] PrivatePostgresError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Flows cannot be brought into the database.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The API cannot be served.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// Reports cannot be scheduled.
    #[error(transparent)]
    Reports(#[from] reports::ReportError),
    /// The configuration names a secret that cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part ended by a defect.
    #[error("{0} has ended although nobody stopped it; start the server again, and report this as a bug")]
    Ended(&'static str),
}

/// Bound, not receiving yet: the journal is ours and the sockets are open, so the kernel already queues datagrams.
pub struct Server {
    config: Config,
    clock: SharedClock,
    reader: journal::Reader,
    pulse: journal::Pulse,
    collector: Collector,
    registry: Registry,
}

/// The server from its first datagram on. Receiving is at work, the rest as far as it has started.
pub struct Running {
    pulse: journal::Pulse,
    collector: collect::Running,
    listeners: Vec<Endpoint>,
    rest: Option<Rest>,
    /// While a PostgreSQL of our own is being made or found.
    launcher: Option<Arc<Mutex<Launcher>>>,
    private_postgres: Option<Arc<PrivatePostgres>>,
    database: Option<Database>,
    api: Option<Api>,
    ingest: Option<Ingest>,
    keeper: Option<Keeper>,
    reports: Option<reports::Running>,
}

/// Makes a PostgreSQL of our own, if there is none, and begins to start it.
type Launcher = JoinHandle<Result<PrivatePostgres, PrivatePostgresError>>;

/// What the parts are made of that have not started yet.
struct Rest {
    config: Config,
    clock: SharedClock,
    reader: journal::Reader,
    registry: Registry,
}

struct Api {
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    address: SocketAddr,
}

impl Server {
    /// Opens the journal and the sockets for flows, but for those that were `inherited`. Nothing runs yet.
    ///
    /// # Errors
    /// What the machine does not give: a directory, a lock, a port.
    pub fn bind(config: Config, inherited: Inherited, clock: SharedClock) -> Result<Self, ServerError> {
        let data_dir = &config.storage.data_dir;
        private_postgres::make_directory(data_dir)
            .map_err(|source| ServerError::DataDirectory { path: data_dir.display().to_string(), source })?;
        let mut registry = Registry::default();
        let (writer, reader) = journal::open(config.journal())?;
        writer.metrics().register(&mut registry);
        let metrics = collect::Metrics::default();
        metrics.register(&mut registry);
        let collector = Collector::bind(&config.collector, inherited, &writer, &clock, &metrics)?;
        Ok(Self { config, clock, reader, pulse: writer.pulse(), collector, registry })
    }

    /// Receives from now on, into the journal.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn receive(self) -> Result<Running, ServerError> {
        let Self { config, clock, reader, pulse, collector, registry } = self;
        Ok(Running {
            pulse,
            listeners: collector.endpoints(),
            collector: collector.start()?,
            rest: Some(Rest { config, clock, reader, registry }),
            launcher: None,
            private_postgres: None,
            database: None,
            api: None,
            ingest: None,
            keeper: None,
            reports: None,
        })
    }
}

/// For how long and how much is kept. Where nothing else is set, a database of our own takes the [`share`] of its disk.
///
/// # Errors
/// When the file with the database's URL cannot be read.
pub fn retention(config: &Config) -> Result<keep::Settings, ServerError> {
    let mut settings = config.storage.keep();
    if config.storage.max_bytes.is_none() && config.database.address()?.is_none() {
        let disk = private_postgres::disk_bytes(&config.private_postgres().directory);
        settings.max_bytes = disk.map(|bytes| share(bytes, config.journal().max_bytes));
    }
    Ok(settings)
}

/// The bytes of a disk of this size that are for flows and totals: 80 %, and less where a full journal and PostgreSQL's log, which
/// are usually on the same disk, would not fit beside them; never less than a quarter.
fn share(disk: u64, journal: u64) -> u64 {
    let beside = journal.saturating_add(private_postgres::MOST_LOG_BYTES);
    (disk / 10).saturating_mul(8).min(disk.saturating_sub(beside)).max(disk / 4)
}

/// The database that is configured, or one of our own, which is started: it is ready when
/// [`PrivatePostgres::ready`] returns.
///
/// # Errors
/// When the URL's file cannot be read, or no PostgreSQL of our own can be run.
pub async fn locate_database(config: &Config) -> Result<(Address, Option<PrivatePostgres>), ServerError> {
    if let Some(url) = config.database.address()? {
        return Ok((Address::Url(url.reveal().to_owned()), None));
    }
    let postgres = launch(config).await.map_err(launcher_ended)??;
    Ok((address_of(&postgres), Some(postgres)))
}

fn launch(config: &Config) -> Launcher {
    let settings = config.private_postgres();
    tracing::info!("no [database] url is set: running a PostgreSQL of our own in {}", settings.directory.display());
    tokio::task::spawn_blocking(move || PrivatePostgres::launch(&settings))
}

fn launcher_ended(_: JoinError) -> ServerError {
    ServerError::Ended("the launcher of PostgreSQL")
}

fn address_of(postgres: &PrivatePostgres) -> Address {
    let Connection { socket_directory, port, user, database } = postgres.connection().clone();
    Address::Socket { directory: socket_directory, port, user, database }
}

impl Running {
    /// Starts the rest in order and returns when the database is ready and flows are being stored.
    ///
    /// # Errors
    /// What waiting cannot mend, and a part that has ended meanwhile.
    pub async fn start(&mut self) -> Result<(), ServerError> {
        let Some(Rest { config, clock, reader, mut registry }) = self.rest.take() else { return Ok(()) };
        let address = match config.database.address()? {
            Some(url) => Address::Url(url.reveal().to_owned()),
            None => self.launch(&config).await?,
        };
        let database = self.database.insert(Database::new(&address)?).clone();
        let engine = Engine::new(database.clone(), Arc::clone(&clock), config.query.clone(), &config.network.local)
            .with_counting(config.counting());

        let ingest_metrics = ingest::Metrics::default();
        ingest_metrics.register(&mut registry);
        let keep_metrics = keep::Metrics::default();
        keep_metrics.register(&mut registry);
        let report_metrics = reports::Metrics::default();
        report_metrics.register(&mut registry);
        let api_metrics = api::Metrics::default();
        api_metrics.register(&mut registry);

        let retention = retention(&config)?;
        let readiness = api::Readiness::default();
        let state = api::State {
            engine: engine.clone(),
            database: database.clone(),
            zone: config.network.timezone,
            max_bytes: retention.max_bytes,
            clock: Arc::clone(&clock),
            readiness: readiness.clone(),
            registry: Arc::new(registry),
            metrics: api_metrics,
        };
        let bound = api::bind(&config.api, state)?;
        let address = bound.address();
        let server = bound.run();
        self.api = Some(Api { handle: server.handle(), server: tokio::spawn(server), address });
        tracing::info!("answering on http://{address}, questions as soon as the database is ready");

        if let Some(postgres) = self.private_postgres.clone() {
            self.watched(async move { postgres.ready().await }).await??;
        }
        self.watched(database.prepare(|error| tracing::warn!("waiting for the database: {error}"))).await??;
        readiness.set_database(true);
        let local = Local::new(&config.network.local);
        let (counting, seen) = (config.counting(), Arc::clone(&clock));
        self.keeper = Some(Keeper::start(retention, local, counting, database.clone(), seen, keep_metrics));
        let rows = config.storage.flows_days > 0;
        let told = readiness.clone();
        self.ingest = Some(Ingest::start(
            config.ingest(),
            rows,
            reader,
            database.clone(),
            Arc::clone(&clock),
            ingest_metrics,
            move |runs| told.set_ingest(runs),
        )?);
        let deliverer = Deliverer { mailer: Mailer::new(&config.smtp)? };
        let scheduler = Scheduler::new(config.definitions()?, database, engine, deliverer, clock, report_metrics);
        self.reports = Some(self.watched(scheduler.start()).await??);
        let ready = async {
            while readiness.missing().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.watched(ready).await
    }

    /// Begins to start a PostgreSQL of our own and tells where it will be reached.
    async fn launch(&mut self, config: &Config) -> Result<Address, ServerError> {
        let launcher = Arc::new(Mutex::new(launch(config)));
        // Kept, so that stopping finds what it makes even if nobody waits here any more.
        self.launcher = Some(Arc::clone(&launcher));
        let launched = self.watched(async move { (&mut *launcher.lock().await).await }).await?;
        self.launcher = None;
        let postgres = launched.map_err(launcher_ended)??;
        let address = address_of(&postgres);
        self.private_postgres = Some(Arc::new(postgres));
        Ok(address)
    }

    /// What `work` gives, unless a part ends before.
    async fn watched<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ServerError> {
        tokio::select! {
            done = work => Ok(done),
            error = self.failed() => Err(error),
        }
    }

    /// Where the API listens, once it does.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|api| api.address)
    }

    /// Where flows are received.
    pub fn listeners(&self) -> &[Endpoint] {
        &self.listeners
    }

    /// Returns when a part has ended that should run for ever, with its name or the reason.
    pub async fn failed(&mut self) -> ServerError {
        loop {
            match &mut self.api {
                None => tokio::time::sleep(LOOK).await,
                Some(api) => {
                    if tokio::time::timeout(LOOK, &mut api.server).await.is_ok() {
                        return ServerError::Ended("the API");
                    }
                }
            }
            if let Some(postgres) = self.private_postgres.as_ref().filter(|postgres| postgres.is_finished()) {
                return postgres.failure().into();
            }
            if let Some(part) = self.ended() {
                return ServerError::Ended(part);
            }
        }
    }

    /// The name of a part that has ended, but the API and PostgreSQL.
    fn ended(&self) -> Option<&'static str> {
        [
            (self.collector.is_finished(), "a listener of the collector"),
            (self.pulse.has_ended(), "flushing the journal"),
            (self.ingest.as_ref().is_some_and(Ingest::is_finished), "storing flows"),
            (self.keeper.as_ref().is_some_and(Keeper::is_finished), "upkeep"),
            (self.reports.as_ref().is_some_and(reports::Running::is_finished), "running reports"),
        ]
        .into_iter()
        .find_map(|(ended, part)| ended.then_some(part))
    }

    /// Stops in order and waits for each part: what was received is stored, or stays in the journal.
    pub async fn stop(self) {
        let Self { collector, rest, launcher, mut private_postgres, database, api, ingest, keeper, reports, .. } = self;
        let stopped = tokio::task::spawn_blocking(move || {
            collector.stop();
            if let Some(ingest) = ingest {
                ingest.stop();
            }
        });
        if stopped.await.is_err() {
            tracing::error!("receiving or storing flows ended by a defect");
        }
        drop(rest);
        if let Some(reports) = reports {
            in_time("running reports", reports.stop()).await;
        }
        if let Some(keeper) = keeper {
            in_time("upkeep", keeper.stop()).await;
        }
        if let Some(api) = api {
            in_time("answering", api.handle.stop(true)).await;
        }
        if let Some(database) = database {
            in_time("the end of all sessions", database.close()).await;
        }
        if let Some(launcher) = launcher {
            let mut launcher = launcher.lock().await;
            if !launcher.is_finished() {
                tracing::info!("PostgreSQL is still being made: stopping it when it is");
            }
            // One that could not be made needs no stopping.
            private_postgres = (&mut *launcher).await.ok().and_then(Result::ok).map(Arc::new);
        }
        if let Some(postgres) = private_postgres
            && tokio::task::spawn_blocking(move || postgres.stop()).await.is_err()
        {
            tracing::error!("stopping PostgreSQL ended by a defect");
        }
    }
}

/// Waits for the end of a part that may wait for a database that is gone without a word: a session that comes back to the pool is
/// asked once more by sqlx, without a limit. Nothing is lost with it: what a part does that stops behind all that was received is
/// done in a transaction, or gone on with at the next start.
async fn in_time(part: &str, end: impl Future<Output = ()>) {
    if tokio::time::timeout(PATIENCE, end).await.is_err() {
        tracing::warn!("{part} has not ended within {} s and is given up", PATIENCE.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn flows_leave_room_for_the_journal_and_the_log_of_the_database() {
        const GIB: u64 = 1 << 30;
        assert_eq!(share(100 * GIB, 4 * GIB), 100 * GIB / 10 * 8);
        assert_eq!(share(20 * GIB, 4 * GIB), 12 * GIB);
        assert_eq!(share(8 * GIB, 4 * GIB), 2 * GIB);
    }
}
