//! Filters of system calls (`seccomp(2)`).
//!
//! A program that reads data of others computes, reads its input and writes its output. It needs no other process, no
//! network and no namespace. Each call that would give it one fails. A limit on the number of
//! processes cannot replace the filter, since the kernel exempts root (`setrlimit(2)`,
//! `RLIMIT_NPROC`).

use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

/// Architecture of this program in the words of the kernel (`linux/audit.h`); `None` if no filter is
/// known for it.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// First number of the calls with 32-bit pointers on x86-64. No other architecture has so high ones.
const X32: u32 = 0x4000_0000;

/// Calls that fail with `EPERM`.
const FORBIDDEN: &[libc::c_long] = &[
    // Other processes.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    // Network.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_io_uring_setup,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // Parts of the kernel that are seldom used and often broken.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
];

/// An instruction (`linux/filter.h`, `struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jump_if_true: u8,
    jump_if_false: u8,
    operand: u32,
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// Low half of the first argument: both architectures are little-endian.
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

/// Requests that put words into the input of a terminal, as if its user had typed them
/// (`ioctl_tty(2)`; `linux/tiocl.h`).
const TYPING: [u32; 2] = [0x5412, 0x541c];

const KILL: Instruction = end(0x8000_0000);
const ALLOW: Instruction = end(0x7fff_0000);

const fn fail(errno: libc::c_int) -> Instruction {
    end(0x0005_0000 | errno.unsigned_abs())
}

const fn end(operand: u32) -> Instruction {
    Instruction { code: 0x06, jump_if_true: 0, jump_if_false: 0, operand }
}

const fn load(operand: u32) -> Instruction {
    Instruction { code: 0x20, jump_if_true: 0, jump_if_false: 0, operand }
}

/// Skips the next instruction unless the loaded word is equal.
const fn if_equal(operand: u32) -> Instruction {
    Instruction { code: 0x15, jump_if_true: 0, jump_if_false: 1, operand }
}

/// Skips the next instruction if the loaded word is equal.
const fn if_not_equal(operand: u32) -> Instruction {
    Instruction { code: 0x15, jump_if_true: 1, jump_if_false: 0, operand }
}

/// Skips the next instruction unless the loaded word is as high or higher.
const fn if_at_least(operand: u32) -> Instruction {
    Instruction { code: 0x35, jump_if_true: 0, jump_if_false: 1, operand }
}

/// Skips the next instruction unless the loaded word has one of these bits.
const fn if_any_bit(operand: u32) -> Instruction {
    Instruction { code: 0x45, jump_if_true: 0, jump_if_false: 1, operand }
}

/// Returns the filter for an architecture.
fn instructions(architecture: u32) -> Result<Vec<Instruction>> {
    let number = |call: libc::c_long| u32::try_from(call).context("a system call has no number");
    let mut filter = vec![load(ARCH), if_not_equal(architecture), KILL, load(NUMBER)];
    filter.extend([if_at_least(X32), fail(libc::EPERM)]);
    for call in FORBIDDEN {
        filter.extend([if_equal(number(*call)?), fail(libc::EPERM)]);
    }
    // Its flags are in memory, where a filter cannot look. Programs fall back to clone.
    filter.extend([if_equal(number(libc::SYS_clone3)?), fail(libc::ENOSYS)]);
    // Threads are allowed.
    let thread = libc::CLONE_THREAD.unsigned_abs();
    filter.extend([if_not_equal(number(libc::SYS_clone)?), ALLOW, load(FIRST_ARGUMENT)]);
    filter.extend([if_any_bit(thread), ALLOW, fail(libc::EPERM)]);
    Ok(filter)
}

/// Numbers of ioctl on the 32-bit kin of both architectures, and with 32-bit pointers on x86-64.
const OTHER_IOCTLS: [u32; 2] = [54, X32 + 514];

/// Returns a filter of programs that share the terminal of their user. It asks for the request
/// first: no other call has such an argument, so it need not tell architectures apart.
fn instructions_of_terminal() -> Result<Vec<Instruction>> {
    let ioctl = u32::try_from(libc::SYS_ioctl).context("a system call has no number")?;
    let mut filter = vec![load(SECOND_ARGUMENT)];
    let [simulate, linux] = TYPING;
    filter.extend([Instruction { jump_if_true: 2, jump_if_false: 0, ..if_equal(simulate) }]);
    filter.extend([if_not_equal(linux), ALLOW, load(NUMBER)]);
    for number in [ioctl, OTHER_IOCTLS[0], OTHER_IOCTLS[1]] {
        filter.extend([if_equal(number), fail(libc::EPERM)]);
    }
    filter.push(ALLOW);
    Ok(filter)
}

/// Returns an open file with the filter for programs that read data of others, as bubblewrap reads
/// it; `None` if none is known for this architecture. Child processes inherit the file.
///
/// # Errors
///
/// Fails if the file cannot be made.
pub(super) fn open() -> Result<Option<OwnedFd>> {
    ARCHITECTURE.map(|architecture| write(&instructions(architecture)?)).transpose()
}

/// Returns the same for programs that share the terminal of their user: they cannot type for it.
///
/// # Errors
///
/// Fails if the file cannot be made.
pub(crate) fn open_for_terminal() -> Result<Option<OwnedFd>> {
    ARCHITECTURE.map(|_| write(&instructions_of_terminal()?)).transpose()
}

fn write(instructions: &[Instruction]) -> Result<OwnedFd> {
    let mut bytes = Vec::new();
    for instruction in instructions {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jump_if_true, instruction.jump_if_false]);
        bytes.extend(instruction.operand.to_ne_bytes());
    }
    // Without MFD_CLOEXEC: the file is for a child process.
    let file = rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::empty())
        .context("could not make a file in memory")?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes).context("could not write the filter of system calls")?;
    file.rewind().context("could not write the filter of system calls")?;
    Ok(file.into())
}
