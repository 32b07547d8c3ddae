//! See [`crate::fuzz`].

pub(crate) use super::lanes::fuzz::lanes;
use super::{greeting::Greeting, message};
use odeon_protocol::limits::CONTROL_BYTES_MAX;

pub(crate) fn greeting(bytes: &[u8]) {
    let Ok(greeting) = Greeting::read(bytes) else { return };
    let written = greeting.write();
    assert!(written.len() <= bytes.len(), "the shortest form is written");
    assert_eq!(Greeting::read(&written), Ok(greeting));
}

pub(crate) fn message_head(bytes: &[u8]) {
    let Some(&head) = bytes.first_chunk() else { return };
    if let Ok((kind, length)) = message::read_head(head, CONTROL_BYTES_MAX) {
        assert!(length <= CONTROL_BYTES_MAX);
        let again = message::write_head(kind, length);
        assert!(again.is_ok_and(|again| again == head));
    }
}
