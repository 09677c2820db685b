//! The fuzz target without a fuzzer: its seeds, and mutations of them that are the same each time.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is the library of the fuzz target"
)]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::{fs, path::Path};

use fastrand::Rng;

const MUTATIONS: u64 = 10_000;

/// What is worth trying in the place of something else.
const TOKENS: [&str; 22] = [
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "-0.0",
    "0.1",
    "4294967296",
    "18446744073709551616",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "{",
    "]",
    ",",
    "\\",
    "\n",
    "{\"$erased\":true}",
    "+262142-12-31T23:59:59.999999999Z",
    "2016-12-31T23:59:60.5-23:59",
];

#[test]
fn the_seeds_are_read_and_written() {
    for seed in seeds() {
        fuzz::stored_form(&seed);
    }
}

/// Seen to fail when `form::rfc3339` writes only milliseconds.
#[test]
fn mutations_are_refused_or_read_and_written() {
    let seeds = seeds();
    for seed in 0..MUTATIONS {
        let mut random = Rng::with_seed(seed);
        let text = mutated(&seeds, &mut random);
        let outcome = std::panic::catch_unwind(|| fuzz::stored_form(&text));
        assert!(outcome.is_ok(), "mutation {seed} does not hold: {text:?}");
    }
}

fn seeds() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/stored_form");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the seeds")
        .map(|file| file.expect("a seed").path())
        .collect();
    // Folders have no order of their own, and a number must always mean the same mutation.
    files.sort();
    let seeds: Vec<_> = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a seed is text"))
        .collect();
    assert!(!seeds.is_empty(), "there are seeds");
    seeds
}

fn mutated(seeds: &[String], random: &mut Rng) -> String {
    let mut text = pick(seeds, random).clone().into_bytes();
    for _ in 0..random.usize(1..6) {
        let (from, to) = range(text.len(), random);
        match random.u8(0..6) {
            0 => drop(text.splice(from..to, [])),
            1 => drop(text.splice(from..from, text[from..to].to_vec())),
            2 => drop(text.splice(from..to, pick(&TOKENS, random).bytes())),
            3 => {
                let other = pick(seeds, random).as_bytes();
                let (start, end) = range(other.len(), random);
                text.splice(from..to, other[start..end].iter().copied());
            }
            4 => text.insert(from, random.u8(..)),
            _ if from < text.len() => text[from] = random.u8(..),
            _ => {}
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Mostly short ones: a long one leaves nothing to read.
fn range(len: usize, random: &mut Rng) -> (usize, usize) {
    let from = random.usize(..=len);
    (from, len.min(from + random.usize(..20)))
}

fn pick<'a, T>(of: &'a [T], random: &mut Rng) -> &'a T {
    &of[random.usize(..of.len())]
}
