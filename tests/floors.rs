//! The rules of the house, checked: which module may import which, where each crate may be used, how files look.
//!
//! A file breaks a rule here and nowhere else: each finding names the file, the line and the rule, and what to do.
//! ARCHITECTURE.md gives the reasons. This test reads source text only; it knows nothing of what the modules do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/`, from the ground up. Imports go down only.
const FLOORS: [&[&str]; 7] = [
    &["clock", "metrics", "pages"],
    &["flow", "journal", "private_postgres"],
    &["archive", "columns", "filter", "store", "wire"],
    &["collect", "ingest", "keep", "query"],
    &["reports"],
    &["api", "dashboard", "export"],
    &["cli", "config", "server", "telemetry", "main"],
];
/// The floor that joins the parts: its modules may import each other, and no other floor imports them.
const TOP: usize = 6;

/// Where a crate may be named: modules of `src/`, or folders and files in them. An empty list: anywhere.
const HOMES: &[(&str, &[&str])] = &[
    ("actix_web", &["api", "dashboard", "server"]),
    ("bzip2", &["archive/nfdump"]),
    ("chrono", &[]),
    ("chrono_tz", &[]),
    ("clap", &["cli"]),
    ("crc32c", &["columns", "journal", "wire"]),
    ("croner", &["reports"]),
    ("csv", &["reports", "api", "export"]),
    ("fastrand", &[]),
    ("figment", &["config"]),
    ("foldhash", &[]),
    ("futures_util", &[]),
    ("ipnetwork", &[]),
    ("lettre", &["reports/delivery"]),
    ("libc", &["cli", "collect", "journal", "pages", "private_postgres"]),
    ("parquet", &["export/parquet"]),
    ("lz4_flex", &["archive/nfdump"]),
    ("pcap_parser", &["archive/capture"]),
    ("pco", &["columns"]),
    ("prometheus_client", &["metrics"]),
    ("rustls", &["cli/simulate", "collect", "server", "reports/delivery"]),
    ("ruzstd", &["archive/nfdump"]),
    ("serde", &[]),
    ("serde_json", &[]),
    ("sha2", &["cli/import", "reports"]),
    ("socket2", &["cli/simulate", "collect"]),
    ("sqlx", &["store"]),
    ("strsim", &["api", "config", "export", "query"]),
    ("thiserror", &[]),
    ("tokio", &[]),
    ("tokio_cron_scheduler", &["reports"]),
    ("tracing", &[]),
    ("tracing_subscriber", &["telemetry"]),
    ("utoipa", &["api", "server"]),
    ("utoipa_actix_web", &["api", "server"]),
    ("utoipa_swagger_ui", &["api", "server"]),
    ("uuid", &[]),
];

/// The only places that may switch on `unsafe`: where the kernel is called.
const UNSAFE_HOMES: &[&str] = &[
    "cli/simulate/socket",
    "collect/socket",
    "pages",
    "private_postgres/account",
    "private_postgres/disk",
    "private_postgres/process",
];

/// A file has fewer lines than this.
const LINES: usize = 500;
/// Names that say nothing about what a file is for.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

/// One piece of code: a name, `::`, or a single other character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The code in `text` without comments, strings and characters.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let end = match skipped(rest) {
            Some(length) => at + length,
            None if rest.starts_with("::") => at + 2,
            None => {
                let word = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
                at + if word > 0 { word } else { rest.chars().next().map_or(1, char::len_utf8) }
            }
        };
        if skipped(rest).is_none() {
            tokens.push(Token { text: &text[at..end], line });
        }
        line += text[at..end].matches('\n').count();
        at = end;
    }
    tokens
}

/// The length of the blank, comment, string or character that `rest` begins with.
fn skipped(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c']).len();
    let body = &rest[prefix.min(1)..];
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let inside = rest.len() - raw.len() + hashes + 1;
            return Some(rest[inside..].find(&close).map_or(rest.len(), |end| inside + end + close.len()));
        }
    }
    if let Some(quoted) = body.strip_prefix('"') {
        return Some(rest.len() - quoted.len() + closing(quoted, '"'));
    }
    if let Some(quoted) = body.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let character = quoted.starts_with('\\') || quoted.chars().nth(1) == Some('\'');
        return character.then(|| rest.len() - quoted.len() + closing(quoted, '\''));
    }
    None
}

/// The length of `text` up to and with the first `quote` that is not escaped.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices() {
        if next == quote && !escaped {
            return at + 1;
        }
        escaped = next == '\\' && !escaped;
    }
    text.len()
}

