//! fprefix builds software with Gentoo's Portage into a path of its own, proves that nothing
//! reaches outside that path, and ships the result as a portable systemd sysext.

pub mod elf;
