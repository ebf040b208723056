//! Good and bad configurations with what comes of them, and the example file.

use super::*;
use figment::value::Value;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(Path::new("flowledger.toml"), text, variables)
}

fn values(config: &Config) -> Value {
    Value::serialize(config).unwrap()
}

#[test]
fn nothing_configured_is_the_defaults() {
    let loaded = load("", &[("PATH", "/bin"), ("FLOWLEDGER_LOG", "debug")]).unwrap();
    assert_eq!(values(&loaded.config), values(&Config::default()));
    let local: Vec<_> = loaded.config.network.local.iter().map(ToString::to_string).collect();
    assert_eq!(local, ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"]);
    assert_eq!(loaded.config.journal().directory, Path::new("flowledger-data/journal"));
    assert_eq!(loaded.config.private_postgres().directory, Path::new("flowledger-data/postgres"));
    let definitions = loaded.config.definitions().unwrap();
    assert_eq!(definitions[0].name, "weekly-top-downloaders");
    assert_eq!(definitions[0].directory, Path::new("flowledger-data/reports"));
    assert_eq!(loaded.config.storage.place(Path::new("/srv/journal")), Path::new("/srv/journal"));
}

#[test]
fn variables_override_the_file_with_the_type_of_their_key() {
    let text = "[storage]\nflows_days = 3\nsegments_days = 30\n[network]\nlocal = [\"10.0.0.0/8\"]\n";
    let variables = [
        ("FLOWLEDGER__STORAGE__SEGMENTS_DAYS", "45"),
        ("FLOWLEDGER__STORAGE__DATA_DIR", "007"),
        ("FLOWLEDGER__NETWORK__LOCAL", "192.168.0.0/16, 2001:db8::/32"),
        ("FLOWLEDGER__NETWORK__TIMEZONE", "Europe/Berlin"),
        ("FLOWLEDGER__DATABASE__URL", "postgres://flow:1234@db:5432/flows"),
        ("FLOWLEDGER__DATABASE__URL_FILE", ""),
        ("FLOWLEDGER__DATABASE__MEMORY_MIB", "512"),
        ("FLOWLEDGER__SMTP__PASSWORD", "0042"),
        ("FLOWLEDGER__REPORT", "[{name=\"daily\",period=\"previous day\"}]"),
        ("FLOWLEDGER__COLLECTOR__DEFAULT_SAMPLING_INTERVAL", "100"),
        ("FLOWLEDGER__EXPORTER", "[{address=\"10.0.0.0/8\",name=\"core\",sampling_interval=1000}]"),
    ];
    let loaded = load(text, &variables).unwrap();
    let config = &loaded.config;
    assert_eq!((config.storage.flows_days, config.storage.segments_days), (3, 45));
    assert_eq!(config.storage.data_dir, Path::new("007"));
    assert_eq!(config.network.timezone, Tz::Europe__Berlin);
    assert_eq!(config.network.local.len(), 2);
    assert_eq!(config.database.address().unwrap().unwrap().reveal(), "postgres://flow:1234@db:5432/flows");
    assert_eq!(config.database.memory_mib, Some(512));
    assert_eq!(config.smtp.password, email::Secret::from("0042"));
    assert_eq!((config.report.len(), config.report[0].name.as_str()), (1, "daily"));
    let [exporter] = config.exporter.as_slice() else { panic!("{:?}", config.exporter) };
    assert_eq!((exporter.address.prefix(), exporter.name.as_deref()), (8, Some("core")));
    assert_eq!((exporter.sampling_interval, config.collector.default_sampling_interval), (Some(1_000), 100));
    assert_eq!(config.ingest().exporters, ingest::Configured::new(config.exporter.clone(), 100));
    let list = load(text, &[("FLOWLEDGER__NETWORK__LOCAL", "[\"172.16.0.0/12\"]")]).unwrap();
    assert_eq!(list.config.network.local[0].to_string(), "172.16.0.0/12");
}

#[test]
fn every_problem_names_its_key_its_source_and_what_would_be_right() {
    for (text, variables, expected) in [
        (
            "[storage]\nflow_days = 3\n[netwrk]\nlocal = []\n",
            &[("FLOWLEDGER__NETWORK__TIMEZON", "UTC")][..],
            "network.timezon: there is no such setting; did you mean network.timezone? (set by FLOWLEDGER__NETWORK__TIMEZON)\n\
             netwrk: there is no such setting; did you mean network? (set by flowledger.toml)\n\
             storage.flow_days: there is no such setting; did you mean storage.flows_days? (set by flowledger.toml)",
        ),
        (
            "[network]\nsegments_days = 3\n",
            &[],
            "network.segments_days: there is no such setting; did you mean storage.segments_days? (set by flowledger.toml)",
        ),
        (
            "colour = \"red\"\n",
            &[],
            "colour: there is no such setting; flowledger.example.toml lists all (set by flowledger.toml)",
        ),
        (
            "[storage]\nflows_days = \"seven\"\n",
            &[],
            "storage.flows_days: expected a whole number from 0 on, found the text \"seven\" (set by flowledger.toml)",
        ),
        (
            "[storage]\nflows_days = 7\n",
            &[("FLOWLEDGER__STORAGE__FLOWS_DAYS", "a week")],
            "storage.flows_days: expected a whole number from 0 on, found the text \"a week\" (set by FLOWLEDGER__STORAGE__FLOWS_DAYS)",
        ),
        (
            "[network]\ntimezone = \"Europe/Berln\"\nlocale = []\n",
            &[],
            "network.locale: there is no such setting; did you mean network.local? (set by flowledger.toml)\n\
             network.timezone: there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`? (set by flowledger.toml)",
        ),
        (
            "[network]\nlocal = [\"10.0.0.0/33\"]\n",
            &[],
            "network.local.0: invalid address: 10.0.0.0/33 (set by flowledger.toml)",
        ),
        (
            "[database]\nurl = \"postgres://db\"\nurl_file = \"url\"\n[storage]\nsegments_days = 0\nflows_days = 40000\n",
            &[],
            "database.url_file: database.url is set too; keep one of them (set by flowledger.toml)\n\
             storage.flows_days: must be 0 to 36500 days (set by flowledger.toml)\n\
             storage.segments_days: must be 1 to 36500 days (set by flowledger.toml)",
        ),
        (
            "[journal]\nmax_bytes = 5\n[[report]]\nname = \"a\"\n[[report]]\nname = \"b\"\nlimit = 0\n",
            &[],
            "journal: journal settings: max_bytes is 5, but must be at least twice segment_bytes \
             (67108864) and at most 2^50; change it in the section [journal] of the configuration (set by flowledger.toml)\n\
             report.1.limit: 0 is not within 1 to 10000 (in report `b`) (set by flowledger.toml)",
        ),
        (
            "[[report]]\nname = \"a\"\nlimits = 5\nfilter = \"dst port\"\n",
            &[],
            "report.0.limits: there is no such setting; did you mean report.limit? (set by flowledger.toml)\n\
             report.0.filter: byte 8 of the filter: expected a number from 0 to 65535, found the end in \"dst port\" \
             (in report `a`) (set by flowledger.toml)",
        ),
        (
            "[collector]\nmax_connections = 0\n",
            &[],
            "collector: [collector] max_connections is 0, but must be 1 to 65535 (set by flowledger.toml)",
        ),
        ("[[report]]\nlimit = 5\n", &[], "report.0.name: is missing (set by flowledger.toml)"),
        (
            "[collector]\ndefault_sampling_interval = 0\n[[exporter]]\naddress = \"10.0.0.1\"\n\
             [[exporter]]\naddress = \"10.0.0.1/32\"\nsampling_interval = 0\nsampling = 5\n",
            &[],
            "exporter.1.sampling: there is no such setting; flowledger.example.toml lists all (set by flowledger.toml)\n\
             collector.default_sampling_interval: must be 1 or more: out of how many packets one is looked at; 1 means all \
             (set by flowledger.toml)\n\
             exporter.1.address: another exporter has 10.0.0.1/32 already; keep one of them (set by flowledger.toml)\n\
             exporter.1.sampling_interval: must be 1 or more: out of how many packets one is looked at; 1 means all \
             (set by flowledger.toml)",
        ),
        (
            "[[exporter]]\naddress = \"10.0.0.1\"\ncount = \"ingres\"\n",
            &[],
            "exporter.0.count: expected one of all, ingress, egress, none, found `ingres`; did you mean ingress? \
             (set by flowledger.toml)",
        ),
        (
            "[[exporter]]\naddress = \"10.0.0.1\"\ncount_interfaces = []\n",
            &[],
            "exporter.0.count_interfaces: names no interface, so nothing would count; write count = \"none\" if that is \
             meant (set by flowledger.toml)",
        ),
        ("[[exporter]]\nname = \"core-1\"\n", &[], "exporter.0.address: is missing (set by flowledger.toml)"),
        (
            "[[exporter]]\naddress = \"router\"\n",
            &[],
            "exporter.0.address: invalid address: router (set by flowledger.toml)",
        ),
        (
            "[[report]]\nname = \"a\"\ncounters = \"exact\"\n",
            &[],
            "report.0.counters: \"exact\" is not known: write scaled or raw (in report `a`) (set by flowledger.toml)",
        ),
        (
            "",
            &[("FLOWLEDGER__NETWORK__LOCAL", "10.0.0.0/8,here")],
            "network.local.1: invalid address: here (set by FLOWLEDGER__NETWORK__LOCAL)",
        ),
        (
            "[storage]\ndata_dir = 5\n",
            &[("FLOWLEDGER__STORAGE__FLOWS_DAYS", "-1")],
            "storage.data_dir: expected text, found 5 (set by flowledger.toml)",
        ),
        (
            "",
            &[("FLOWLEDGER__STORAGE__FLOWS_DAYS", "-1")],
            "storage.flows_days: expected a whole number from 0 on, found -1 (set by FLOWLEDGER__STORAGE__FLOWS_DAYS)",
        ),
        ("[network]\nlocal = 5\n", &[], "network.local: expected a list, found 5 (set by flowledger.toml)"),
        ("storage = 5\n", &[], "storage: expected a section with keys, found 5 (set by flowledger.toml)"),
    ] {
        let error = load(text, variables).expect_err(text).to_string();
        assert_eq!(error, expected, "{text}");
    }
    let error = load("[storage\n", &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("the configuration file flowledger.toml is not TOML:") && error.contains("line 1"),
        "{error}"
    );
}

#[test]
fn a_named_file_must_exist_and_secrets_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let error = Config::load(Some(&missing), []).unwrap_err().to_string();
    assert!(error.contains("missing.toml cannot be read"), "{error}");
    let (file, secret) = (directory.path().join("here.toml"), directory.path().join("url"));
    std::fs::write(&file, format!("[database]\nurl_file = {:?}\n", secret.display().to_string())).unwrap();
    let database = Config::load(Some(&file), []).unwrap().config.database;
    let error = database.address().unwrap_err().to_string();
    assert!(error.starts_with("database.url_file: the file ") && error.contains("cannot be used"), "{error}");
    std::fs::write(&secret, " \n").unwrap();
    assert!(database.address().unwrap_err().to_string().contains("is empty"));
    std::fs::write(&secret, "postgres://db/flows\n").unwrap();
    assert_eq!(database.address().unwrap(), Some(DatabaseUrl::from("postgres://db/flows")));
    assert_eq!(Database::default().address().unwrap(), None);
}

