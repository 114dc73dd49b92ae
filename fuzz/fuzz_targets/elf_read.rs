//! Whatever the bytes are, reading them ends in an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = fprefix::elf::read(bytes);
    let _ = fprefix::elf::seal_loader(bytes);
});
