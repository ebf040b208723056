//! The program under test in a process of its own, with verbs.

use super::identity::differences;
use super::postgres::TestDatabase;
use super::wait_for;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Hands the standard input and output on as a service manager hands on sockets.
const INHERIT: &str = r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$; LISTEN_FDS=2; export LISTEN_PID LISTEN_FDS; exec "$0" "$@""#;

/// The program under test: the one built beside the tests, or another build that `FLOWLEDGER_TEST_PROGRAM` names.
pub fn program() -> String {
    std::env::var("FLOWLEDGER_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_flowledger").to_owned())
}

/// A server, and what is needed to start it again.
pub struct TestServer {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    /// The network namespace it runs in, if not in that of the test.
    namespace: Option<String>,
    /// Sockets that outlive it, if it is to inherit some.
    inherited: Option<(UdpSocket, TcpListener)>,
    process: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// Set when nobody shall read the log any more.
    deaf: Arc<AtomicBool>,
    api: Option<SocketAddr>,
    /// Where flows are received, such as `udp://127.0.0.1:2055`.
    listeners: Vec<String>,
    /// The database, unless the server runs its own PostgreSQL.
    pub database: Option<TestDatabase>,
}

impl TestServer {
    /// A server with a database of its own in the shared PostgreSQL, started and ready.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with settings, each as (`SECTION__KEY`, value).
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let mut server = Self::at_rest(settings);
        server.launch();
        server
    }

    /// The same, not started yet.
    pub fn at_rest(settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create();
        let mut server = Self::prepare(settings);
        server.set("DATABASE__URL", &database.url());
        server.database = Some(database);
        server
    }

    /// The same in another network namespace, with its API and its collector at `address`.
    pub fn in_namespace(namespace: &str, address: &str) -> Self {
        let database = TestDatabase::create();
        let mut server = Self::prepare(&[
            ("API__LISTEN", &format!("{address}:0")),
            ("COLLECTOR__LISTEN", &format!("udp://{address}:0")),
            ("DATABASE__URL", &database.url()),
        ]);
        server.namespace = Some(namespace.to_owned());
        server.database = Some(database);
        server.launch();
        server
    }

    /// The same with sockets that are open before it and after it, as a service manager holds them: for datagrams and for
    /// streams.
    pub fn with_inherited(udp: UdpSocket, tcp: TcpListener, settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create();
        let mut server = Self::prepare(settings);
        server.set("DATABASE__URL", &database.url());
        let (datagrams, streams) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        server.set("COLLECTOR__LISTEN", &format!("udp://{datagrams},tcp://{streams}"));
        server.inherited = Some((udp, tcp));
        server.database = Some(database);
        server.launch();
        server
    }

    /// The same beside a PostgreSQL at `url`, which the test looks after.
    pub fn beside(url: &str, settings: &[(&str, &str)]) -> Self {
        let mut server = Self::prepare(settings);
        server.set("DATABASE__URL", url);
        server.launch();
        server
    }

    /// A server that runs its own PostgreSQL.
    pub fn with_private_postgres(settings: &[(&str, &str)]) -> Self {
        let mut server = Self::prepare(settings);
        server.launch();
        server
    }

    /// Not started yet.
    fn prepare(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("flt-").tempdir().unwrap();
        // PostgreSQL runs as another user when the tests run as root, and must reach its directory.
        make_passable(folder.path());
        let mut environment = BTreeMap::from([
            ("FLOWLEDGER__STORAGE__DATA_DIR".to_owned(), folder.path().join("data").display().to_string()),
            ("FLOWLEDGER__API__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("FLOWLEDGER__COLLECTOR__LISTEN".to_owned(), r#"["udp://127.0.0.1:0"]"#.to_owned()),
        ]);
        for (key, value) in settings {
            environment.insert(format!("FLOWLEDGER__{key}"), (*value).to_owned());
        }
        Self {
            folder,
            environment,
            namespace: None,
            inherited: None,
            process: None,
            log: Arc::default(),
            deaf: Arc::default(),
            api: None,
            listeners: Vec::new(),
            database: None,
        }
    }

    /// The folder the server works in; `data` below it holds its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The journal's directory.
    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("data/journal")
    }

    /// Sets or replaces a setting for the next launch.
    pub fn set(&mut self, key: &str, value: &str) {
        self.environment.insert(format!("FLOWLEDGER__{key}"), value.to_owned());
    }

    /// Starts the process and waits until it says that it is ready. Keeps the collector's ports of an earlier start.
    pub fn launch(&mut self) {
        let ready = self.launch_under(&[]);
        assert!(ready, "the server ended before it was ready:\n{}", self.log());
    }

    /// The same below another program that becomes the server, such as a tracer, with its arguments. Returns whether the
    /// server said that it is ready; otherwise it ended before.
    pub fn launch_under(&mut self, tracer: &[String]) -> bool {
        self.spawn(tracer);
        self.wait_until_said("ready: API")
    }

    /// Starts the process and waits until it answers, be its database there or not.
    pub fn launch_unready(&mut self) {
        self.spawn(&[]);
        let answers = self.wait_until_said("answering on http://");
        assert!(answers, "the server ended before it answered:\n{}", self.log());
    }

    /// Starts the process, below another program if one is named, and waits for nothing.
    pub fn spawn(&mut self, tracer: &[String]) {
        if !self.listeners.is_empty() {
            self.set("COLLECTOR__LISTEN", &self.listeners.join(","));
        }
        self.log.lock().unwrap().clear();
        let program = &program();
        let mut command = match (&self.namespace, &self.inherited) {
            (Some(namespace), _) => super::namespaces::command(namespace, program),
            (None, None) => match tracer {
                [] => Command::new(program),
                [name, arguments @ ..] => {
                    let mut command = Command::new(name);
                    command.args(arguments).arg(program);
                    command
                }
            },
            (None, Some(_)) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", INHERIT]).arg(program);
                shell
            }
        };
        let inherited = self.inherited.as_ref().map(|(udp, tcp)| (udp.try_clone().unwrap(), tcp.try_clone().unwrap()));
        let (stdin, stdout) = match inherited {
            Some((udp, tcp)) => (OwnedFd::from(udp).into(), OwnedFd::from(tcp).into()),
            None => (Stdio::null(), Stdio::null()),
        };
        let mut child = command
            .arg("serve")
            .current_dir(self.folder.path())
            .envs(&self.environment)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        self.deaf = Arc::default();
        let (log, deaf) = (Arc::clone(&self.log), Arc::clone(&self.deaf));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().unwrap().push(line);
                if deaf.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        self.process = Some(child);
    }

    /// Waits for these words in the log, and learns the addresses that it names; false when the process has ended before.
    fn wait_until_said(&mut self, words: &str) -> bool {
        let said = wait_for(words, 90, || {
            let log = self.log.lock().unwrap();
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return Some(Vec::new());
            }
            log.iter().any(|line| line.contains(words)).then(|| log.clone())
        });
        if said.is_empty() {
            return false;
        }
        let api = said.iter().find_map(|line| line.split_once("answering on http://")).unwrap().1;
        self.api = Some(api.split(',').next().unwrap().parse().unwrap());
        let listeners = said.iter().filter(|line| line.contains("collecting "));
        self.listeners = listeners.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
        true
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Sends the process a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let arguments = [format!("-{name}"), self.pid().to_string()];
        assert!(Command::new("kill").args(arguments).status().unwrap().success());
    }

    /// Waits until the process has ended, and tells how.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.process.take().unwrap();
        wait_for("the server to end", 60, || child.try_wait().unwrap())
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Where to send datagrams.
    pub fn collector(&self) -> SocketAddr {
        self.listener("udp")
    }

    /// Where the first listener of a scheme listens.
    pub fn listener(&self, scheme: &str) -> SocketAddr {
        let address = |listener: &String| listener.strip_prefix(scheme)?.strip_prefix("://")?.parse().ok();
        self.listeners.iter().find_map(address).unwrap_or_else(|| panic!("no {scheme} in {:?}", self.listeners))
    }

    /// The API's base address.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api.unwrap())
    }

    /// What the server logged since it was launched.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Closes the other end of the log after its next line.
    pub fn stop_reading_the_log(&self) {
        self.deaf.store(true, Ordering::Release);
    }

    /// Gets a path: status, content type, body.
    pub fn fetch(&self, path: &str) -> (u16, String, String) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut response = agent.get(self.url(path)).call().unwrap_or_else(|error| panic!("GET {path}: {error}"));
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let body = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
        (response.status().as_u16(), kind.unwrap_or_default(), body)
    }

    /// Gets a path that must answer 200 with JSON.
    pub fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.fetch(path);
        assert_eq!(status, 200, "GET {path}: {body}\n{}", self.log());
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a metric, summed over its labels, or over those that contain what follows the name after a blank.
    pub fn metric(&self, name: &str) -> u64 {
        let (_, _, text) = self.fetch("/metrics");
        let (name, label) = name.split_once(' ').unwrap_or((name, ""));
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (bare, labels) = series.split_once('{').unwrap_or((series, ""));
            let wanted = bare.strip_prefix("flowledger_") == Some(name) && labels.contains(label);
            wanted.then(|| value.parse::<f64>().unwrap() as u64)
        });
        values.reduce(|a, b| a + b).unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// Waits until the database holds this many flows, as the API counts them.
    pub fn wait_for_flows(&self, flows: u64) {
        wait_for(&format!("{flows} flows to be stored"), 60, || {
            let stored = self.stored_flows();
            assert!(stored <= flows, "{stored} flows are stored, but only {flows} were sent\n{}", self.log());
            (stored == flows).then_some(())
        });
    }

    /// How many flows of the last day the API knows.
    pub fn stored_flows(&self) -> u64 {
        self.json("/api/v1/top?by=dst_ip&limit=1&last=24h")["totals"]["flows"].as_u64().unwrap()
    }

    /// How much its database says was lost by this cause, over all hours.
    pub fn lost(&self, cause: &str) -> u64 {
        let sum = format!("SELECT coalesce(sum(count), 0)::text FROM loss WHERE cause = '{cause}'");
        self.database.as_ref().unwrap().query(&sum)[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// Checks what must hold in every server that still answers: everything that was received is in one counter.
    fn account(&self) {
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        let metrics = || match agent.get(self.url("/metrics")).call() {
            Err(ureq::Error::Timeout(_)) => panic!("the server does not tell its metrics\n{}", self.log()),
            told => told.ok()?.body_mut().read_to_string().ok(),
        };
        if let Err(difference) = differences(metrics) {
            panic!("the sums of a server at rest differ: {difference}\n{}", self.log());
        }
    }

    /// Kills the process as `kill -9` does.
    pub fn kill(&mut self) {
        let mut child = self.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the process as an administrator does, and checks that it ended well.
    pub fn terminate(&mut self) {
        self.account();
        let mut child = self.process.take().unwrap();
        let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        let status = wait_for("the server to stop", 60, || child.try_wait().unwrap());
        assert!(status.success(), "the server ended with {status}:\n{}", self.log());
    }

    /// Runs another command of the program with the server's settings.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.program(arguments).output().unwrap()
    }

    /// Runs another command of the program under the program that `tracer` begins with.
    pub fn command_under(&self, tracer: &[String], arguments: &[&str]) -> std::process::Output {
        self.prepared(&tracer[0]).args(&tracer[1..]).arg(program()).args(arguments).output().unwrap()
    }

    /// Begins another command of the program with the server's settings. What it says is lost.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        self.program(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.prepared(&program());
        command.args(arguments);
        command
    }

    /// A command in the server's folder, with its settings.
    fn prepared(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).envs(&self.environment).stdin(Stdio::null());
        command
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.process.is_some() && !std::thread::panicking() {
            self.account();
        }
        if let Some(mut child) = self.process.take() {
            if self.database.is_none() {
                // Its PostgreSQL is its child: let it end in order.
                let _ = Command::new("kill").arg(child.id().to_string()).status();
                for _ in 0..1_000 {
                    if matches!(child.try_wait(), Ok(Some(_))) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// Lets other users pass through a directory without listing it.
fn make_passable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
}