#[test]
fn what_is_printed_reads_again_names_sources_and_hides_passwords() {
    let text = "[storage]\nflows_days = 3\n[network]\ntimezone = \"Asia/Kathmandu\"\n\
                [[report]]\nname = \"one\"\n[[report]]\nname = \"two\"\nlimit = 7\n\
                [[exporter]]\naddress = \"10.0.0.1\"\nsampling_interval = 50\ncount = \"ingress\"\ncount_interfaces = [3, 4]\n";
    let loaded = load(text, &[("FLOWLEDGER__STORAGE__DATA_DIR", "/srv/\"flow\"")]).unwrap();
    let printed = loaded.to_string();
    for line in [
        "# url =",
        "flows_days = 3  # flowledger.toml",
        "segments_days = 90",
        "data_dir = \"/srv/\\\"flow\\\"\"  # FLOWLEDGER__STORAGE__DATA_DIR",
        "timezone = \"Asia/Kathmandu\"  # flowledger.toml",
        "[[report]]",
        "name = \"two\"  # flowledger.toml",
        "limit = 7  # flowledger.toml",
        "[[exporter]]",
        "address = \"10.0.0.1/32\"  # flowledger.toml",
        "# name =",
        "sampling_interval = 50  # flowledger.toml",
        "count = \"ingress\"  # flowledger.toml",
        "count_interfaces = [3, 4]  # flowledger.toml",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    assert_eq!(values(&load(&printed, &[]).unwrap().config), values(&loaded.config), "{printed}");
    let loaded = load("", &[("FLOWLEDGER__SMTP__PASSWORD", "hunter2")]).unwrap();
    assert!(loaded.to_string().contains("password = \"***\"") && !format!("{loaded} {loaded:?}").contains("hunter2"));
    for (url, masked) in [
        ("postgres://flow:secret@db/flows", "postgres://flow:***@db/flows"),
        ("postgres://flow:s@cr:et@db/flows?a=1&password=secret", "postgres://flow:***@db/flows?a=1&password=***"),
        ("postgres://flow@db/flows?sslmode=require", "postgres://flow@db/flows?sslmode=require"),
        ("postgres:///flows", "postgres:///flows"),
    ] {
        let loaded = load("", &[("FLOWLEDGER__DATABASE__URL", url)]).unwrap();
        assert!(loaded.to_string().contains(&format!("url = \"{masked}\"")), "{loaded}");
        assert!(!format!("{loaded:?}").contains("secret") || !url.contains("secret"), "{loaded:?}");
    }
}

/// The lines of the example with the settings that are commented out put in force.
fn uncommented(example: &str) -> String {
    let setting = |line: &str| {
        let name = line.split_once(" = ").map_or("", |(name, _)| name);
        line.starts_with('[') || !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let lines = example.lines().map(|line| line.strip_prefix("# ").filter(|rest| setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_the_defaults_and_names_every_setting() {
    let example = include_str!("../../flowledger.example.toml");
    let loaded = load(example, &[]).unwrap();
    assert_eq!(values(&loaded.config), values(&Config::default()));
    let all = uncommented(example);
    let given = Figment::from(Toml::string(&all)).extract::<Dict>().unwrap();
    let (mut given, mut known) = (Value::from(given), Config::known_keys());
    assert_eq!(take_unknown_keys(&mut given, &known, &Figment::new()), []);
    assert_eq!(take_unknown_keys(&mut known, &given, &Figment::new()), [], "the example leaves these out");
}
