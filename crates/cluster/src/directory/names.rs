//! The life of a name: claimed, started, stopped, lost, claimed again.
//!
//! ```text
//!            Claim                Started
//!   (free) ────────▶ starting ───────────▶ live
//!      ▲  StartFailed   │ ▲                 │ │
//!      ├────────────────┘ │ Claim           │ │ Released, dormant
//!      │  Released        ├── dormant ◀─────┼─┘
//!      ├──────────────────┼─────────────────┤
//!                         └── unplaced ◀────┘ LeaseLost, HostDead, BootStarted, Leave; GivenUp
//! ```

use super::{Answer, Change, Claim, Decision, Declaration, Denied, Directory, NameRecord, NameState, Standing};
use odeon_protocol::{
    address::check_name,
    limits::{ARGS_BYTES_MAX, HOST_NAME_BYTES_MAX, NAMES_MAX, REQUIREMENT_BYTES_MAX, TYPE_NAME_BYTES_MAX},
    planted::{self, Fault},
};
use std::sync::Arc;

pub(super) fn type_mismatch(record: &NameRecord, claim: &Claim) -> Answer {
    Answer::TypeMismatch {
        name: record.name.clone(),
        has: record.declaration.type_name.clone(),
        wanted: claim.declaration.type_name.clone(),
    }
}

fn changed(record: Option<&NameRecord>) -> Decision {
    Decision::unchanged(Answer::Changed { record: record.cloned().map(Box::new) })
}

impl Directory {
    pub(super) fn claim(&self, claim: &Claim) -> Result<Decision, Denied> {
        if let Some(answer) = self.answered_before(claim) {
            return Ok(Decision::unchanged(answer));
        }
        check_texts(&claim.name, &claim.declaration)?;
        self.check_holder(claim)?;
        let Some(record) = self.name(&claim.name) else {
            if claim.epoch_seen != 0 {
                return Ok(changed(None));
            }
            if self.state.names.len() >= NAMES_MAX {
                return Err(Denied::TooMany { what: "global names".to_owned(), max: NAMES_MAX as u64 });
            }
            return Ok(self.grant_new(claim));
        };
        if record.declaration.type_name != claim.declaration.type_name {
            return Ok(Decision::unchanged(type_mismatch(record, claim)));
        }
        let follows = claim.epoch_seen == record.epoch;
        Ok(match record.state {
            NameState::Starting | NameState::Live if follows && record.host == claim.holder.node => {
                self.grant_again(claim)
            }
            NameState::Starting | NameState::Live => Decision::unchanged(Answer::Held(Box::new(record.clone()))),
            NameState::Dormant | NameState::Unplaced | NameState::GivenUp
                if follows || (claim.epoch_seen == 0 && record.declaration.same_actor(&claim.declaration)) =>
            {
                self.grant_again(claim)
            }
            NameState::Dormant | NameState::Unplaced | NameState::GivenUp => changed(Some(record)),
        })
    }

    /// Whether the claimant's agent may hold names at all.
    fn check_holder(&self, claim: &Claim) -> Result<(), Denied> {
        let node = claim.holder.node;
        let member = self.member(node).ok_or(Denied::NotMember(node))?;
        match member.standing {
            Standing::In => {}
            Standing::Left => return Err(Denied::NotMember(node)),
            Standing::Evicted => return Err(Denied::Evicted { name: member.name.clone(), node }),
        }
        if member.boot != claim.holder.boot || member.dead {
            return Err(Denied::BootOver { node, boot: claim.holder.boot });
        }
        if member.generation != claim.generation {
            return Err(Denied::LeaseOver { node, generation: claim.generation });
        }
        if !member.hosts_actors() {
            return Err(Denied::NoActors(member.name.clone()));
        }
        Ok(())
    }

