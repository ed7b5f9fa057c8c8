//! A carrier: a socket of this machine, and a connection to a relay as long as something goes there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use proto::member::PublicAddress;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::Surroundings;
use super::connect::Dialer;
use super::local::{Inbox, Local};
use super::pump::{self, End, Patience};

/// A connection that nothing passed for so long is closed: keepalives of a session come more often.
const IDLE: Duration = Duration::from_secs(60);

/// Between two attempts to connect; doubled with each, up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// A carrier to one relay. It ends when it is dropped.
pub(super) struct Shim {
    /// Where the daemon sends what is to be carried.
    pub(super) address: SocketAddrV4,
    /// The relay's addresses.
    pub(super) addresses: Vec<PublicAddress>,
    task: AbortHandle,
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shim {
    /// Opens the socket. Connects when the first datagram comes there; `lost` is called when a connection ended that was not idle.
    ///
    /// # Errors
    /// Those of opening a socket.
    pub(super) fn start(
        addresses: Vec<PublicAddress>,
        around: Surroundings,
        lost: impl Fn() + Send + Sync + 'static,
        handle: &Handle,
    ) -> io::Result<Self> {
        let socket = Local::bind(Ipv4Addr::LOCALHOST, around.port)?;
        let SocketAddr::V4(address) = socket.local_addr()? else { return Err(io::ErrorKind::InvalidInput.into()) };
        let dialer = Dialer::new(addresses.clone(), around)?;
        let run = async move {
            let ended = match Local::new(socket) {
                Ok(local) => carry(&local, dialer, lost).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::error!(%error, "a carrier over TLS ended");
            }
        };
        Ok(Self { address, addresses, task: handle.spawn(run).abort_handle() })
    }
}

async fn carry(local: &Local, mut dialer: Dialer, lost: impl Fn()) -> io::Result<()> {
    let mut pause = RETRY.0;
    loop {
        let mut is_lost = false;
        local.readable().await?;
        match dialer.connect().await {
            Ok((stream, at)) => {
                tracing::info!(address = %at, "connected over TLS");
                pause = RETRY.0;
                match pump::run(stream, local, Patience { idle: IDLE, proof: None }).await {
                    Ok(End::Idle) => {
                        tracing::info!(address = %at, "TLS connection closed: not needed any more");
                        continue;
                    }
                    Ok(End::Closed) => tracing::info!(address = %at, "TLS connection closed by the relay"),
                    Err(error) => tracing::info!(address = %at, %error, "TLS connection lost"),
                }
                is_lost = true;
            }
            Err(error) => {
                tracing::debug!(%error, "the relay cannot be reached over TLS");
                tokio::time::sleep(pause).await;
                pause = RETRY.1.min(pause * 2);
            }
        }
        // What waited for a connection that is gone says nothing any more; and what comes now shall not find it in its way.
        local.take(&mut Inbox::new(), &mut Vec::new(), usize::MAX);
        if is_lost {
            lost();
        }
    }
}
