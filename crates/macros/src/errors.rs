//! Collects mistakes, so that all of a block are reported at once and the rest is still written.

use proc_macro2::TokenStream;
use syn::spanned::Spanned;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Adds a mistake at these tokens.
    pub(crate) fn at(&mut self, tokens: &impl quote::ToTokens, text: impl std::fmt::Display) {
        self.0.push(syn::Error::new_spanned(tokens, text));
    }

    /// Adds a mistake at the beginning of these tokens: shorter to underline than a whole function.
    pub(crate) fn start_of(&mut self, tokens: &impl Spanned, text: impl std::fmt::Display) {
        self.0.push(syn::Error::new(tokens.span(), text));
    }

    /// Adds what a parser found, and goes on without the value.
    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// The mistakes as code that does not compile.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.iter().map(syn::Error::to_compile_error).collect()
    }
}
