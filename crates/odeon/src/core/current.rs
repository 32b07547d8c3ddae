//! Whose code this thread is running: where the sender and the system of a `tell` outside `ctx` come from.
//!
//! - **T-1.** The pointers in [`RUNNING`] are those of references that the guard which set them still borrows.

use super::{
    cell::Head,
    clock,
    envelope::Origin,
    reply::{AskFacts, Chain, ReplyHandle},
};
use crate::{error::Error, system::Inner};
use odeon_protocol::{Address, Direct, Serial};
use std::{cell::Cell, marker::PhantomData, ptr, sync::Arc};

/// What an actor is doing: the message that its handler has.
#[derive(Default)]
pub(crate) struct Current {
    pub(crate) origin: Origin,
    /// Where the reply goes, unless the handler has taken it away.
    pub(crate) reply: ReplyHandle,
}

#[derive(Clone, Copy)]
struct Running {
    /// The actor, while one of its futures is polled.
    head: *const Head,
    /// Whether it is the handler that is polled, not a task that the actor spawned.
    handler: bool,
    system: *const Arc<Inner>,
}

const NOTHING: Running = Running { head: ptr::null(), handler: false, system: ptr::null() };
/// Tells in a row before a sender lets others run.
const BUDGET: u32 = 256;

thread_local! {
    static RUNNING: Cell<Running> = const { Cell::new(NOTHING) };
    static SPENT: Cell<u32> = const { Cell::new(0) };
}

/// Sets back what was there before.
pub(crate) struct Guard<'a> {
    before: Running,
    borrowed: PhantomData<&'a Head>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        RUNNING.set(self.before);
    }
}

/// From now on the handlers of this actor run.
pub(crate) fn enter_handler(head: &Head) -> Guard<'_> {
    SPENT.set(0);
    let running = Running { head, handler: true, system: &raw const head.system };
    Guard { before: RUNNING.replace(running), borrowed: PhantomData }
}

/// From now on a task of this actor runs.
pub(crate) fn enter_task(head: &Head) -> Guard<'_> {
    let running = Running { head, handler: false, system: &raw const head.system };
    Guard { before: RUNNING.replace(running), borrowed: PhantomData }
}

/// From now on references are decoded for this system.
pub(crate) fn enter_system(system: &Arc<Inner>) -> Guard<'_> {
    let before = RUNNING.get();
    RUNNING.set(Running { system, ..before });
    Guard { before, borrowed: PhantomData }
}

fn head<'a>() -> Option<&'a Head> {
    // SAFETY: T-1; callers in this module keep the reference for the length of one expression.
    unsafe { RUNNING.get().head.as_ref() }
}

/// The system whose code runs.
pub(crate) fn system() -> Option<Arc<Inner>> {
    // SAFETY: T-1.
    unsafe { RUNNING.get().system.as_ref() }.cloned()
}

/// The serial of the actor whose code runs, if it is of that system.
pub(crate) fn serial(system: &Arc<Inner>) -> Option<Serial> {
    head().filter(|head| Arc::ptr_eq(&head.system, system)).map(|head| head.serial)
}

/// The sender of a message that is made now.
pub(crate) fn origin(system: &Arc<Inner>, starts: bool) -> Origin {
    Origin::of(serial(system), starts)
}

/// Who would wait for an ask that is made now, who waits for that one, and until when.
pub(crate) fn ask_facts(system: &Arc<Inner>, span_nanos: Option<u64>, message: &'static str) -> AskFacts {
    let now = clock::coarse();
    let mut facts = AskFacts {
        asker: Direct::NONE,
        deadline: now.saturating_add(span_nanos.unwrap_or(ASK_WAIT_NANOS)),
        chain: None,
        message,
    };
    let running = RUNNING.get();
    let Some(head) = head().filter(|head| Arc::ptr_eq(&head.system, system)) else { return facts };
    if !running.handler {
        // A task of an actor waits by itself; the actor goes on.
        return facts;
    }
    facts.asker = head.place();
    // SAFETY: this is called from the handler that the runner of `head` polls.
    if let Some(slot) = unsafe { head.current() }.reply.slot() {
        let ours = slot.facts();
        facts.deadline = facts.deadline.min(ours.deadline);
        if !ours.asker.is_none() {
            facts.chain = Some(Arc::new(Chain { place: ours.asker, up: ours.chain.clone() }));
        }
    }
    facts
}

/// What becomes of a message or reply that is sent now, by an actor that bears a global name, while the gate is shut: another
/// host may bear the name by now. Nothing of anybody else, or while the gate is open.
pub(crate) fn fenced(may_have_run: bool) -> Option<Error> {
    let head = head().filter(|head| head.identity.is_some() && !head.system.gate.is_open())?;
    let text = format!("{}: its host's lease was not renewed in time", head.label());
    Some(Error::Fenced { text, may_have_run })
}

/// How long an ask waits where nothing else is said.
const ASK_WAIT_NANOS: u64 = odeon_protocol::limits::ASK_WAIT.as_nanos() as u64;

/// Counts a tell; whether the sender should let others run first.
pub(crate) fn spend() -> bool {
    let spent = SPENT.get() + 1;
    SPENT.set(if spent > BUDGET { 0 } else { spent });
    spent > BUDGET
}

/// The reply that the running handler owes, if it runs for that actor.
pub(crate) fn take_reply(head: &Head) -> ReplyHandle {
    // SAFETY: called through `ctx`, which only the running handler of this actor has.
    std::mem::take(&mut unsafe { head.current() }.reply)
}

/// Who sent the message that the running handler of that actor has.
pub(crate) fn sender(head: &Head) -> Option<Address> {
    // SAFETY: called through `ctx`, as above; the reference ends with the expression.
    match unsafe { &head.current().origin } {
        Origin::Outside { .. } => None,
        Origin::Local(sender) => Some(match head.system.registry.get(sender.serial()) {
            Some(cell) => cell.head().address(),
            None => Address::Direct(head.system.place(sender.serial())),
        }),
        Origin::Remote(remote) => Some(remote.from().clone()),
    }
}

/// Until when the asker of the message that the running handler has will wait.
pub(crate) fn deadline(head: &Head) -> Option<u64> {
    // SAFETY: as above.
    unsafe { head.current() }.reply.slot().map(|slot| slot.facts().deadline)
}
