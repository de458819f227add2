//! The short form of `make simulate`, and what makes its word worth something.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use appxmpp_simulator::{RARE_THINGS, rare_things, run};

/// In the profile of the tests, which is the slow one; `make test-simulator` runs many more.
const SCENARIOS: u64 = 1000;

#[test]
fn no_invariant_is_broken_and_every_fault_happens() {
    let mut seen = [0; RARE_THINGS];
    for seed in 1..=SCENARIOS {
        let report = run(seed, false);
        assert_eq!(report.violation, None, "replay it with: make simulate-trace SEED={seed}");
        for (sum, number) in seen.iter_mut().zip(report.seen) {
            *sum += number;
        }
    }
    for (name, number) in rare_things().into_iter().zip(seen) {
        assert!(number > 0, "in {SCENARIOS} scenarios there were no {name}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let mut hashes = std::collections::HashSet::new();
    for seed in 0..100 {
        let (first, again, traced) = (run(seed, false), run(seed, false), run(seed, true));
        assert_eq!(first, again);
        assert_eq!((first.hash, first.steps), (traced.hash, traced.steps));
        assert!(traced.trace.len() > 10);
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 100, "different seeds are different scenarios");
}

#[test]
fn every_planted_fault_still_applies() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/mutations")).unwrap();
    let patches: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "patch"))
        .collect();
    assert!(patches.len() >= 10, "there are {} planted faults", patches.len());
    for patch in patches {
        let status = std::process::Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root)
            .status()
            .expect("git runs");
        assert!(status.success(), "{} does not apply any more: make it anew", patch.display());
    }
}
