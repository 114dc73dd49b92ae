//! Images of every format with numbers in them changed, through every command that reads images of
//! others: each ends with an answer or an error, and leaves nothing behind.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{both_streams, finish, stdout_of};
use crate::random::Random;

/// Number of images of each format, and the variable that sets another.
const IMAGES: u64 = 30;
const VARIABLE: &str = "FPREFIX_MUTATED_IMAGES";

/// Statuses of an answer, of an error, and of findings or differences.
const ENDS: [i32; 3] = [0, 1, 3];

/// An image, and everything that commands on its copies need.
struct Mutated {
    small: SmallRoot,
    image: PathBuf,
    bytes: Vec<u8>,
    /// Places that are not zero: structures are there, and not in padding.
    places: Vec<usize>,
}

impl Mutated {
    fn new(format: &str) -> Self {
        let small = SmallRoot::full();
        let made = small.beside("out/small.raw");
        if format == "btrfs" {
            small.pack("out", &["--format", "directory", "--no-reports"]);
            let image = small.beside("small.btrfs");
            let tree = small.beside("out/small").display().to_string();
            fs_err::File::create(&image).unwrap();
            let to = image.to_str().unwrap();
            stdout_of("mkfs.btrfs", ["--quiet", "--shrink", "--rootdir", &tree, to]);
            fs_err::create_dir_all(made.parent().unwrap()).unwrap();
            fs_err::rename(image, &made).unwrap();
        } else {
            let options = ["--format", format, "--architecture", "x86-64", "--no-reports"];
            small.pack("out", &options);
        }
        let os = small.beside("os/usr/lib");
        fs_err::create_dir_all(&os).unwrap();
        fs_err::write(os.join("os-release"), "ID=any\nVERSION_ID=1\n").unwrap();
        fs_err::write(small.beside("victim"), "precious\n").unwrap();
        let bytes = fs_err::read(&made).unwrap();
        let places = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        Self { small, image: made, bytes, places }
    }

    /// Returns the image of this number, the same in every run.
    fn mutate(&self, number: u64) -> Vec<u8> {
        let mut random = Random::numbered(number);
        let mut bytes = self.bytes.clone();
        for _ in 0..=random.below(5) {
            // Superblocks and tables are at the start and at the end.
            let from = match random.below(4) {
                0 => self.places.partition_point(|&at| at < 4096),
                1 => random.below(self.places.len()).max(1),
                _ => self.places.len(),
            };
            let index = random.below(from);
            let index = if random.below(4) == 0 { self.places.len() - 1 - index } else { index };
            let at = self.places[index].saturating_sub(random.below(3));
            let width = 1 << random.below(4);
            let value = random.number().to_le_bytes();
            for (byte, value) in bytes.iter_mut().skip(at).take(width).zip(value) {
                *byte = value;
            }
        }
        if random.below(10) == 0 {
            let length = random.below(bytes.len());
            bytes.truncate(length);
        }
        bytes
    }

    /// Passes the image of this number to each command. Returns whether it is read as another tree.
    fn try_commands(&self, format: &str, number: u64) -> bool {
        let dir = self.small.beside(&format!("work-{number}"));
        let temporary = dir.join("tmp");
        fs_err::create_dir_all(&temporary).unwrap();
        let image = dir.join("small.raw");
        fs_err::write(&image, self.mutate(number)).unwrap();
        let run = |mut command: Command| {
            command.env("TMPDIR", &temporary).env("FPREFIX_HOME", self.small.beside("home"));
            let about = format!("{format}, image {number}, {command:?}");
            let output = finish(&about, command, &dir);
            let said = both_streams(&output);
            let status = output.status.code().unwrap_or_else(|| panic!("{about}: {output:?}"));
            assert!(ENDS.contains(&status), "{about}: {status}: {said}");
            assert!(!said.contains("panicked"), "{about}: {said}");
            let left: Vec<_> = fs_err::read_dir(&temporary).unwrap().collect();
            assert!(left.is_empty(), "{about}: {left:?}");
            status
        };
        let mut diff = fprefix();
        diff.arg("diff").args([&self.image, &image]);
        let differs = run(diff) == 3;
        let mut add = fprefix();
        add.args(["image", "add", "--dry-run", "--rootfs"]).arg(self.small.beside("os"));
        add.arg(&image);
        run(add);
        if format.starts_with("squashfs") {
            let base = image.to_str().unwrap();
            let mut pack = fprefix();
            pack.args(self.small.arguments("packed", &["--dry-run", "--base", base]));
            run(pack);
        }
        fs_err::remove_dir_all(dir).unwrap();
        differs
    }
}

/// Returns the nodes and links in /dev; those of terminals come and go.
fn device_nodes() -> BTreeMap<PathBuf, (u32, u64)> {
    let entries = fs_err::read_dir("/dev").unwrap().map(|entry| entry.unwrap());
    let facts = entries.map(|entry| {
        let meta = fs_err::symlink_metadata(entry.path()).unwrap();
        (entry.path(), (meta.mode(), meta.rdev()))
    });
    facts.collect()
}

#[expect(clippy::print_stdout, reason = "the figures of a long run")]
fn try_images_of(format: &str) {
    let count = std::env::var(VARIABLE).map_or(IMAGES, |count| count.parse().unwrap());
    let mutated = Mutated::new(format);
    let (before, others) = (device_nodes(), AtomicU64::new(0));
    (0..count).into_par_iter().for_each(|number| {
        others.fetch_add(mutated.try_commands(format, number).into(), Ordering::Relaxed);
    });
    assert_eq!(device_nodes(), before, "{format}: /dev changed");
    let victim = mutated.small.beside("victim");
    assert_eq!(fs_err::read_to_string(victim).unwrap(), "precious\n");
    println!("{format}: {count} images, {} of them other trees", others.into_inner());
}

#[test]
fn squashfs_images() {
    try_images_of("squashfs:none");
    try_images_of("squashfs");
}

#[test]
fn erofs_images() {
    try_images_of("erofs:none");
    try_images_of("erofs");
    try_images_of("erofs-tight");
}

#[test]
fn ext4_images() {
    try_images_of("ext4");
}

#[test]
fn disk_images() {
    try_images_of("ddi:none");
}

#[test]
fn btrfs_images() {
    try_images_of("btrfs");
}
