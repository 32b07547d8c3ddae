//! `#[message]`: what `#[data]` writes, and `impl Message`.

use crate::{
    attribute::{check_name, value},
    data::{Written, derive, parse_item, with_item},
    errors::Errors,
};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{LitStr, Type, ext::IdentExt, parse::Parser};

/// What stands in the attribute.
#[derive(Default)]
struct Options {
    reply: Option<Type>,
    name: Option<LitStr>,
    idempotent: bool,
    opaque: Option<LitStr>,
}

impl Options {
    fn parse(attribute: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let parsed = syn::meta::parser(|meta| {
            let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match word.as_str() {
                "reply" => options.reply = Some(value(&meta)?),
                "name" => options.name = Some(value(&meta)?),
                "idempotent" => options.idempotent = true,
                "opaque" => options.opaque = Some(value(&meta)?),
                _ => {
                    return Err(meta.error(
                        "`#[message]` takes `reply = Type`, `name = \"crate.Name\"`, `idempotent` and `opaque = \"v1\"`",
                    ));
                }
            }
            Ok(())
        })
        .parse2(attribute);
        errors.take(parsed);
        options
    }
}

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(attribute, &mut errors);
    let input = match parse_item("message", &item) {
        Ok(input) => input,
        Err(error) => return with_item(&item, &error),
    };
    if !input.generics.params.is_empty() {
        let text = "a message has one name on the wire, so it cannot be generic; a field's type can";
        return with_item(&item, &syn::Error::new_spanned(&input.generics, text));
    }
    if let Some(name) = &options.name {
        check_name(name, &mut errors);
    }
    let ident = input.ident.clone();
    let Written { item, schema, bounds } = derive(input, options.opaque.as_ref(), &mut errors);
    let short = ident.unraw().to_string();
    let name = match &options.name {
        Some(name) => quote!(#name),
        None => quote!(::core::concat!(::core::env!("CARGO_CRATE_NAME"), ".", #short)),
    };
    let reply = options.reply.map_or_else(|| quote!(()), |reply| quote!(#reply));
    let idempotent = options.idempotent.then(|| {
        quote!(
            const IDEMPOTENT: bool = true;
        )
    });
    let errors = errors.into_tokens();
    quote! {
        #item
        #schema
        #[automatically_derived]
        #[diagnostic::do_not_recommend]
        impl ::odeon::Message for #ident #bounds {
            type Reply = #reply;
            const NAME: &'static str = #name;
            #idempotent
        }
        #errors
    }
}
