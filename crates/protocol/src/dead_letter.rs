//! A message that came back, as those hear of it who listen for such messages on any host.

use crate::{
    address::{Address, Direct},
    frame::{Codec, Frame, flags},
    limits::{DEAD_LETTER_BODY_BYTES, DEAD_LETTER_TEXT_BYTES, TYPE_NAME_BYTES_MAX},
    reason::Reason,
};
use serde::{Deserialize, Serialize};

/// A message that came back: it is known not to have been handled, or it was told and its handler failed. Or several that
/// were lost with their receiver's process or host; see [`DeadLetter::count`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The host where it came back, by name.
    pub host: String,
    /// Who sent it.
    pub from: Address,
    /// Whom it was for.
    pub to: Address,
    /// The message's name, `poll.Response`; `#` and its type id in hexadecimal where nobody on the way knows the name;
    /// nothing if all that is known of it is [`DeadLetter::count`].
    pub message: String,
    /// FNV-1a of the message's whole name; 0 if it was sent by its name, as JSON.
    pub type_id: u64,
    /// Why it came back.
    pub reason: Reason,
    /// Why it came back, in words; at most 1 KiB.
    pub text: String,
    /// Whether its handler may have run.
    pub may_have_run: bool,
    /// How the body is written; [`Codec::Raw`] if the handler had the message, so that no body is left.
    pub codec: Codec,
    /// The body's first 4 KiB.
    pub body: Vec<u8>,
    /// How long the body is, in bytes.
    pub body_bytes: u64,
    /// How many others came back since the last letter and are not told of: too many came at once.
    pub missed: u64,
    /// How many messages it stands for: 1, but for those of one sender that were lost with their receiver's process or host.
    /// They may have run, and nothing else is known of them.
    #[serde(default = "one")]
    pub count: u32,
}

impl DeadLetter {
    /// What a frame of kind `Returned` says, on its way to its sender on that host.
    #[must_use]
    pub fn of_frame(frame: &Frame, host: &str) -> Self {
        let header = &frame.header;
        let (reason, text) = frame.reason().unwrap_or((Reason::Protocol, "no reason was given"));
        let address = |name: Option<&str>, place: Direct, starts| match name {
            Some(name) => Address::named(name, starts),
            None => Address::Direct(place),
        };
        let body = frame.body();
        Self {
            host: host.to_owned(),
            from: address(frame.from_name(), header.to, false),
            to: frame
                .troupe()
                .map_or_else(|| address(frame.to_name(), header.from, header.has(flags::STARTS)), Address::Troupe),
            message: frame.message_name().map_or_else(|| unnamed(header.type_id), str::to_owned),
            type_id: header.type_id,
            reason,
            text: text.to_owned(),
            may_have_run: header.has(flags::MAY_HAVE_RUN),
            codec: header.codec,
            body_bytes: body.len() as u64,
            body: body[..body.len().min(DEAD_LETTER_BODY_BYTES)].to_vec(),
            missed: 0,
            count: 1,
        }
    }

    /// Whether [`DeadLetter::body`] is only the beginning of it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        (self.body.len() as u64) < self.body_bytes
    }

    /// Whether nobody on the way knew the message's name.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.message == unnamed(self.type_id)
    }

    /// How many messages are not told of if this letter is not.
    #[must_use]
    pub fn stands_for(&self) -> u64 {
        self.missed.saturating_add(u64::from(self.count))
    }

    /// The same within its limits: what is longer is cut.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.body_bytes = self.body_bytes.max(self.body.len() as u64);
        self.body.truncate(DEAD_LETTER_BODY_BYTES);
        cut(&mut self.text, DEAD_LETTER_TEXT_BYTES);
        cut(&mut self.message, TYPE_NAME_BYTES_MAX);
        self.count = self.count.max(1);
        if self.message.is_empty() && self.type_id != 0 {
            self.message = unnamed(self.type_id);
        }
        self
    }
}

fn unnamed(type_id: u64) -> String {
    format!("#{type_id:016x}")
}

fn one() -> u32 {
    1
}

fn cut(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{Extension, Header, Kind},
        id::{Boot, NodeId, Serial},
    };

    fn place(serial: u64) -> Direct {
        Direct { node: NodeId(1), boot: Boot(2), serial: Serial(serial) }
    }

    #[test]
    fn a_returned_frame_says_it_all() {
        let header = Header {
            to: place(3),
            from: place(4),
            type_id: 0xfeed,
            codec: Codec::Postcard,
            flags: flags::MAY_HAVE_RUN,
            ..Header::new(Kind::Returned)
        };
        let reason = Extension::Reason { reason: Reason::Failed, text: "no" };
        let letter = DeadLetter::of_frame(&Frame::new(header, &[reason, Extension::To("n")], &[7; 5000]), "eu-1");
        assert_eq!((letter.from.clone(), letter.to.clone()), (place(3).into(), Address::named("n", false)));
        assert_eq!((letter.reason, &*letter.text, letter.may_have_run), (Reason::Failed, "no", true));
        assert_eq!((&*letter.message, letter.is_unnamed(), &*letter.host), ("#000000000000feed", true, "eu-1"));
        assert_eq!((letter.body.len(), letter.body_bytes, letter.is_cut()), (DEAD_LETTER_BODY_BYTES, 5000, true));
        assert_eq!(letter.clone().bounded(), letter);
        let named = DeadLetter::of_frame(&Frame::new(header, &[Extension::Message("t.Add")], b"{}"), "eu-1");
        assert_eq!((&*named.message, named.is_unnamed(), named.is_cut()), ("t.Add", false, false));
        assert_eq!(named.to, place(4).into());
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let frame = Frame::new(Header::new(Kind::Returned), &[], b"");
        let mut letter = DeadLetter::of_frame(&frame, "");
        letter.text = "é".repeat(2000);
        letter.body = vec![1; 9000];
        letter.count = 0;
        let letter = letter.bounded();
        assert_eq!((letter.count, letter.stands_for()), (1, 1));
        assert_eq!(letter.text.len(), DEAD_LETTER_TEXT_BYTES);
        assert_eq!((letter.body.len(), letter.body_bytes), (DEAD_LETTER_BODY_BYTES, 9000));
    }
}
