//! Mistakes in a session, a disk or a device, for the checker to find.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The primary lets outputs go without waiting for the ack.
    ReleasesBeforeAck,
    /// The primary's clock stands while it is stopped: it wakes and does not know that it was silent.
    ClockStopsWithProcess,
    /// The primary runs on alone when it cannot reach the arbiter.
    RunsAloneUnreachable,
    /// The backup does not ask the arbiter.
    LiveWithoutClaim,
    /// The backup goes live without replaying what it has acknowledged.
    LiveWithoutDrain,
    /// The backup goes live and forgets the outputs it has kept.
    ForgetsKeptOutputs,
    /// The backup releases what it replays instead of keeping it.
    SpeaksWhileReplaying,
    /// The disk is a plain file: nobody cuts off who has lost the term.
    Unfenced,
    /// The server moves the term on and does not wait for what older ones have under way.
    WinsBeforeDrain,
    /// The server serves a replica's new connection while requests of the old one are under way.
    ReconnectsWithoutDrain,
    /// The disk device issues requests that conflict.
    IgnoresConflicts,
    /// The primary writes without waiting for the ack.
    WritesBeforeAck,
    /// The primary writes although the backup has yet to read, for itself, what was there.
    WritesBeforeExecuted,
    /// The backup goes live and forgets the requests that were under way.
    LiveWithoutReissue,
    /// The backup goes live and issues again also what it has read for itself.
    ReissuesOwnReads,
}