/// The top-level modules named by paths that begin at `crate`, or at enough `super`s to get there; `depth` is how many
/// modules deep the file's own module is.
fn imports(tokens: &[Token<'_>], depth: usize) -> Vec<(String, usize)> {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if at > 0 && is(at - 1, "::") {
            continue;
        }
        let mut next = at;
        let mut supers = 0;
        if is(at, "crate") && is(at + 1, "::") {
            next = at + 2;
        } else {
            while is(next, "super") && is(next + 1, "::") {
                supers += 1;
                next += 2;
            }
            if supers == 0 || supers < depth {
                continue;
            }
        }
        let mut heads: Vec<Token<'_>> = Vec::new();
        if is(next, "{") {
            let mut nesting = 0;
            for at in next..tokens.len() {
                match tokens[at].text {
                    "{" => nesting += 1,
                    "}" => nesting -= 1,
                    _ if nesting == 1 && matches!(tokens[at - 1].text, "{" | ",") => heads.push(tokens[at]),
                    _ => {}
                }
                if nesting == 0 {
                    break;
                }
            }
        } else {
            heads.extend(tokens.get(next));
        }
        // A test module inside a file lies one deeper, so `super` there may name the file's own items: only names of
        // modules count.
        let known = |name: &str| supers == 0 || floor(name).is_some();
        found.extend(heads.iter().filter(|head| known(head.text)).map(|head| (head.text.to_owned(), head.line)));
    }
    found
}

/// The crates with a home that the code names.
fn crates(tokens: &[Token<'_>]) -> Vec<(&'static str, &'static [&'static str], usize)> {
    let mut found = Vec::new();
    // Whether each open brace continues a path, as in `reports::{csv::head}`, where `csv` is no crate.
    let mut braces: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
        let after = tokens.get(at + 1).map_or("", |after| after.text);
        match token.text {
            "{" => braces.push(before == "::"),
            "}" => {
                braces.pop();
            }
            _ => {}
        }
        let path = after == "::" || (before == "use" && matches!(after, ";" | "as"));
        if !path || before == "::" || before == "." || braces.contains(&true) {
            continue;
        }
        if let Some((name, homes)) = HOMES.iter().find(|(name, _)| *name == token.text) {
            found.push((*name, *homes, token.line));
        }
    }
    found
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Whether the file `path`, as in `reports/delivery/email.rs`, lies in `home`, as in `reports/delivery`.
fn lies_in(path: &str, home: &str) -> bool {
    path.strip_prefix(home).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Findings about imports, crates and `unsafe` in one file of `src/`; `path` is relative to `src/`.
fn check_source(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| findings.push(format!("src/{path}:{line}: {what}"));
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let module = parts.first().copied().unwrap_or_default();
    let tokens = tokens(text);
    if module != "lib" {
        let Some(own) = floor(module) else {
            find(1, format!("module `{module}` has no floor: give it one in tests/floors.rs and ARCHITECTURE.md"));
            return findings;
        };
        for (target, line) in imports(&tokens, parts.len()) {
            match floor(&target) {
                _ if target == module => {}
                None => {
                    find(line, format!("`crate::{target}` is no module with a floor (imports name modules in full)"));
                }
                Some(theirs) if theirs > own => {
                    find(
                        line,
                        format!("`{module}` (floor {own}) imports `{target}` (floor {theirs}): imports go down only"),
                    );
                }
                Some(theirs) if theirs == own && own != TOP => find(
                    line,
                    format!(
                        "`{module}` imports `{target}` of its own floor {own}: they meet through what server.rs joins"
                    ),
                ),
                Some(_) => {}
            }
        }
    }
    for (name, homes, line) in crates(&tokens) {
        if !homes.is_empty() && !homes.iter().any(|home| lies_in(path, home)) {
            find(line, format!("crate `{name}` is used outside its home ({})", homes.join(", ")));
        }
    }
    for pair in
        tokens.windows(3).filter(|pair| matches!(pair[0].text, "allow" | "expect") && pair[2].text == "unsafe_code")
    {
        if !UNSAFE_HOMES.iter().any(|home| lies_in(path, home)) {
            find(
                pair[0].line,
                format!("`unsafe` is allowed only where the kernel is called ({})", UNSAFE_HOMES.join(", ")),
            );
        }
    }
    findings
}

/// Findings about the shape of one file; `path` is relative to the repository.
fn check_shape(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines >= LINES {
        findings.push(format!("{path}:{lines}: {lines} lines; a file has fewer than {LINES}, so split it by purpose"));
    }
    if !text.starts_with("//!") {
        findings
            .push(format!("{path}:1: a file opens with `//!`: what it is, what it promises, what it must not know"));
    }
    for part in path.trim_end_matches(".rs").split('/').filter(|part| EMPTY_NAMES.contains(part)) {
        findings.push(format!("{path}:1: the name `{part}` says nothing; name it for what it does"));
    }
    findings
}

/// The crates in the `[dependencies]` of a manifest, as code names them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_"))).collect()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folder`, with its path relative to the repository.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn report(findings: &[String]) {
    assert!(findings.is_empty(), "the house has {} broken rules:\n{}\n", findings.len(), findings.join("\n"));
}

