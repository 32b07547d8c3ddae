//! Who belongs: founding, joining, boots, leaving, being evicted, losing the lease.

use super::{
    Answer, Change, Convention, Decision, Denied, Directory, Joiner, Member, Role, Standing, TokenId, names::check_size,
};
use odeon_protocol::{
    Boot, NodeId,
    limits::{DIAL_BYTES_MAX, FORMER_MEMBERS_KEPT, HOST_NAME_BYTES_MAX, HOSTS_MAX},
};

impl Directory {
    pub(super) fn found(&self, convention: &Convention, founder: &Joiner) -> Result<Decision, Denied> {
        if let Some(founded) = &self.state.convention {
            return match self.member(founder.node) {
                Some(member) if founded == convention && member.key_hash == founder.key_hash => Ok(admitted(member)),
                _ => Err(Denied::Founded(founded.id)),
            };
        }
        check_joiner(founder)?;
        let member = Member { role: Role::Voter, ..new_member(founder) };
        Ok(Decision {
            answer: Answer::Admitted(Box::new(member.clone())),
            changes: vec![Change::Founded(convention.clone()), Change::Member(Box::new(member))],
        })
    }

    pub(super) fn admit(&self, token: TokenId, joiner: &Joiner, now: u64) -> Result<Decision, Denied> {
        check_joiner(joiner)?;
        let known = self.member(joiner.node);
        if known.is_some_and(|member| member.key_hash != joiner.key_hash) {
            return Err(Denied::KeyDiffers(joiner.node));
        }
        if let Some(other) = self
            .members()
            .find(|member| member.standing == Standing::In && member.name == joiner.name && member.node != joiner.node)
        {
            return Err(Denied::HostNameTaken { name: joiner.name.clone(), node: other.node });
        }
        if let Some(member) = known.filter(|member| member.standing == Standing::Evicted) {
            return Err(evicted(member));
        }
        self.check_level(&joiner.name, joiner.level)?;
        match known {
            Some(member) if member.standing == Standing::In => self.admit_again(member, joiner),
            former => self.admit_by_token(former, token, joiner, now),
        }
    }

    /// A member repeats its join, or comes again with its old key: that costs no use of a token.
    fn admit_again(&self, member: &Member, joiner: &Joiner) -> Result<Decision, Denied> {
        let mut changes = self.new_boot(member, (joiner.boot, joiner.level), &joiner.address)?;
        if member.name == joiner.name {
            let now = changed_member(&changes).unwrap_or(member).clone();
            return Ok(Decision { answer: Answer::Admitted(Box::new(now)), changes });
        }
        let renamed = Member { name: joiner.name.clone(), ..changed_member(&changes).unwrap_or(member).clone() };
        changes.push(Change::Member(Box::new(renamed.clone())));
        Ok(Decision { answer: Answer::Admitted(Box::new(renamed)), changes })
    }

    fn admit_by_token(
        &self,
        former: Option<&Member>,
        token: TokenId,
        joiner: &Joiner,
        now: u64,
    ) -> Result<Decision, Denied> {
        let used = self.use_token(token, joiner.role, now)?;
        if self.members().filter(|member| member.standing == Standing::In).count() >= HOSTS_MAX {
            return Err(Denied::TooMany { what: "members".to_owned(), max: HOSTS_MAX as u64 });
        }
        if former.is_some_and(|former| joiner.boot <= former.boot) {
            return Err(Denied::BootOver { node: joiner.node, boot: joiner.boot });
        }
        let generation = former.map_or(1, |former| former.generation + 1);
        let member = Member { generation, ..new_member(joiner) };
        let mut changes = vec![Change::Member(Box::new(member.clone()))];
        changes.extend(used);
        Ok(Decision { answer: Answer::Admitted(Box::new(member)), changes })
    }

    pub(super) fn boot_started(
        &self,
        node: NodeId,
        (boot, level): (Boot, u16),
        address: &str,
    ) -> Result<Decision, Denied> {
        check_size("the address", address.len(), DIAL_BYTES_MAX)?;
        let member = self.member(node).ok_or(Denied::NotMember(node))?;
        match member.standing {
            Standing::In => {}
            Standing::Left => return Err(Denied::NotMember(node)),
            Standing::Evicted => return Err(evicted(member)),
        }
        self.check_level(&member.name, level)?;
        let changes = self.new_boot(member, (boot, level), address)?;
        let generation = changed_member(&changes).unwrap_or(member).generation;
        Ok(Decision { answer: Answer::Booted { generation }, changes })
    }

