//! The `fprefix` command; all of it is in the library's `cli`.

fn main() -> std::process::ExitCode {
    fprefix::cli::main()
}
