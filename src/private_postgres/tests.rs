//! The launcher with the real PostgreSQL of this machine: started, stopped, killed, taken over. Works as root and not.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory the server's user can reach, gone at the end.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn settings(place: &Path) -> Settings {
    Settings { directory: place.join("postgres"), durability: Durability::Throwaway, ..Settings::default() }
}

/// A server that accepts connections.
fn start(settings: &Settings) -> Result<PrivatePostgres, PrivatePostgresError> {
    let postgres = PrivatePostgres::launch(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(postgres.ready()).map(|()| postgres)
}

/// Runs `sql` with psql and returns what it prints.
fn ask(postgres: &PrivatePostgres, sql: &str) -> Result<String, String> {
    let Connection { socket_directory, port, user, database } = postgres.connection();
    let psql = Search::default().find(None, None).unwrap().program("psql");
    let output = Command::new(psql)
        .args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-Atq", "-U", user, "-d", database, "-c", sql])
        .args(["-p", &port.to_string(), "-h"])
        .arg(socket_directory)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, tail)| !tail.trim_start().starts_with('Z'))
}

/// A server on the cluster that no launcher looks after, as one left behind by a kill.
fn unattended(place: &Path) -> std::process::Child {
    let account = Account::choose().unwrap();
    let data = fs::canonicalize(place.join("postgres/data")).unwrap();
    let postgres = Search::default().find(None, None).unwrap().program("postgres");
    let mut server = process::command(&postgres, &account);
    server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c"]);
    server.arg(format!("unix_socket_directories={}", data.display()));
    let server = server.stderr(Stdio::null()).spawn().unwrap();
    eventually("the unattended server is ready", || leftover::is_ready(&data, server.id()));
    server
}

#[test]
fn it_keeps_data_through_a_stop_and_a_start() {
    let place = place();
    let settings = Settings { durability: Durability::Full, ..settings(place.path()) };
    let postgres = start(&settings).unwrap();
    assert_eq!(ask(&postgres, "SELECT current_database() || ' ' || current_user").unwrap(), "flowledger flowledger");
    for (name, value) in [
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("wal_level", "minimal"),
    ] {
        assert_eq!(ask(&postgres, &format!("SHOW {name}")).unwrap(), value, "{name}");
    }
    ask(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").unwrap();
    let pid = postgres.pid().unwrap();
    let sockets = postgres.connection().socket_directory.clone();
    postgres.stop();
    assert_eq!(postgres.status(), Status::Stopped);
    assert!(!alive(pid) && !sockets.exists());
    postgres.stop();

    let postgres = start(&settings).unwrap();
    assert_eq!(postgres.connection().socket_directory, sockets);
    assert_eq!(ask(&postgres, "SELECT answer FROM kept").unwrap(), "42");
    let pid = postgres.pid().unwrap();
    drop(postgres);
    assert!(!alive(pid));
}

#[test]
fn nobody_but_our_users_gets_in() {
    let place = place();
    let postgres = start(&settings(place.path())).unwrap();
    let account = Account::choose().unwrap();
    for private in [postgres.connection().socket_directory.clone(), place.path().join("postgres/data")] {
        let metadata = fs::metadata(&private).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o700, account.server.uid), "{}", private.display());
    }
    let process = fs::metadata(format!("/proc/{}", postgres.pid().unwrap())).unwrap();
    assert_eq!(process.uid(), account.server.uid);
    assert_eq!(ask(&postgres, "SELECT count(*) FROM pg_hba_file_rules").unwrap(), "1");
    assert_eq!(ask(&postgres, "SELECT count(*) FROM pg_ident_file_mappings WHERE error IS NULL").unwrap(), "2");
    ask(&postgres, "CREATE ROLE stranger LOGIN").unwrap();
    let stranger = Connection { user: "stranger".to_owned(), ..postgres.connection().clone() };
    let stranger = PrivatePostgres { connection: stranger, board: Arc::new(Board::new()), running: Mutex::new(None) };
    let refused = ask(&stranger, "SELECT 1").unwrap_err();
    assert!(refused.contains("no pg_hba.conf entry"), "{refused}");
}

