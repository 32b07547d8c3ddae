//! Every bound in the runtime. If it can grow, its limit is here.

use crate::frame::HEADER_BYTES;
use std::time::Duration;

/// A whole global name.
pub const NAME_BYTES_MAX: usize = 512;
/// A type name or message name.
pub const TYPE_NAME_BYTES_MAX: usize = 128;
/// A host's name.
pub const HOST_NAME_BYTES_MAX: usize = 64;
/// A capability's key; its value, as text.
pub const CAPABILITY_KEY_BYTES_MAX: usize = 64;
/// See [`CAPABILITY_KEY_BYTES_MAX`].
pub const CAPABILITY_VALUE_BYTES_MAX: usize = 256;
/// Capabilities of one host.
pub const CAPABILITIES_MAX: usize = 128;
/// A requirement expression, as text.
pub const REQUIREMENT_BYTES_MAX: usize = 1024;
/// The arguments of an actor that has a record (a name, a restart policy, a parent elsewhere).
pub const ARGS_BYTES_MAX: usize = 16 << 10;

/// A frame's body.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// All extensions of a frame together.
pub const EXTENSION_BYTES_MAX: usize = 4 << 10;
/// A text or a chain of asks within an extension; longer than any name that is accepted, so that one is refused as such.
pub const EXTENSION_TEXT_BYTES_MAX: usize = 1000;
/// A frame with all its parts.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + EXTENSION_BYTES_MAX + BODY_BYTES_MAX;
const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize, "the length prefix is a u32");
const _: () = assert!(EXTENSION_BYTES_MAX <= u16::MAX as usize, "the extension length is a u16");
const _: () = assert!(
    NAME_BYTES_MAX * 2 + TYPE_NAME_BYTES_MAX + EXTENSION_TEXT_BYTES_MAX * 2 + 256 < EXTENSION_BYTES_MAX,
    "two names, a message's name, a reason, a chain and the small extensions fit"
);
const _: () = assert!(NAME_BYTES_MAX < EXTENSION_TEXT_BYTES_MAX, "a name that is too long is still seen to be");

/// Messages in a mailbox, unless the actor's type says otherwise.
pub const MAILBOX_DEFAULT: usize = 1024;
/// Messages of one flow that may be unsettled. With the fences that follow losses, a flow's numbers lie within 256.
pub const FLOW_WINDOW: u32 = 248;
/// Messages that came back to a program and wait until it takes them.
pub const RETURNED_KEPT: usize = 1024;
/// Bytes of the body of a message that came back, as listeners on any host hear of it; of its reason's text.
pub const DEAD_LETTER_BODY_BYTES: usize = 4 << 10;
/// See [`DEAD_LETTER_BODY_BYTES`].
pub const DEAD_LETTER_TEXT_BYTES: usize = 1 << 10;
/// Such messages that one process, and one agent's router, tells of in a second; the others are counted.
pub const DEAD_LETTERS_A_SECOND: u32 = 1000;
/// Such messages that wait for one listener, or on their way to one host.
pub const DEAD_LETTERS_KEPT: usize = 1024;
/// Listeners of one process for such messages.
pub const DEAD_LETTER_LISTENERS_MAX: usize = 64;
/// Watchers of hosts in one process.
pub const HOST_WATCHERS_MAX: usize = 64;
/// Flows that one worker may have open.
pub const FLOWS_MAX: usize = 1 << 20;
/// Asks that one worker may have outstanding.
pub const ASKS_MAX: usize = 1 << 20;
/// A frame of more bytes is large: it leaves in chunks, between the others.
pub const LARGE_FRAME_BYTES: usize = 128 << 10;
/// Bytes of large frames in one chunk: about what other frames wait for at each step of their way.
pub const CHUNK_BYTES: usize = 16 << 10;
/// Chunks under way on one link; the reader credits each that it has taken.
pub const CHUNKS_AHEAD: u32 = 1;
/// Bytes of large messages of one flow that may be unsettled, or one message.
pub const FLOW_LARGE_BYTES: usize = BODY_BYTES_MAX;
/// Bytes of large frames queued towards one worker, client or agent before senders have to wait, or one frame more.
pub const LARGE_QUEUE_BYTES: usize = BODY_BYTES_MAX;
/// Bytes queued towards one worker, client or agent before senders have to wait.
pub const LINK_QUEUE_BYTES: usize = 8 << 20;
/// Bytes that an agent holds for names being resolved or started.
pub const HELD_BYTES: usize = 64 << 20;
/// Bytes that wait in one agent before it gives messages back.
pub const AGENT_BYTES_MAX: usize = 256 << 20;
/// Bytes that wait in one agent before it takes no more large frames from processes.
pub const AGENT_WAITING_BYTES: usize = 160 << 20;
/// Bytes, of those, that wait for processes and names before it takes no more large frames from other agents.
pub const AGENT_LOCAL_BYTES: usize = 96 << 20;
const _: () = assert!(AGENT_LOCAL_BYTES < AGENT_WAITING_BYTES && AGENT_WAITING_BYTES < AGENT_BYTES_MAX);
/// A process that takes none of the large frames that wait for it for so long does not read.
pub const LARGE_UNREAD_FOR: Duration = Duration::from_secs(10);
/// Bytes that wait for one process before it is taken for one that does not read, and its link is closed.
pub const UNREAD_BYTES: usize = 2 * HELD_BYTES;
/// Requests of one process that its agent has not looked at before it reads no more of them.
pub const REQUESTS_WAITING_MAX: usize = 4096;
/// Blocks of serials that one process may have: a million million actors.
pub const BLOCKS_MAX: usize = 1 << 20;
/// How long a frame is held for a name that cannot be resolved.
pub const HELD_FOR: Duration = Duration::from_secs(10);

