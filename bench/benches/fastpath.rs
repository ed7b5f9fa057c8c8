//! Times each operation of the fast path: `cargo bench -p bench`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "what criterion's macros make")]

use std::time::{Duration, Instant};

use bench::operations::{self, Operation};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn fastpath(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fastpath");
    for entry in operations::all() {
        let mut operation = (entry.make)();
        if entry.bytes > 0 {
            group.throughput(Throughput::Bytes(entry.bytes as u64));
        } else {
            group.throughput(Throughput::Elements(1));
        }
        if entry.is_prepared {
            group.bench_function(entry.name, |bencher| {
                bencher.iter_custom(|count| time_prepared(operation.as_mut(), count));
            });
        } else {
            group.bench_function(entry.name, |bencher| bencher.iter(|| operation.run()));
        }
    }
    group.finish();
}

/// The time of the runs alone. Reading the clock twice costs about 50 ns per run.
fn time_prepared(operation: &mut dyn Operation, count: u64) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..count {
        operation.prepare();
        let started = Instant::now();
        operation.run();
        total += started.elapsed();
    }
    total
}

criterion_group!(benches, fastpath);
criterion_main!(benches);
