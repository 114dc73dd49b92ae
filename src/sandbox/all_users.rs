//! A user namespace for root that has all users of the machine in it.
//!
//! Root gives files to other users, so a namespace with one user is too small for it. Nobody can
//! map others from within (`user_namespaces(7)`): bubblewrap tells the number of its child, waits,
//! and goes on once the map is written.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::base::command::Command;
use crate::base::input;
use crate::base::limits::LIST;

/// The part of bubblewrap's message that counts (bwrap(1), `--info-fd`).
#[derive(Deserialize)]
struct Started {
    #[serde(rename = "child-pid")]
    child: i32,
}

/// Adds to `command`, which ends with the name of bubblewrap, the options by which all users of this
/// machine are in its user namespace. The command can be run once.
///
/// # Errors
///
/// Fails if no pipe can be made.
pub(super) fn add_map(command: Command) -> Result<Command> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::empty()).context("could not make a pipe");
    let close = |end: &OwnedFd| {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).context("could not make a pipe")
    };
    let (info, told) = pipe()?;
    let (waits, goes_on) = pipe()?;
    close(&info)?;
    close(&goes_on)?;
    let command = command
        .args(["--info-fd", &told.as_raw_fd().to_string()])
        .args(["--userns-block-fd", &waits.as_raw_fd().to_string()])
        .inherit(Arc::new(told))
        .inherit(Arc::new(waits));
    // It ends with the command, also if that never runs: the pipe ends then.
    std::thread::spawn(move || map_child(info, goes_on));
    Ok(command)
}

fn map_child(info: OwnedFd, goes_on: OwnedFd) {
    let Some(child) = read_child(info) else { return };
    // A child whose users are not mapped cannot work. bubblewrap ends with it.
    if write_maps(child).is_err()
        && let Some(child) = Pid::from_raw(child)
    {
        let _ = kill_process(child, Signal::KILL);
    }
    let _ = std::fs::File::from(goes_on).write_all(b"1");
}

fn read_child(info: OwnedFd) -> Option<i32> {
    let mut text = Vec::new();
    let mut info = std::fs::File::from(info);
    let mut byte = [0];
    while !text.ends_with(b"}") {
        info.read_exact(&mut byte).ok()?;
        text.extend(byte);
    }
    let started: Started = serde_json::from_slice(&text).ok()?;
    Some(started.child)
}

fn write_maps(child: i32) -> Result<()> {
    for map in ["uid_map", "gid_map"] {
        let own = input::read_text(Path::new(&format!("/proc/self/{map}")), LIST)?;
        fs_err::write(format!("/proc/{child}/{map}"), identity(&own))?;
    }
    Ok(())
}

/// Returns the map that gives all users of the map `own` the numbers that they have. In a container,
/// those are not all that there are.
fn identity(own: &str) -> String {
    own.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (first, _, count) = (words.next()?, words.next()?, words.next()?);
            Some(format!("{first} {first} {count}\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_keep_their_numbers() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 100000 65536\n65536 5 1\n"), "0 0 65536\n65536 65536 1\n");
        assert_eq!(identity(""), "");
    }

    #[test]
    fn a_message_may_come_in_parts() {
        let (info, told) = rustix::pipe::pipe().unwrap();
        let writer = std::thread::spawn(move || {
            let mut told = std::fs::File::from(told);
            for part in ["{\n    \"child-", "pid\": 77,\n", " \"x\": 1 }"] {
                told.write_all(part.as_bytes()).unwrap();
            }
        });
        assert_eq!(read_child(info), Some(77));
        writer.join().unwrap();
        let (info, told) = rustix::pipe::pipe().unwrap();
        drop(told);
        assert_eq!(read_child(info), None);
    }
}