/// Messages that an agent gave back as perhaps run and still remembers, in case they come back from where they went.
pub const WRITTEN_OFF_KEPT: usize = 1 << 20;

/// For so long an agent remembers what it gave back as perhaps run, and which messages it sent on before others of their flow.
pub const COMES_BACK_FOR: Duration = Duration::from_secs(600);

/// Flows that an agent remembers, of which it sent messages back since their name was elsewhere.
pub const BOUNCED_KEPT: usize = 64 << 10;

/// Workers of one agent.
pub const WORKERS_MAX: usize = 1024;
/// Clients of one agent.
pub const CLIENTS_MAX: usize = 1024;
/// Types in one worker's `Hello`.
pub const TYPES_MAX: usize = 4096;
/// Creations of one agent that wait for a host that fits; more are refused at once where none does.
pub const CREATIONS_WAITING_MAX: usize = 4096;
/// Ends of children that wait until the host of their parents takes them; later ones are not told, and that is logged.
pub const CHILD_ENDS_KEPT: usize = 64 << 10;
/// Blocks of serials whose process is gone of which an agent tells a host that is not there, once it is again.
pub const LOSSES_KEPT: usize = 64 << 10;
/// A troupe that an agent does not use for so long is one that it does not know.
pub const TROUPE_KEPT_FOR: Duration = Duration::from_secs(60);
/// Members of one troupe.
pub const TROUPE_MEMBERS_MAX: usize = 4096;
/// Hosts of one convention.
pub const HOSTS_MAX: usize = 4096;
/// Live join tokens of one convention.
pub const TOKENS_MAX: usize = 4096;
/// Global names of one convention.
pub const NAMES_MAX: usize = 1 << 20;
/// Requests whose answers the directory remembers, to recognise repetitions.
pub const REQUESTS_KEPT: usize = 64 << 10;
/// Members that left or were evicted, remembered by the directory.
pub const FORMER_MEMBERS_KEPT: usize = 4096;
/// Steps of the directory that a voter keeps for followers that resume.
pub const DELTAS_KEPT: usize = 16 << 10;
/// Text of an address that other agents dial.
pub const DIAL_BYTES_MAX: usize = 256;
/// A backup of the directory.
pub const BACKUP_BYTES_MAX: u64 = 4 << 30;
/// Commands in one directory log entry.
pub const BATCH_MAX: usize = 1000;
/// Bytes of a worker's standard error kept for its end's report.
pub const STDERR_KEPT_BYTES: usize = 64 << 10;
/// Runner threads that may be added to replace blocked ones.
pub const SPARE_RUNNERS_MAX: usize = 64;

/// Waits of `tell` and of placement, unless the caller says otherwise.
pub const TELL_WAIT: Duration = Duration::from_secs(5);
/// Waits of `ask`, unless the caller says otherwise.
pub const ASK_WAIT: Duration = Duration::from_secs(5);
/// A handler that holds its thread this long is given a spare one and warned about.
pub const HANDLER_BLOCKS: Duration = Duration::from_millis(50);
/// From `Hello` sent to `Welcome` received.
pub const HELLO_WAIT: Duration = Duration::from_secs(5);
/// A worker's time to stop gracefully before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// One request or answer between agents on the control connection.
pub const CONTROL_BYTES_MAX: usize = 16 << 20;
const _: () = assert!(
    DEAD_LETTERS_KEPT * (DEAD_LETTER_BODY_BYTES + DEAD_LETTER_TEXT_BYTES + 2 * NAME_BYTES_MAX + 512)
        < CONTROL_BYTES_MAX,
    "what waits for a host is one request"
);
/// A join request; its answer, which lists the hosts.
pub const JOIN_REQUEST_BYTES_MAX: usize = 64 << 10;
/// See [`JOIN_REQUEST_BYTES_MAX`].
pub const JOIN_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Handshakes that one agent does at a time.
pub const HANDSHAKES_MAX: usize = 128;
/// Joiners, of those, so that slow ones do not keep members out.
pub const JOINS_MAX: usize = HANDSHAKES_MAX / 4;
/// Hosts that one agent dials back in a second, to tell them whether they are reached.
pub const DIAL_BACKS_MAX: usize = 4;
/// Requests of one peer being answered at a time, of those that are urgent and of the others.
pub const REQUESTS_MAX: usize = 256;
/// Streams on which one agent sends frames to another; a flow keeps to one of them, save for its large frames.
pub const LANES: usize = 5;
/// The lane of large frames, and of those that must not overtake them.
pub const LARGE_LANE: usize = LANES - 1;
/// Bytes of one lane not yet handed to the connection before senders have to wait.
pub const LANE_QUEUE_BYTES: usize = LINK_QUEUE_BYTES / LARGE_LANE;
/// Bytes of one lane that are kept until the peer has acknowledged them.
pub const LANE_KEPT_BYTES: usize = 16 << 20;
/// As the two before, for the lane of large frames.
pub const LARGE_LANE_BYTES: usize = LARGE_QUEUE_BYTES;
/// Bytes of the lane of large frames, sent or not, beyond which even answers have to wait.
pub const LARGE_LANE_BYTES_MAX: usize = 4 * LARGE_LANE_BYTES;
/// Bytes of one lane, sent or not, beyond which even urgent frames have to wait, with the agent: its peer takes nothing any more.
/// An agent for which [`HELD_BYTES`] wait as well gets no more answers; they are counted in `answers_dropped`.
pub const LANE_BYTES_MAX: usize = 2 * (LANE_KEPT_BYTES + LANE_QUEUE_BYTES);
