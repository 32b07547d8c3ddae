//! The directory's note, for operators.

use super::{Controller, admin::AdminReply};
use odeon_protocol::control::Refusal;
use serde_json::{Value, json};

impl Controller {
    /// Writes it where the request has a text; else shows it, and how new each host's copy of the directory is.
    pub(super) fn note(&self, request: &Value, reply: AdminReply) {
        let convention = self.parts.convention.clone();
        if let Some(text) = request["text"].as_str().map(str::to_owned) {
            let kept = json!({ "note": text });
            return self.begin(async move { convention.set_note(text).await }, move |_, done| {
                reply(done.map(|()| kept).map_err(Refusal::from));
            });
        }
        let note = convention.directory(|directory| directory.note().to_owned());
        self.begin(async move { convention.copies().await }, move |_, copies| {
            let copies = copies.into_iter().map(|(name, version)| json!({ "name": name, "version": version }));
            reply(Ok(json!({ "note": note, "copies": copies.collect::<Value>() })));
        });
    }
}
