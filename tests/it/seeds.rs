//! Every committed input of the fuzz targets, through the checks of the fuzz targets.

#[path = "../../fuzz/checks.rs"]
mod checks;
#[path = "../../fuzz/streams.rs"]
mod streams;

use checks::Target;
use std::panic::RefUnwindSafe;
use std::path::Path;

/// Carries out all inputs of a target and says how many there are.
fn replay(name: &str, check: impl Fn(&[u8]) + RefUnwindSafe) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let inputs = std::fs::read_dir(&folder).unwrap();
    inputs
        .map(|input| {
            let path = input.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| check(&bytes));
            assert!(outcome.is_ok(), "{} breaks a promise", path.display());
        })
        .count()
}

#[test]
fn everything_holds_for_all_committed_inputs() {
    for (target, name) in [
        (Target::NetflowFixed, "netflow_fixed"),
        (Target::NetflowV9, "netflow_v9"),
        (Target::Ipfix, "ipfix"),
        (Target::Sflow, "sflow"),
    ] {
        assert!(replay(name, |input| checks::decode(target, input)) >= 10, "{name} has lost its inputs");
    }
    assert!(replay("framing", streams::frame) >= 8, "framing has lost its inputs");
}
