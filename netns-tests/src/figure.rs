//! Measured figures: printed, and collected for the end of `make test`; timings are shown, not judged.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// What marks a figure in a lab's output, so that the outer process can pass it on.
pub(crate) const MARK: &str = "figure: ";

/// The file that collects figures, one per line (`make test` sets and prints it).
const FILE: &str = "MESHD_FIGURES";

/// Prints a measured figure.
pub fn figure(text: &str) {
    println!("{MARK}{text}");
}

/// Passes the figures in a lab's output on to this process's output and to the file that collects them.
pub(crate) fn pass_on(output: &str) {
    let mut file = env::var_os(FILE).and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    // Not only at the start of a line: libtest leaves the test's name before the first.
    for figure in output.lines().filter_map(|line| Some(line.split_once(MARK)?.1)) {
        println!("{MARK}{figure}");
        if let Some(file) = &mut file {
            // One write per line: tests run in parallel and append to the same file. Losing a figure fails nothing.
            let _ = file.write_all(format!("{figure}\n").as_bytes());
        }
    }
}
