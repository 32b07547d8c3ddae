//! The attribute: the type's name, and what it declares about itself.

use crate::{
    attribute::{check_name, duration, value},
    errors::Errors,
};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Ident, LitInt, LitStr, Token,
    meta::ParseNestedMeta,
    parse::{ParseStream, Parser},
};

/// What stands in `#[actor(..)]`.
pub(crate) struct Options {
    /// The type's name; empty after a mistake.
    pub(crate) name: String,
    /// Calls on `Options::default()`.
    pub(crate) calls: TokenStream,
}

impl Options {
    pub(crate) fn parse(attribute: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self { name: String::new(), calls: TokenStream::new() };
        let read = |input: ParseStream<'_>| options.read(input, errors);
        let parsed = read.parse2(attribute);
        errors.take(parsed);
        options
    }

    fn read(&mut self, input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
        if !input.peek(LitStr) {
            return Err(input.error("an actor's type needs a name first, like `#[actor(\"poll.question\")]`"));
        }
        let name: LitStr = input.parse()?;
        check_name(&name, errors);
        self.name = name.value();
        if input.is_empty() {
            return Ok(());
        }
        input.parse::<Token![,]>()?;
        let rest: TokenStream = input.parse()?;
        syn::meta::parser(|meta| self.option(&meta)).parse2(rest)
    }

    fn option(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        let call = match word.as_str() {
            "on_stop" => on_stop(meta)?,
            "restart" => restart(meta)?,
            "troupe" => troupe(meta)?,
            "mailbox" => {
                let messages: LitInt = value(meta)?;
                if messages.base10_parse::<u32>()? == 0 {
                    return Err(syn::Error::new_spanned(messages, "a mailbox has room for one message at least"));
                }
                quote!(.mailbox(#messages))
            }
            "blocking" => quote!(.blocking()),
            "isolation" => isolation(meta)?,
            "stops" => stops(meta)?,
            "requires" => {
                let requirement: LitStr = value(meta)?;
                quote!(.requires(#requirement))
            }
            _ => {
                return Err(meta.error(
                    "`#[actor]` takes, after the name: `on_stop = dormant`, `restart(max = 3, within = \"10s\")`, \
                     `troupe(max = 16, idle = 2)`, `mailbox = 256`, `blocking`, `isolation = \"process\"`, \
                     `requires = \"gpu >= 1\"`, `stops = last`",
                ));
            }
        };
        self.calls.extend(call);
        Ok(())
    }
}

fn on_stop(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let what: Ident = value(meta)?;
    match what.to_string().as_str() {
        "free" => Ok(quote!(.on_stop(::odeon::OnStop::Free))),
        "dormant" => Ok(quote!(.on_stop(::odeon::OnStop::Dormant))),
        _ => Err(syn::Error::new_spanned(what, "`on_stop` is `free` or `dormant`")),
    }
}

fn stops(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let when: Ident = value(meta)?;
    match when.to_string().as_str() {
        "last" => Ok(quote!(.stops_last())),
        _ => Err(syn::Error::new_spanned(when, "`stops` is `last`; leave it out to stop with the others")),
    }
}

fn restart(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let (mut max, mut within) = (None, None);
    meta.parse_nested_meta(|inner| {
        if inner.path.is_ident("max") {
            max = Some(value::<LitInt>(&inner)?);
        } else if inner.path.is_ident("within") {
            within = Some(duration(&value(&inner)?)?);
        } else {
            return Err(inner.error("`restart` takes `max = 3` and `within = \"10s\"`"));
        }
        Ok(())
    })?;
    let (Some(max), Some(within)) = (max, within) else {
        return Err(meta.error("`restart` needs both: `restart(max = 3, within = \"10s\")`"));
    };
    let Ok(millis) = u64::try_from(within.as_millis()) else {
        return Err(meta.error("`within` is too long"));
    };
    Ok(quote!(.restart(#max, ::core::time::Duration::from_millis(#millis))))
}

fn troupe(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let (mut max, mut idle) = (None, None);
    meta.parse_nested_meta(|inner| {
        if inner.path.is_ident("max") {
            max = Some(value::<LitInt>(&inner)?);
        } else if inner.path.is_ident("idle") {
            idle = Some(value::<LitInt>(&inner)?);
        } else {
            return Err(inner.error("`troupe` takes `max = 16` and `idle = 2`"));
        }
        Ok(())
    })?;
    let Some(max) = max else {
        return Err(meta.error("`troupe` needs the largest number of members: `troupe(max = 16)`"));
    };
    if max.base10_parse::<u32>()? == 0 {
        return Err(syn::Error::new_spanned(max, "a troupe has one member at least"));
    }
    let idle = idle.map_or_else(|| quote!(1), |idle| quote!(#idle));
    Ok(quote!(.troupe(#max, #idle)))
}

fn isolation(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let what: LitStr = value(meta)?;
    match what.value().as_str() {
        "process" => Ok(quote!(.own_process())),
        _ => Err(syn::Error::new_spanned(what, "`isolation` is \"process\"; leave it out to share the worker")),
    }
}
