//! Frames in and out of a byte stream, many at a time.
//!
//! Writing: any number of threads append whole frames to one buffer under a short lock; one task hands everything that
//! has gathered to the stream with one write, and while it writes the next buffer fills. Reading: big pieces, cut into
//! frames that share the memory they were read in. Both directions thus cost one system call for many frames.
//!
//! A frame of more than `LARGE_FRAME_BYTES` would make all others wait. It leaves in chunks instead, one after each batch
//! of other frames, and the next once the reader has credited that it took it. What must not overtake it, by
//! [`order_of`](odeon_protocol::frame::order_of) or its class, follows it in the chunks.
//!
//! | module | what |
//! |---|---|
//! | `outbox` | the queue, and its writer |
//! | `large` | the frames that leave in chunks, pure |
//! | `inlet` | chunks back to frames, and the reader |
//! | `spare` | keeps their memory for the next one, or gives it back |
//! | `gate` | holds credits back while too much waits |
//!
//! - **FI-1.** Frames of one order leave in the order in which they were pushed, whole or in chunks.
//! - **FI-2.** At most the limit plus one frame is queued, of large frames their own. Urgent frames have no limit, or one
//!   of their own.
//! - **FI-3.** A frame is either handed to the stream whole or found in [`Outbox::take_unsent`] after the end, in the
//!   order of FI-1.
//! - **FI-4.** A malformed stream delivers the frames before the fault, then ends with an error.
//! - **FI-5.** A frame in chunks is delivered whole or not at all.

mod gate;
mod inlet;
mod large;
mod outbox;
mod spare;

pub use gate::Gate;
pub use inlet::{Inlet, ReadError, read_frames};
pub use outbox::{Outbox, PushError, write_frames};
pub use spare::{memory, share};
