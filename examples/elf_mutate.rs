//! Mutated ELF files through the reader and the planner: nothing may panic, hang or take memory
//! out of proportion. `elf_mutate COUNT FILE...`; see CONTRIBUTING.

#![allow(clippy::print_stdout, reason = "it reports to the person who runs it")]

#[path = "../tests/fuzz/mutate.rs"]
mod mutate;
#[path = "../tests/fuzz/random.rs"]
mod random;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mutate::{edits, exercise};
use random::Random;
use rayon::prelude::*;

/// Longer than any input of a few hundred kilobytes may take.
const SLOW: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().context("usage: elf_mutate COUNT FILE...")?.parse()?;
    let seeds: Vec<Vec<u8>> = args.map(fs_err::read).collect::<Result<_, _>>()?;
    ensure!(!seeds.is_empty(), "no files to mutate");
    let edits = edits();
    let started = Instant::now();
    let outcomes = (0..count).into_par_iter().map(|number| {
        let mut random = Random::numbered(number);
        let seed = &seeds[random.below(seeds.len())];
        let bytes = random.mutate(seed);
        let edit = &edits[random.below(edits.len())];
        let started = Instant::now();
        let planned = exercise(&bytes, edit, number);
        let took = started.elapsed();
        assert!(took < SLOW, "input {number} took {took:?}");
        planned
    });
    let (planned, refused) = outcomes
        .map(|planned| if planned { (1_u64, 0_u64) } else { (0, 1) })
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!("{count} inputs in {:?}: {planned} planned, {refused} refused", started.elapsed());
    Ok(())
}
