//! The line for people that the next feature level has in the directory: the pattern of what a level adds.

use super::{Change, Decision, Denied, Directory, names::check_size};

/// Bytes of the line.
const NOTE_BYTES_MAX: usize = 256;

impl Directory {
    /// The line for people; empty before there was one.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.state.note
    }

    pub(super) fn take_note(&self, text: &str) -> Result<Decision, Denied> {
        check_size("the note", text.len(), NOTE_BYTES_MAX)?;
        let changes = if text == self.state.note { Vec::new() } else { vec![Change::Noted(text.to_owned())] };
        Ok(Decision::done(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        directory::{Answer, Command},
        testing::founded,
    };

    fn note(text: &str) -> Command {
        Command::Note { text: text.to_owned() }
    }

    #[test]
    fn it_is_kept_and_followed() {
        let mut directory = founded();
        let mut copy = directory.without_secrets();
        copy.follow(&directory.apply(&note("upgraded")).delta.unwrap()).unwrap();
        assert_eq!((directory.note(), copy.note()), ("upgraded", "upgraded"));
        assert_eq!(directory.apply(&note("upgraded")).delta, None);
        let long = directory.apply(&note(&"x".repeat(NOTE_BYTES_MAX + 1))).answer;
        assert!(matches!(long, Answer::Denied(Denied::TooBig { .. })), "{long:?}");
    }

    /// As an older build writes it, and as one reads it that skips what is behind.
    #[test]
    fn a_snapshot_of_before_it_is_read() {
        let mut directory = founded();
        let before = postcard::to_stdvec(&directory).unwrap();
        directory.apply(&note("a"));
        let after = postcard::to_stdvec(&directory).unwrap();
        assert_eq!(after.len(), before.len() + 2, "nothing is written of it before it is used");
        assert_eq!(postcard::from_bytes::<Directory>(&before).unwrap().note(), "");
        assert_eq!(postcard::from_bytes::<Directory>(&after).unwrap().note(), "a");
    }
}
