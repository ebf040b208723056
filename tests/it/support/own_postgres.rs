//! A PostgreSQL of a test's own, to be stopped, frozen, slowed down and cut off without disturbing other tests.
//!
//! It is durable, as one in production is, and ends with the thread that started it. It runs the programs of the shared
//! server, as the shared server's user.

use super::postgres::{programs, query};
use super::wait_for;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Its TCP port, in whatever network namespace it is.
const PORT: u16 = 5_432;

/// A cluster, and the server on it if it is started.
pub struct OwnPostgres {
    folder: tempfile::TempDir,
    /// Where the programs are, and whom they run as.
    programs: (PathBuf, u32, u32),
    /// The network namespace it runs in, and the address it listens at there.
    network: Option<(String, String)>,
    process: Option<Child>,
}

impl OwnPostgres {
    /// A new cluster, started. It is reached by a unix socket.
    pub fn start() -> Self {
        Self::create(None)
    }

    /// The same in another network namespace, where it also listens at `address`.
    pub fn in_namespace(namespace: &str, address: &str) -> Self {
        Self::create(Some((namespace.to_owned(), address.to_owned())))
    }

    fn create(network: Option<(String, String)>) -> Self {
        let folder = tempfile::Builder::new().prefix("flt-own-").tempdir().unwrap();
        let programs = programs();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder.path(), Some(programs.1), Some(programs.2)).unwrap();
        let mut postgres = Self { folder, programs, network, process: None };
        let data = postgres.data();
        let made = postgres
            .command("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "flowledger", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(data.join("pg_hba.conf"), "local all all trust\nhost all all all trust\n").unwrap();
        postgres.begin();
        query(&postgres.url_of("postgres"), "CREATE DATABASE flowledger");
        postgres
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of PostgreSQL's programs, as the user that may run it. The process is the program's own.
    fn command(&self, program: &str) -> Command {
        let (directory, user, group) = &self.programs;
        let mut command = match &self.network {
            Some((namespace, _)) => {
                let mut command = super::namespaces::command(namespace, "setpriv");
                command.arg("--pdeathsig=KILL");
                command
            }
            None => {
                let mut command = Command::new("setpriv");
                command.arg("--pdeathsig=KILL");
                command
            }
        };
        if super::is_root() {
            command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]);
        }
        command.arg(directory.join(program)).current_dir("/").stdin(Stdio::null());
        command
    }

    /// Starts it when it is down, and waits until it answers.
    pub fn begin(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let address = self.network.as_ref().map_or("", |(_, address)| address.as_str());
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        for setting in [
            &format!("listen_addresses={address}"),
            &format!("port={PORT}"),
            &sockets,
            "max_connections=60",
            "shared_buffers=64MB",
            "max_wal_size=2GB",
            "timezone=UTC",
            "log_destination=stderr",
        ] {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(process);
        wait_for("PostgreSQL to answer", 60, || {
            let ready = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
            ready.lines().nth(7).is_some_and(|state| state.trim() == "ready").then_some(())
        });
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What PostgreSQL logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// How to reach it by its socket.
    pub fn url(&self) -> String {
        self.url_of("flowledger")
    }

    fn url_of(&self, database: &str) -> String {
        let directory: &Path = self.folder.path();
        format!("postgres://flowledger@localhost/{database}?host={}&port={PORT}", directory.display())
    }

    /// How to reach it over the network.
    pub fn network_url(&self) -> String {
        let (_, address) = self.network.as_ref().unwrap();
        format!("postgres://flowledger@{address}:{PORT}/flowledger?sslmode=disable")
    }

    /// Runs one statement and gives the rows, each value as text.
    pub fn query(&self, statement: &str) -> Vec<Vec<Option<String>>> {
        query(&self.url(), statement)
    }

    /// The only value that a statement gives, as a number.
    pub fn number(&self, statement: &str) -> i64 {
        self.query(statement)[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// Changes a setting of the running server.
    pub fn set(&self, setting: &str) {
        self.query(&format!("ALTER SYSTEM SET {setting}"));
        self.query("SELECT pg_reload_conf()");
    }

    /// The processes, the postmaster first.
    pub fn pids(&self) -> Vec<u32> {
        let postmaster = self.process.as_ref().unwrap().id();
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(children).unwrap();
        std::iter::once(postmaster).chain(children.split_whitespace().map(|pid| pid.parse().unwrap())).collect()
    }

    /// Ends it as `pg_ctl stop -m immediate` does: at once, and the next start recovers.
    pub fn end(&mut self) {
        let mut process = self.process.take().unwrap();
        super::signal("QUIT", &[process.id()]);
        wait_for("PostgreSQL to end", 60, || process.try_wait().unwrap());
    }

    /// Stops all its processes where they are; sockets stay open.
    pub fn freeze(&self) {
        // Twice, for what the postmaster began meanwhile.
        super::signal("STOP", &self.pids());
        super::signal("STOP", &self.pids());
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        super::signal("CONT", &self.pids());
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of PostgreSQL:\n{}", self.log());
        }
        if self.process.is_some() {
            self.thaw();
            self.end();
        }
    }
}
