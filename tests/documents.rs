//! What documents say about tests and reasons is so: each test they name exists, and each reason is told.
//!
//! Reads source text and pages only. It cannot say whether a test holds what the page says; the test's name should.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The tests that a page names as file and function, such as `it/hostile.rs::texts_are_clean`.
fn named(page: &str) -> Vec<(&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| text.split_once("::")).filter(|(file, _)| file.ends_with(".rs")).collect()
}

/// Whether `source` has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let found = lines.iter().position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(&head));
    // Attributes, if there are more than one, stand together.
    found.is_some_and(|at| {
        let above = lines.get(..at).unwrap_or_default().iter().rev();
        above.take_while(|line| line.starts_with("#[")).any(|line| line.ends_with("test]"))
    })
}

/// What is wrong with the tests that `page` names.
fn missing(page: &str) -> Vec<String> {
    let problem = |(file, name): (&str, &str)| {
        let Some(source) = read(&format!("src/{file}")).or_else(|| read(&format!("tests/{file}"))) else {
            return Some(format!("there is no file {file} in src/ or tests/"));
        };
        (!has_test(&source, name)).then(|| format!("{file} has no test {name}"))
    };
    named(page).into_iter().filter_map(problem).collect()
}

#[test]
fn tests_that_the_page_about_bad_input_names_exist() {
    let page = read("docs/bad-input.md").unwrap();
    assert!(named(&page).len() > 80, "{} tests are named", named(&page).len());
    let missing = missing(&page);
    assert!(missing.is_empty(), "docs/bad-input.md:\n{}", missing.join("\n"));
}

#[test]
fn every_reason_of_the_decoder_stands_in_the_page_about_bad_input() {
    let page = read("docs/bad-input.md").unwrap();
    let source = read("src/wire/reason.rs").unwrap();
    let table = source.split_once("\nreasons! {\n").unwrap().1.split_once("\n}\n").unwrap().0;
    let names: Vec<_> = table.lines().filter_map(|row| row.split('"').nth(1)).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/bad-input.md says nothing of `{name}`");
    }
}

#[test]
fn a_test_or_file_that_is_not_there_is_found() {
    let page = "`documents.rs::a_test_or_file_that_is_not_there_is_found` `documents.rs::missing` `it/nothing.rs::at_all` `a::b`";
    let expected = ["documents.rs has no test missing", "there is no file it/nothing.rs in src/ or tests/"];
    assert_eq!(missing(page), expected);
}