    fn grant_new(&self, claim: &Claim) -> Decision {
        let epoch = self.state.epoch + 1;
        let record = NameRecord {
            name: claim.name.clone(),
            declaration: claim.declaration.clone(),
            state: NameState::Starting,
            holder: Some(claim.holder),
            host: claim.holder.node,
            epoch,
        };
        Decision { answer: Answer::Granted { epoch }, changes: vec![Change::Name(Box::new(record))] }
    }

    /// Grants a known name anew; it keeps its declaration.
    fn grant_again(&self, claim: &Claim) -> Decision {
        let planted = planted::is(Fault::EpochNotRaised).then(|| self.name(&claim.name).map(|record| record.epoch));
        let epoch = planted.flatten().unwrap_or(self.state.epoch + 1);
        let change = Change::NameMoved {
            name: claim.name.clone(),
            state: NameState::Starting,
            holder: Some(claim.holder),
            epoch,
        };
        Decision { answer: Answer::Granted { epoch }, changes: vec![change] }
    }

    pub(super) fn started(&self, name: &Arc<str>, epoch: u64) -> Decision {
        match self.name(name) {
            Some(record) if record.epoch == epoch && record.state == NameState::Starting => {
                Decision::done(vec![moved(record, NameState::Live)])
            }
            Some(record) if record.epoch == epoch && record.state == NameState::Live => Decision::done(Vec::new()),
            record => changed(record),
        }
    }

    pub(super) fn start_failed(&self, name: &Arc<str>, epoch: u64) -> Decision {
        match self.name(name) {
            Some(record) if record.epoch == epoch && record.state == NameState::Starting => {
                Decision::done(vec![Change::NameGone(name.clone())])
            }
            None => Decision::done(Vec::new()),
            record => changed(record),
        }
    }

    pub(super) fn released(&self, name: &Arc<str>, epoch: u64, dormant: bool) -> Decision {
        match self.name(name) {
            // An unplaced name stays: its host may have stopped the actor only because it lost the lease.
            Some(record) if record.epoch == epoch && record.holder.is_some() => Decision::done(vec![if dormant {
                moved(record, NameState::Dormant)
            } else {
                Change::NameGone(name.clone())
            }]),
            Some(record) if record.epoch == epoch && dormant && record.state == NameState::Dormant => {
                Decision::done(Vec::new())
            }
            None if !dormant => Decision::done(Vec::new()),
            record => changed(record),
        }
    }

    pub(super) fn given_up(&self, name: &Arc<str>, epoch: u64) -> Decision {
        match self.name(name) {
            Some(record) if record.epoch == epoch && record.holder.is_some() => {
                Decision::done(vec![moved(record, NameState::GivenUp)])
            }
            Some(record) if record.epoch == epoch && record.state.is_unplaced() => Decision::done(Vec::new()),
            record => changed(record),
        }
    }
}

/// The same grant in another state; only a starting or live name has a holder.
fn moved(record: &NameRecord, state: NameState) -> Change {
    let holder = record.holder.filter(|_| matches!(state, NameState::Starting | NameState::Live));
    Change::NameMoved { name: record.name.clone(), state, holder, epoch: record.epoch }
}

fn check_texts(name: &str, declaration: &Declaration) -> Result<(), Denied> {
    check_name(name).map_err(|why| Denied::BadName(why.to_string()))?;
    let policy = &declaration.policy;
    let on = declaration.on.as_deref().unwrap_or_default();
    check_size("the type's name", declaration.type_name.len(), TYPE_NAME_BYTES_MAX)?;
    check_size("the actor's list of arguments", declaration.args.len(), ARGS_BYTES_MAX)?;
    check_size("the requirement", policy.requires.len(), REQUIREMENT_BYTES_MAX)?;
    check_size("the host's name", on.len(), HOST_NAME_BYTES_MAX)
}

pub(super) fn check_size(what: &str, size: usize, max: usize) -> Result<(), Denied> {
    if size <= max {
        return Ok(());
    }
    Err(Denied::TooBig { what: what.to_owned(), size: size as u64, max: max as u64 })
}