    /// What a boot of a member changes; nothing if it is known already.
    fn new_boot(&self, member: &Member, (boot, level): (Boot, u16), address: &str) -> Result<Vec<Change>, Denied> {
        if boot < member.boot || (boot == member.boot && member.dead) {
            return Err(Denied::BootOver { node: member.node, boot });
        }
        let address = address.to_owned();
        if boot > member.boot {
            let member = Member { boot, dead: false, address, level, ..member.clone() };
            return Ok(self.take_names(member));
        }
        if member.address == address && member.level == level {
            return Ok(Vec::new());
        }
        Ok(vec![Change::Member(Box::new(Member { address, level, ..member.clone() }))])
    }

    pub(super) fn leave(&self, node: NodeId) -> Result<Decision, Denied> {
        let member = self.member(node).ok_or(Denied::NoSuchHost(node))?;
        if member.standing != Standing::In {
            return Ok(Decision::done(Vec::new()));
        }
        let mut changes = self.take_names(Member { standing: Standing::Left, dead: true, ..member.clone() });
        changes.extend(self.forget_former(node));
        Ok(Decision::done(changes))
    }

    /// Keeps the member out. Its names stay its own until the lease has run out: it may not know yet.
    pub(super) fn evict(&self, node: NodeId) -> Result<Decision, Denied> {
        let member = self.member(node).ok_or(Denied::NoSuchHost(node))?;
        if member.standing == Standing::Evicted {
            return Ok(Decision::done(Vec::new()));
        }
        let evicted = Member { standing: Standing::Evicted, ..member.clone() };
        let mut changes = vec![Change::Member(Box::new(evicted))];
        changes.extend(self.forget_former(node));
        Ok(Decision::done(changes))
    }

    pub(super) fn lease_lost(&self, node: NodeId, generation: u64) -> Decision {
        match self.member(node) {
            Some(member) if member.generation == generation => Decision::done(self.take_names(member.clone())),
            _ => Decision::done(Vec::new()),
        }
    }

    pub(super) fn host_dead(&self, node: NodeId, boot: Boot) -> Decision {
        match self.member(node) {
            Some(member) if member.boot == boot && !member.dead => {
                Decision::done(self.take_names(Member { dead: true, ..member.clone() }))
            }
            _ => Decision::done(Vec::new()),
        }
    }

    /// The member as given but under a new lease generation, and its names unplaced.
    fn take_names(&self, member: Member) -> Vec<Change> {
        let node = member.node;
        let member = Member { generation: member.generation + 1, ..member };
        let mut changes = vec![Change::Member(Box::new(member))];
        if self.names_held(node) > 0 {
            changes.push(Change::Unplaced(node));
        }
        changes
    }

    /// Makes room when one more is about to be former: first those that left, the longest gone first.
    fn forget_former(&self, but: NodeId) -> Option<Change> {
        let former = || {
            self.members().filter(move |member| {
                member.node != but && member.standing != Standing::In && self.names_held(member.node) == 0
            })
        };
        if former().count() < FORMER_MEMBERS_KEPT {
            return None;
        }
        let oldest = former().min_by_key(|member| (member.standing, member.boot, member.node))?;
        Some(Change::MemberGone(oldest.node))
    }
}

fn admitted(member: &Member) -> Decision {
    Decision::unchanged(Answer::Admitted(Box::new(member.clone())))
}

fn evicted(member: &Member) -> Denied {
    Denied::Evicted { name: member.name.clone(), node: member.node }
}

fn changed_member(changes: &[Change]) -> Option<&Member> {
    changes.iter().rev().find_map(|change| match change {
        Change::Member(member) => Some(&**member),
        _ => None,
    })
}

pub(super) fn new_member(joiner: &Joiner) -> Member {
    Member {
        node: joiner.node,
        name: joiner.name.clone(),
        role: joiner.role,
        witness: joiner.witness,
        key_hash: joiner.key_hash,
        address: joiner.address.clone(),
        boot: joiner.boot,
        dead: false,
        generation: 1,
        standing: Standing::In,
        level: joiner.level,
    }
}

pub(super) fn check_joiner(joiner: &Joiner) -> Result<(), Denied> {
    check_size("the host's name", joiner.name.len(), HOST_NAME_BYTES_MAX)?;
    check_size("the address", joiner.address.len(), DIAL_BYTES_MAX)?;
    if joiner.name.is_empty() || joiner.name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Denied::BadName(format!(
            "{:?} is no host name: use letters, digits, dots and hyphens, for example --name eu-1",
            joiner.name
        )));
    }
    Ok(())
}
