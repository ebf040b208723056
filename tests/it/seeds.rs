//! Every committed input of the fuzz targets, through the checks of the fuzz targets.

#[path = "../../fuzz/checks.rs"]
mod checks;

use checks::Target;
use std::path::Path;

/// Carries out all inputs of a target and says how many there are.
fn replay(target: Target, name: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let inputs = std::fs::read_dir(&folder).unwrap();
    inputs
        .map(|input| {
            let path = input.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| checks::decode(target, &bytes));
            assert!(outcome.is_ok(), "{} breaks a promise of the decoder", path.display());
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
        assert!(replay(target, name) >= 10, "{name} has lost its inputs");
    }
}
