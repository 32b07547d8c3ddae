//! Join tokens: made, used, revoked, forgotten once they have expired.

use super::{Change, Decision, Denied, Directory, Role, Secret, Token, TokenId};
use odeon_protocol::limits::TOKENS_MAX;

impl Directory {
    pub(super) fn create_token(&self, token: &Token, secret: &Secret, now: u64) -> Result<Decision, Denied> {
        if let Some(known) = self.token(token.id) {
            let same = (known.role, known.admin, known.expires) == (token.role, token.admin, token.expires);
            return if same && self.token_secret(token.id) == Some(secret) {
                Ok(Decision::done(Vec::new()))
            } else {
                Err(Denied::TokenTaken(token.id))
            };
        }
        let expired: Vec<TokenId> = self.tokens().filter(|old| old.expires <= now).map(|old| old.id).collect();
        if self.state.tokens.len() - expired.len() >= TOKENS_MAX {
            return Err(Denied::TooMany { what: "tokens".to_owned(), max: TOKENS_MAX as u64 });
        }
        let gone = expired.into_iter().map(Change::TokenGone);
        Ok(Decision::done(gone.chain([Change::Token(token.clone())]).collect()))
    }

    pub(super) fn revoke_token(&self, id: TokenId) -> Result<Decision, Denied> {
        self.token(id).ok_or(Denied::TokenUnknown(id))?;
        Ok(Decision::done(vec![Change::TokenGone(id)]))
    }

    /// The change that one use of a token makes, if it is good for this.
    pub(super) fn use_token(&self, id: TokenId, wanted: Role, now: u64) -> Result<Option<Change>, Denied> {
        let token = self.token(id).ok_or(Denied::TokenUnknown(id))?;
        if now >= token.expires {
            return Err(Denied::TokenExpired(id));
        }
        if !token.role.allows(wanted) {
            return Err(Denied::TokenRole { token: id, has: token.role, wanted });
        }
        match token.uses {
            None => Ok(None),
            Some(0) => Err(Denied::TokenUsedUp(id)),
            Some(uses) => Ok(Some(Change::Token(Token { uses: Some(uses - 1), ..token.clone() }))),
        }
    }
}
