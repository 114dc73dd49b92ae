//! Images, listings and texts that others made, mutated, through each reader of `cli::fuzz`.

use std::path::{Path, PathBuf};

use fprefix::cli::fuzz::READERS;
use rayon::prelude::*;

use crate::memory::most_of;
use crate::mutate_text;
use crate::random::Random;

const INPUTS: u64 = 1_500;
/// Memory by size of the input, and what the largest extent of a compressed image needs.
const TIMES: usize = 100;
const BESIDES: usize = 40 << 20;

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(dir).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_reader_has_a_target_and_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs_err::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, reader) in READERS {
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} is in no manifest");
        let target = fs_err::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("\"{name}\"")), "{name} has another target");
        let seeds = files_in(&fuzz.join("foreign").join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            reader(&fs_err::read(seed).unwrap());
        }
    }
    assert_eq!(files_in(&fuzz.join("foreign")).len(), READERS.len());
}

#[test]
fn mutated_files_of_others() {
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/foreign");
    for (name, reader) in READERS {
        let seeds = files_in(&foreign.join(name));
        let seeds: Vec<_> = seeds.iter().map(|path| fs_err::read(path).unwrap()).collect();
        (0..INPUTS).into_par_iter().for_each(|number| {
            let mut random = Random::numbered(number);
            let seed = &seeds[random.below(seeds.len())];
            let bytes = mutate(&mut random, seed);
            let most = most_of(|| reader(&bytes));
            assert!(
                most <= TIMES * bytes.len() + BESIDES,
                "{name}: input {number} of {} bytes took {most} bytes of memory",
                bytes.len()
            );
        });
    }
}

/// Changes pieces of text, or numbers at places that are not zero.
fn mutate(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    if random.below(3) == 0 || seed.is_ascii() {
        return mutate_text(random, seed);
    }
    let places: Vec<usize> = (0..seed.len()).filter(|&at| seed[at] != 0).collect();
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(5) {
        let at = places[random.below(places.len())].saturating_sub(random.below(4));
        let width = 1 << random.below(4);
        let value = random.number().to_le_bytes();
        for (byte, value) in bytes.iter_mut().skip(at).take(width).zip(value) {
            *byte = value;
        }
    }
    bytes
}
