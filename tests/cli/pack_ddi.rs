//! Disk images with hashes and a signature, looked at with other tools than they were made with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::partitions::Partition;
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::{command, stdout_of};

const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const SIGNATURE: &str = "41092b05-9fc8-4523-994f-2def0408b176";

/// The partitions of an image by their type.
fn partitions(image: &Path) -> BTreeMap<String, Partition> {
    let parts = crate::harness::partitions::partitions(image).into_iter();
    parts.map(|part| (part.kind.clone(), part)).collect()
}

/// A key and its certificate.
pub(crate) fn key(small: &SmallRoot, name: &str) -> [String; 2] {
    let file = |end: &str| small.beside(&format!("{name}.{end}")).display().to_string();
    let (key, certificate) = (file("key"), file("crt"));
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout"];
    stdout_of("openssl", [&request[..], &[&key, "-out", &certificate]].concat());
    [key, certificate]
}

fn pack(small: &SmallRoot, output: &str, more: &[&str]) -> PathBuf {
    let options = ["--format", "ddi", "--architecture", "x86-64", "--no-reports"];
    small.pack(output, &[&options[..], more].concat());
    small.beside(output).join("small.raw")
}

#[test]
fn the_kernel_can_check_every_block() {
    let small = SmallRoot::full();
    let parts = partitions(&pack(&small, "out", &[]));
    assert_eq!(parts.keys().collect::<Vec<_>>(), [VERITY, ROOT]);
    let path = |kind: &str| parts[kind].file.to_str().unwrap().to_owned();
    let root_hash = format!("{}{}", parts[ROOT].uuid, parts[VERITY].uuid);
    stdout_of("veritysetup", ["verify", &path(ROOT), &path(VERITY), &root_hash]);
    let listing = stdout_of("unsquashfs", ["-lln", &path(ROOT)]);
    assert!(listing.contains("extension-release.small"), "{listing}");

    let mut changed = fs_err::read(path(ROOT)).unwrap();
    changed[500] ^= 1;
    fs_err::write(path(ROOT), changed).unwrap();
    let verify = command("veritysetup")
        .args(["verify", &path(ROOT), &path(VERITY), &root_hash])
        .output()
        .unwrap();
    assert!(!verify.status.success(), "a changed block was not found");
}

#[test]
fn the_signature_is_the_one_of_the_certificate() {
    let small = SmallRoot::full();
    let [key, certificate] = key(&small, "own");
    let signing = ["--private-key", key.as_str(), "--certificate", certificate.as_str()];
    let image = pack(&small, "out", &signing);
    let parts = partitions(&image);
    let text = fs_err::read_to_string(&parts[SIGNATURE].file).unwrap();
    let json: serde_json::Value = serde_json::from_str(text.trim_end_matches('\0')).unwrap();
    let root_hash = json["rootHash"].as_str().unwrap();
    assert_eq!(root_hash, format!("{}{}", parts[ROOT].uuid, parts[VERITY].uuid));
    let der = small.beside("der");
    stdout_of(
        "openssl",
        ["x509", "-in", &certificate, "-outform", "der", "-out", der.to_str().unwrap()],
    );
    let sum = stdout_of("sha256sum", [der.to_str().unwrap()]);
    assert_eq!(json["certificateFingerprint"], sum.split(' ').next().unwrap());

    let (message, signature) = (small.beside("message"), small.beside("signature"));
    fs_err::write(&message, root_hash).unwrap();
    let base64 = small.beside("base64");
    fs_err::write(&base64, json["signature"].as_str().unwrap()).unwrap();
    let (base64, signature) = (base64.to_str().unwrap(), signature.to_str().unwrap());
    stdout_of("openssl", ["base64", "-d", "-A", "-in", base64, "-out", signature]);
    let verify = ["smime", "-verify", "-binary", "-inform", "der", "-in", signature, "-content"];
    let trust = ["-nointern", "-certfile", &certificate, "-CAfile", &certificate];
    stdout_of("openssl", [&verify[..], &[message.to_str().unwrap()], &trust[..]].concat());

    let again = pack(&small, "again", &signing);
    assert!(fs_err::read(image).unwrap() == fs_err::read(again).unwrap(), "not reproducible");
}

#[test]
fn what_can_not_be_signed_is_refused() {
    let small = SmallRoot::full();
    let ([key_1, _], [_, other]) = (key(&small, "own"), key(&small, "other"));
    let signing = ["--private-key", key_1.as_str(), "--certificate", other.as_str()];
    let ddi = ["--format", "ddi", "--architecture", "arm64"];
    let error = small.refuse("out", &[&ddi[..], &signing[..]].concat());
    assert!(error.contains("small.raw was not written"), "{error}");
    assert!(!small.beside("out/small.raw").exists());
    let error = small.refuse("out", &signing);
    insta::assert_snapshot!(error, @"error: --private-key: of the formats, only ddi can be signed: add it to the formats");
    let gone = ["--private-key", "/nowhere", "--certificate", other.as_str()];
    let error = small.refuse("out", &[&ddi[..], &gone[..]].concat());
    insta::assert_snapshot!(error, @"error: --private-key: there is no file /nowhere to sign with");
}