#[test]
fn a_killed_server_is_started_again_with_its_data() {
    let place = place();
    let postgres = start(&settings(place.path())).unwrap();
    ask(&postgres, "CREATE TABLE kept AS SELECT 42 AS answer").unwrap();
    for _ in 0..7 {
        let pid = postgres.pid().unwrap();
        process::signal(pid, process::Signal::Kill).unwrap();
        eventually("a new server is ready", || postgres.pid().is_some_and(|new| new != pid));
        assert_eq!(ask(&postgres, "SELECT answer FROM kept").unwrap(), "42");
    }
}

#[test]
fn a_second_launcher_on_the_same_directory_is_refused() {
    let place = place();
    let postgres = start(&settings(place.path())).unwrap();
    let error = start(&settings(place.path())).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(ask(&postgres, "SELECT 1").unwrap(), "1");
}

#[test]
fn a_running_server_is_found_by_its_directory_while_it_runs() {
    let place = place();
    let settings = settings(place.path());
    assert_eq!(find_running(&settings), None);
    let postgres = start(&settings).unwrap();
    assert_eq!(find_running(&settings).as_ref(), Some(postgres.connection()));
    postgres.stop();
    assert_eq!(find_running(&settings), None);
}

#[test]
fn a_server_left_behind_is_stopped_and_replaced() {
    let place = place();
    drop(start(&settings(place.path())).unwrap());
    // The thread that starts a child must outlive it, and this one does.
    let mut left = unattended(place.path());
    let postgres = start(&settings(place.path())).unwrap();
    assert!(!alive(left.id()));
    assert_eq!(ask(&postgres, "SELECT 1").unwrap(), "1");
    left.wait().unwrap();
}

#[test]
fn a_dead_server_that_nobody_collected_is_no_obstacle() {
    let place = place();
    drop(start(&settings(place.path())).unwrap());
    let mut left = unattended(place.path());
    process::signal(left.id(), process::Signal::Kill).unwrap();
    eventually("it is dead", || !alive(left.id()));
    // Its number is still taken, and postmaster.pid still names it, because we did not collect it.
    let guard = leftover::guard(&place.path().join("postgres/data"));
    assert!(guard.exists() && Path::new(&format!("/proc/{}", left.id())).exists());
    let postgres = start(&settings(place.path())).unwrap();
    assert_eq!(ask(&postgres, "SELECT 1").unwrap(), "1");
    left.wait().unwrap();
}

