//! What the dependencies may be: their licences, their origin, and the crates that must not come in, as `deny.toml` says.
//!
//! The same file serves cargo-deny. This test exists because cargo-deny takes many minutes to build and this takes a
//! second; it needs no network. It must not know which crates there are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;
use std::process::Command;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// `None` for the package of this repository.
    source: Option<String>,
    license: Option<String>,
}

/// Whether an SPDX expression can be met with `allowed` licences. `/` is an old way to write OR.
fn permitted(expression: &str, allowed: &[String]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any(&words, allowed)?;
    rest.is_empty().then_some(met)
}

fn any<'a>(words: &'a [&'a str], allowed: &[String]) -> Option<(bool, &'a [&'a str])> {
    let (mut met, mut rest) = all(words, allowed)?;
    while let ["OR", tail @ ..] = rest {
        let (next, tail) = all(tail, allowed)?;
        (met, rest) = (met || next, tail);
    }
    Some((met, rest))
}

fn all<'a>(words: &'a [&'a str], allowed: &[String]) -> Option<(bool, &'a [&'a str])> {
    let (mut met, mut rest) = one(words, allowed)?;
    while let ["AND", tail @ ..] = rest {
        let (next, tail) = one(tail, allowed)?;
        (met, rest) = (met && next, tail);
    }
    Some((met, rest))
}

fn one<'a>(words: &'a [&'a str], allowed: &[String]) -> Option<(bool, &'a [&'a str])> {
    match words {
        ["(", tail @ ..] => match any(tail, allowed)? {
            (met, [")", tail @ ..]) => Some((met, tail)),
            _ => None,
        },
        [name, "WITH", exception, tail @ ..] => {
            Some((allowed.iter().any(|allowed| *allowed == format!("{name} WITH {exception}")), tail))
        }
        ["AND" | "OR" | "WITH" | ")", ..] | [] => None,
        [name, tail @ ..] => Some((allowed.iter().any(|allowed| allowed == name), tail)),
    }
}

fn findings(policy: &Policy, packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for Package { name, version, source, license } in packages {
        let Some(source) = source else { continue };
        let mut find = |what: String| findings.push(format!("{name} {version}: {what}"));
        if policy.bans.deny.iter().any(|ban| ban.name == *name) {
            find(format!("banned; `cargo tree --invert {name}` tells who asks for it"));
        }
        if !policy.sources.allow_registry.iter().any(|registry| source.strip_prefix("registry+") == Some(registry)) {
            find(format!("comes from {source}, which is not in [sources]"));
        }
        match license.as_deref().map(|license| (license, permitted(license, &policy.licenses.allow))) {
            Some((_, Some(true))) => {}
            Some((license, Some(false))) => find(format!("its licence {license} is not in [licenses] allow")),
            Some((license, None)) => find(format!("its licence \"{license}\" is not understood")),
            None => find("it names no licence".to_owned()),
        }
    }
    findings
}

fn policy() -> Policy {
    Figment::from(Toml::file_exact(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml"))).extract().unwrap()
}

#[test]
fn dependencies_are_what_deny_toml_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version=1"])
        .args(["--filter-platform=x86_64-unknown-linux-gnu", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert!(metadata.packages.len() > 100, "only {} packages were found", metadata.packages.len());
    let findings = findings(&policy(), &metadata.packages);
    assert!(findings.is_empty(), "deny.toml does not allow:\n{}\n", findings.join("\n"));
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned()];
    for (expression, expected) in [
        ("MIT", Some(true)),
        ("GPL-3.0-or-later", Some(false)),
        ("MIT/GPL-2.0", Some(true)),
        ("MIT AND GPL-2.0", Some(false)),
        ("GPL-2.0 OR MIT AND Apache-2.0", Some(true)),
        ("(GPL-2.0 OR MIT) AND Apache-2.0", Some(true)),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", Some(false)),
        ("Apache-2.0 WITH LLVM-exception", Some(false)),
        ("Apache-2.0 WITH LLVM-exception OR MIT", Some(true)),
        ("MIT OR", None),
        ("(MIT", None),
        ("MIT Apache-2.0", None),
        ("", None),
    ] {
        assert_eq!(permitted(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn what_is_not_allowed_is_found() {
    let package = |name: &str, source: &str, license: Option<&str>| Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        source: Some(source.to_owned()),
        license: license.map(str::to_owned),
    };
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    for (package, expected) in [
        (package("openssl-sys", registry, Some("MIT")), "banned"),
        (package("a", "git+https://example.org/a", Some("MIT")), "not in [sources]"),
        (package("a", registry, Some("AGPL-3.0-only")), "not in [licenses]"),
        (package("a", registry, None), "names no licence"),
    ] {
        let findings = findings(&policy(), &[package]);
        assert!(findings.len() == 1 && findings[0].contains(expected), "{findings:?}");
    }
}
