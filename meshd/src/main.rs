//! The meshd daemon and its command line.

mod api;
mod assembly;
mod bugreport;
mod cli;
mod clock;
mod daemon;
mod dataplane;
mod doctor;
mod door;
mod driver;
mod health;
mod host;
mod idle;
mod lan;
mod log;
mod log_limit;
mod metrics;
mod nat;
mod reload;
mod report;
mod resolver;
mod resume;
mod settings;
mod setup;
mod signals;
mod spray;
mod state;
mod supervisor;
mod sys;
mod tls;
mod tool;
mod trace;
mod underlay;
mod wall_time;

/// Wipes whatever is freed. Our own secrets wipe themselves; the key schedules inside ring and the handshake states inside
/// snow do not, and would lie around in the heap. Nothing is allocated per packet, so this costs nothing there.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    cli::main()
}
