//! The meshd daemon and its command line.

mod api;
mod cli;
mod clock;
mod daemon;
mod dataplane;
mod door;
mod driver;
mod health;
mod host;
mod lan;
mod nat;
mod report;
mod resolver;
mod resume;
mod setup;
mod spray;
mod state;
mod sys;
mod tls;
mod underlay;

/// Wipes whatever is freed. Our own secrets wipe themselves; the key schedules inside ring and the handshake states inside
/// snow do not, and would lie around in the heap. Nothing is allocated per packet, so this costs nothing there.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    cli::main()
}
