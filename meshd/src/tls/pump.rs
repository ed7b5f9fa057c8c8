//! Moves datagrams between a connection and the daemon, both ways, until nobody needs it any more.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proto::wire::MessageType;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::frame::{self, Inflow};
use super::local::{Inbox, Local, Outbox};

/// Bytes of one write: a few records of TLS, so that a busy connection is served in turns of a fraction of a millisecond.
const BATCH: usize = 64 << 10;

/// How long a connection may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without a datagram either way.
    pub(super) idle: Duration,
    /// Until the daemon has said something that it says to members only.
    pub(super) proof: Option<Duration>,
}

/// Why a connection ended that no error ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing passed for too long.
    Idle,
    /// The other side closed it, with the goodbye of TLS or without.
    Closed,
}

/// When something passed last, and whether the daemon ever spoke.
struct Seen {
    started: Instant,
    /// Milliseconds after the start.
    last: AtomicU64,
    is_proven: AtomicBool,
}

impl Seen {
    fn new(is_proven: bool) -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0), is_proven: AtomicBool::new(is_proven) }
    }

    fn mark(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// When it is over if nothing passes any more.
    fn end(&self, patience: Patience) -> Instant {
        let idle = self.started + Duration::from_millis(self.last.load(Ordering::Relaxed)) + patience.idle;
        match patience.proof {
            Some(proof) if !self.is_proven.load(Ordering::Relaxed) => idle.min(self.started + proof),
            Some(_) | None => idle,
        }
    }
}

/// Runs until the connection ends, or is idle for too long.
///
/// # Errors
/// Those of the connection, and of a stream that is none of datagrams.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(stream: S, local: &Local, patience: Patience) -> io::Result<End> {
    let seen = Seen::new(patience.proof.is_none());
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        result = outbound(local, writer, &seen) => result,
        result = inbound(local, reader, &seen) => result,
        () = idle(&seen, patience) => Ok(End::Idle),
    }
}

async fn outbound<S: AsyncWrite>(local: &Local, mut writer: WriteHalf<S>, seen: &Seen) -> io::Result<End> {
    let (mut inbox, mut stream) = (Inbox::new(), Vec::new());
    loop {
        local.readable().await?;
        stream.clear();
        local.take(&mut inbox, &mut stream, BATCH);
        if !stream.is_empty() {
            // A daemon under load asks anybody for a cookie; all else it sends to members only.
            let is_proof =
                frame::datagrams(&stream).any(|datagram| MessageType::of(datagram) != Ok(MessageType::CookieReply));
            seen.is_proven.fetch_or(is_proof, Ordering::Relaxed);
            seen.mark();
            // While the connection takes no more nothing is read, and what does not fit the socket's queue is dropped.
            writer.write_all(&stream).await?;
            writer.flush().await?;
        }
    }
}

async fn inbound<S: AsyncRead>(local: &Local, mut reader: ReadHalf<S>, seen: &Seen) -> io::Result<End> {
    let (mut inflow, mut outbox) = (Inflow::new(), Outbox::new(local));
    loop {
        let count = match reader.read(inflow.space()).await {
            Ok(0) => return Ok(End::Closed),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(End::Closed),
            read => read?,
        };
        inflow.grow(count);
        while let Some(datagram) = inflow.next().map_err(io::Error::other)? {
            seen.mark();
            outbox.push(datagram);
        }
        outbox.flush();
    }
}

async fn idle(seen: &Seen, patience: Patience) {
    loop {
        let until = seen.end(patience);
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}