#[test]
fn a_number_that_went_to_another_process_is_no_obstacle_and_that_process_lives() {
    let place = place();
    drop(start(&settings(place.path())).unwrap());
    let account = Account::choose().unwrap();
    let mut other = process::command(Path::new("/bin/sleep"), &account).arg("60").spawn().unwrap();
    fs::write(leftover::guard(&place.path().join("postgres/data")), format!("{}\n", other.id())).unwrap();
    let postgres = start(&settings(place.path())).unwrap();
    assert_eq!(ask(&postgres, "SELECT 1").unwrap(), "1");
    assert!(alive(other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "started by a_killed_launcher_leaves_nothing_in_the_way"]
fn launcher_to_be_killed() {
    let place = std::env::var_os("FLOWLEDGER_TEST_PLACE").unwrap();
    let postgres = start(&settings(Path::new(&place))).unwrap();
    ask(&postgres, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer").unwrap();
    println!("server {}", postgres.pid().unwrap());
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_launcher_leaves_nothing_in_the_way() {
    let place = place();
    for _ in 0..3 {
        let mut launcher = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "private_postgres::tests::launcher_to_be_killed", "--ignored", "--nocapture"])
            .env("FLOWLEDGER_TEST_PLACE", place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(launcher.stdout.take().unwrap()).lines().map(Result::unwrap);
        let server: u32 =
            lines.find_map(|line| Some(line.rsplit_once("server ")?.1.parse().unwrap())).expect("it starts a server");
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        let postgres = start(&settings(place.path())).unwrap();
        assert!(!alive(server));
        assert_eq!(ask(&postgres, "SELECT answer FROM kept").unwrap(), "42");
    }
}

#[test]
fn an_unfinished_cluster_is_made_anew_and_a_strange_one_left_alone() {
    let place = place();
    let directory = place.path().join("postgres");
    fs::create_dir_all(directory.join("data.tmp/base")).unwrap();
    fs::create_dir_all(directory.join("data")).unwrap();
    let postgres = start(&settings(place.path())).unwrap();
    assert_eq!(ask(&postgres, "SELECT 1").unwrap(), "1");
    assert!(!directory.join("data.tmp").exists());
    drop(postgres);

    fs::remove_file(directory.join("data/PG_VERSION")).unwrap();
    let error = start(&settings(place.path())).unwrap_err();
    assert!(matches!(error, PrivatePostgresError::NotACluster { .. }), "{error}");
}

#[test]
fn a_server_that_cannot_start_is_given_up_with_the_end_of_its_log() {
    let place = place();
    drop(start(&settings(place.path())).unwrap());
    fs::write(place.path().join("postgres/data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let error = start(&settings(place.path())).unwrap_err().to_string();
    assert!(error.contains("5 times in a row") && error.contains("no_such_setting"), "{error}");
    // The lock is free again.
    let error = start(&settings(place.path())).unwrap_err();
    assert!(matches!(error, PrivatePostgresError::KeepsFailing { .. }), "{error}");
}

#[test]
fn a_server_that_was_ready_once_is_never_given_up() {
    let place = place();
    let postgres = start(&settings(place.path())).unwrap();
    let configuration = place.path().join("postgres/data/postgresql.conf");
    let good = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, "no_such_setting = 1\n").unwrap();
    process::signal(postgres.pid().unwrap(), process::Signal::Kill).unwrap();
    let log = place.path().join("postgres/postgres.log");
    eventually("it failed more often than a first start may", || {
        fs::read_to_string(&log).unwrap().matches("FATAL:  configuration file").count() > 5
    });
    assert_eq!((postgres.status(), postgres.is_finished()), (Status::Starting, false));
    fs::write(&configuration, good).unwrap();
    eventually("it is ready again", || postgres.pid().is_some());
    assert_eq!(ask(&postgres, "SELECT 1").unwrap(), "1");
    postgres.stop();
    assert!(postgres.is_finished());
}

#[test]
fn a_place_the_servers_user_cannot_reach_is_named() {
    if !Account::choose().unwrap().switches() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = start(&settings(place.path())).unwrap_err().to_string();
    assert!(error.contains(&format!("chmod o+x {}", place.path().display())), "{error}");
}

#[test]
fn directories_are_made_closed_to_others_and_existing_ones_left_alone() {
    let place = place();
    make_directory(&place.path().join("data/deeper")).unwrap();
    let mode = |path: &str| fs::metadata(place.path().join(path)).unwrap().mode() & 0o777;
    let expected = if account::our_uid() == 0 { 0o711 } else { 0o700 };
    assert_eq!([mode("data"), mode("data/deeper")], [expected; 2]);
    make_directory(place.path()).unwrap();
    assert_eq!(mode(""), 0o755);
}

#[test]
fn settings_are_read_with_defaults_and_without_strangers() {
    let read = |text| serde_json::from_str::<Settings>(text);
    assert_eq!(read("{}").unwrap(), Settings::default());
    assert_eq!(read(r#"{"binaries": "/x"}"#).unwrap().binaries, Some(PathBuf::from("/x")));
    assert!(read(r#"{"durability": "Throwaway"}"#).is_err());
}
