//! Repeats one operation of the fast path, for callgrind to count: `instructions OPERATION REPETITIONS [prepare-only]`.
//! `cargo run -p bench -- instructions` runs it.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use bench::operations;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (name, repetitions) = (arguments.first(), arguments.get(1).and_then(|text| text.parse::<u64>().ok()));
    let entry = operations::all().into_iter().find(|entry| Some(entry.name) == name.map(String::as_str));
    let (Some(entry), Some(repetitions)) = (entry, repetitions) else {
        eprintln!("usage: instructions OPERATION REPETITIONS [prepare-only]");
        return ExitCode::FAILURE;
    };
    let is_prepare_only = arguments.get(2).is_some_and(|text| text == "prepare-only");
    let mut operation = (entry.make)();
    for _ in 0..repetitions {
        operation.prepare();
        if !is_prepare_only {
            operation.run();
        }
    }
    ExitCode::SUCCESS
}
