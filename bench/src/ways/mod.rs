//! How soon two edges talk, and talk directly, behind every pair of NATs.

mod record;
mod table;

use std::fs;
use std::panic;
use std::path::Path;
use std::time::Duration;

use netns_tests::ways::Group;
use netns_tests::{Lab, sandbox};

use crate::arguments::Arguments;
use crate::{Outcome, compare};
use record::{PairRecord, WaysRecord};

/// The format of the JSON record.
const FORMAT: u32 = 1;

/// What every uplink takes each way: 40 ms from an edge to another and back, 20 ms to a relay and back.
const DISTANCE: Duration = Duration::from_millis(10);

/// Measures, prints and keeps the results.
pub(crate) fn inside(arguments: &Arguments) -> Outcome {
    sandbox::end_with_stdin();
    sandbox::prepare();
    // A harness that cannot go on panics; here that is one group's failure, told in the table.
    panic::set_hook(Box::new(|_| {}));
    let lab = Lab::new();
    let setting = compare::setting(arguments);
    let mut record = WaysRecord {
        format: FORMAT,
        kind: "ways",
        setting,
        uplink_ms: DISTANCE.as_millis(),
        pairs: Vec::new(),
        failures: Vec::new(),
    };
    for round in 0..arguments.rounds {
        for group in Group::ALL {
            match compare::caught(|| Ok(group.meet(&lab, DISTANCE))) {
                Ok(met) => {
                    println!("round {round}  {group:?}: {} pairs", met.len());
                    record.pairs.extend(met.iter().map(|met| PairRecord::of(round, met)));
                }
                Err(error) => {
                    println!("round {round}  {group:?} failed: {error}");
                    record.failures.push(format!("round {round}, {group:?}: {error}"));
                }
            }
            lab.clear();
        }
    }
    println!("\n{}", table::markdown(&record));
    write(&record, &arguments.out)
}

fn write(record: &WaysRecord, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("{}-ways.json", record.setting.date));
    fs::write(&file, serde_json::to_string_pretty(record)? + "\n")?;
    println!("Kept in {}", file.display());
    Ok(())
}
