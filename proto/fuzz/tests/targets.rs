//! Drives every target: the same inputs in every run, more or others by `PROPTEST_CASES` and `PROPTEST_RNG_SEED`.
#![allow(clippy::panic, reason = "how a test fails")]

use fuzz::{beacons, questions, targets};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

/// Runs `target` on `cases` inputs of up to `longest` bytes; a failing one is shown, shrunk.
fn drive(target: fn(&[u8]), cases: u32, longest: usize) {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(6374);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let inputs = prop::collection::vec(any::<u8>(), 0..longest);
    let outcome = TestRunner::new(config).run(&inputs, |bytes| {
        target(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn identity() {
    drive(targets::identity, 500, 300);
}

#[test]
fn losses() {
    drive(targets::losses, 500, 500);
}

#[test]
fn wire() {
    drive(targets::wire, 3_000, 400);
}

#[test]
fn stun() {
    drive(targets::stun, 3_000, 200);
}

#[test]
fn virtio() {
    drive(targets::virtio, 3_000, 120);
}

#[test]
fn outbound() {
    drive(targets::outbound, 800, 200);
}

#[test]
fn chains() {
    drive(targets::chains, 800, 600);
}

#[test]
fn slots() {
    drive(targets::slots, 500, 800);
}

#[test]
fn question() {
    drive(questions::question, 3_000, 120);
}

#[test]
fn beacon() {
    drive(beacons::beacon, 3_000, 1_500);
}
