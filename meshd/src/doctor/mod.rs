//! `meshd doctor`: looks at everything on this machine that a node needs, and says of each what was found and what to do.
//!
//! [`gather()`] looks and judges nothing; [`examine`] judges what was gathered and looks at nothing, so that every judgement is
//! tested with made-up facts.

mod clock;
mod daemon;
mod facts;
mod files;
mod filter;
mod finding;
mod firewall;
mod gather;
mod kernel;
mod managers;
mod network;
mod routes;

#[cfg(test)]
mod tests;

pub(crate) use facts::{Facts, Life};
pub(crate) use finding::{Finding, Level, count, json, render};
pub(crate) use gather::gather;

/// Judges everything, in the order in which a node needs it.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    let subjects = [
        files::config,
        files::keys,
        files::state,
        files::invite,
        kernel::kernel,
        kernel::tun,
        kernel::capabilities,
        daemon::daemon,
        daemon::offloads,
        daemon::descriptors,
        daemon::port,
        clock::clock,
        network::addresses,
        network::forwarding,
        network::reverse_path,
        network::buffers,
        network::mtu,
        firewall::firewall,
        routes::overlaps,
        routes::rules,
        routes::others,
        managers::managers,
    ];
    subjects.iter().flat_map(|judge| judge(facts)).collect()
}
