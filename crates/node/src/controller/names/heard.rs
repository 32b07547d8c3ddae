//! What this agent was told of names, against what its copy of the directory says.
//!
//! Grants are told to this agent before its copy has them: what it was granted itself, and where others say that a name is.
//! Epochs grow with each grant of any name, so one number says how far a copy has to have come. A copy that has not would
//! have a name sought where it was before, by an epoch that senders' processes know to be over: they would not take their
//! messages for sent there, nor wait for them.

/// The highest epoch of any name that this agent was told of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard(u64);

impl Heard {
    /// Of a grant with that epoch.
    pub(super) fn of(&mut self, epoch: u64) {
        self.0 = self.0.max(epoch);
    }

    /// Whether a copy of the directory whose latest grant has that epoch has come as far.
    pub(super) const fn is_in(self, copy: u64) -> bool {
        copy >= self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_before_what_was_told_does_not_count() {
        let mut heard = Heard::default();
        assert!(heard.is_in(0));
        // The name was on another host under 42; then here under 45, and has stopped.
        heard.of(45);
        heard.of(42);
        assert!(!heard.is_in(44) && heard.is_in(45) && heard.is_in(50));
    }
}
