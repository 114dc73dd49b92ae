//! The tree of hashes, computed anew from the data that it is about (kernel documentation of
//! dm-verity, "Hash Tree").

use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Size of the blocks of data and of hashes, in bytes.
pub(super) const BLOCK: usize = 4096;

/// Size of a hash, in bytes.
const HASH: usize = 32;

/// Tree of hashes of all blocks.
pub(super) struct HashTree {
    /// Blocks as they are stored, from the top level down.
    pub blocks: Vec<u8>,
    /// Hash of the block at the top.
    pub root: [u8; HASH],
}

impl HashTree {
    /// Computes the tree of `data`, which has whole blocks only. Each block is hashed after `salt`.
    pub(super) fn compute(data: &[u8], salt: &[u8]) -> Self {
        let hash = |block: &[u8]| -> [u8; HASH] {
            Sha256::new_with_prefix(salt).chain_update(block).finalize().into()
        };
        let mut hashes: Vec<[u8; HASH]> = data.par_chunks(BLOCK).map(hash).collect();
        let mut levels: Vec<Vec<u8>> = Vec::new();
        while hashes.len() > 1 {
            let mut level = hashes.concat();
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            hashes = level.par_chunks(BLOCK).map(hash).collect();
            levels.push(level);
        }
        levels.reverse();
        let root = hashes.first().copied().unwrap_or_else(|| hash(&[]));
        Self { blocks: levels.concat(), root }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::data::hex;
    use crate::host::tools;

    /// veritysetup makes the same of data of every shape: one block, one full level, and levels that
    /// end early.
    #[test]
    fn it_is_the_tree_of_veritysetup() {
        let dir = tempfile::tempdir().unwrap();
        let [data, hashes] = ["data", "hashes"].map(|name| dir.path().join(name));
        for (blocks, salt) in [(1, "-"), (2, "00ff"), (128, "-"), (129, "0102"), (16_385, "aa")] {
            let bytes: Vec<u8> =
                (0..blocks * BLOCK).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect();
            fs_err::write(&data, &bytes).unwrap();
            let said = tools::VERITYSETUP
                .command("make the tree of hashes")
                .unwrap()
                .args(["format", "--salt", salt])
                .args([&data, &hashes])
                .read()
                .unwrap();
            let salt: Vec<u8> = match salt {
                "-" => Vec::new(),
                digits => (0..digits.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                    .collect(),
            };
            let tree = HashTree::compute(&bytes, &salt);
            assert!(said.contains(&hex(&tree.root)), "{blocks}: {said}");
            assert!(fs_err::read(&hashes).unwrap()[BLOCK..] == tree.blocks, "{blocks}");
        }
    }
}
