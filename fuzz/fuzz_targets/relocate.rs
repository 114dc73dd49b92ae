#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| assert!(fprefix::cli::fuzz::read("relocate", bytes)));