#[test]
fn modules_import_downwards_and_crates_stay_at_home() {
    let sources = sources("src");
    assert!(sources.len() > 20, "only {} files were found", sources.len());
    let check = |(path, text): &(String, String)| check_source(path.strip_prefix("src/").unwrap(), text);
    let mut findings: Vec<String> = sources.iter().flat_map(check).collect();
    findings.dedup();
    report(&findings);
}

#[test]
fn files_have_one_purpose_that_they_open_with() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(sources);
    report(&all.flat_map(|(path, text)| check_shape(&path, &text)).collect::<Vec<_>>());
}

#[test]
fn every_dependency_has_a_home() {
    let wanted = dependencies(&fs::read_to_string(repository().join("Cargo.toml")).unwrap());
    let housed: BTreeSet<String> = HOMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let homeless: Vec<_> = wanted.difference(&housed).collect();
    let gone: Vec<_> = housed.difference(&wanted).collect();
    assert!(homeless.is_empty(), "give these dependencies a home in tests/floors.rs: {homeless:?}");
    assert!(gone.is_empty(), "these are no dependencies any more, take them out of tests/floors.rs: {gone:?}");
}

#[test]
fn a_broken_rule_is_found_and_named() {
    for (path, text, expected) in [
        (
            "wire/v9.rs",
            "//! x\nuse crate::ingest::Batch;",
            "src/wire/v9.rs:2: `wire` (floor 2) imports `ingest` (floor 3)",
        ),
        (
            "filter/mod.rs",
            "fn f() { crate::store::go() }",
            "src/filter/mod.rs:1: `filter` imports `store` of its own floor",
        ),
        (
            "flow/mod.rs",
            "use crate::{\n    clock,\n    journal::{a, store},\n};",
            "src/flow/mod.rs:3: `flow` imports `journal`",
        ),
        ("flow/batch.rs", "use super::super::query::Engine;", "src/flow/batch.rs:1: `flow` (floor 1) imports `query`"),
        ("clock.rs", "use super::flow::Field;", "src/clock.rs:1: `clock` (floor 0) imports `flow`"),
        ("clock.rs", "use crate::Engine;", "src/clock.rs:1: `crate::Engine` is no module"),
        ("attic.rs", "", "src/attic.rs:1: module `attic` has no floor"),
        (
            "query/mod.rs",
            "#[derive(sqlx::FromRow)]",
            "src/query/mod.rs:1: crate `sqlx` is used outside its home (store)",
        ),
        ("reports/mod.rs", "use lettre as mail;", "crate `lettre` is used outside its home (reports/delivery)"),
        ("wire/mod.rs", "#![allow(unsafe_code)]", "src/wire/mod.rs:1: `unsafe` is allowed only"),
    ] {
        let findings = check_source(path, text);
        assert!(findings.len() == 1 && findings[0].contains(expected), "{text}: {findings:#?}");
    }
    let long = format!("//! x\n{}", "\n".repeat(LINES));
    for (path, text, expected) in [
        ("src/a.rs", long.as_str(), "split it"),
        ("tests/a.rs", "use std::fs;", "opens with"),
        ("src/wire/utils.rs", "//! x", "`utils` says nothing"),
    ] {
        let findings = check_shape(path, text);
        assert!(findings.len() == 1 && findings[0].contains(expected), "{path}: {findings:#?}");
    }
}

#[test]
fn what_only_looks_like_a_broken_rule_is_let_be() {
    for (path, text) in [
        ("store/mod.rs", "use crate::flow::Field;\nuse sqlx::PgPool;"),
        ("cli/serve.rs", "use crate::{config, server};"),
        ("clock.rs", "//! See `crate::flow`.\n/* use crate::flow; */ const A: &str = \"use crate::flow;\";"),
        ("clock.rs", "const A: &str = r#\"\"crate::flow::x\"#; const B: char = '\"'; fn f<'a>(a: &'a str) {}"),
        ("flow/mod.rs", "mod tests { use super::*; }"),
        ("flow/names.rs", "mod tests { use super::super::fields::Field; }"),
        ("query/mod.rs", "use crate::query::csv::head; use crate::query::{csv::tail};"),
        ("reports/delivery/email.rs", "use lettre::Message;"),
        ("reports/delivery.rs", "use lettre::Message;"),
        ("private_postgres/process.rs", "#![allow(unsafe_code)]"),
    ] {
        assert_eq!(check_source(path, text), Vec::<String>::new(), "{text}");
    }
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b = \"1\"\nc = { version = \"2\" }\n\n[dev-dependencies]\nd = \"3\"\n";
    assert_eq!(dependencies(manifest), BTreeSet::from(["a_b".to_owned(), "c".to_owned()]));
}
