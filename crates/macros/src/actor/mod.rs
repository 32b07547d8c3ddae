//! `#[actor]`: reads the attribute and the block, writes the traits' implementations.
//!
//! | file | what |
//! |---|---|
//! | [`options`] | what stands in the attribute |
//! | [`block`] | what stands in the block: hooks and handlers |
//! | [`life`] | writes `impl Actor` |
//! | [`calls`] | writes `impl Handler`, the methods of references, the table in the documentation |

mod block;
mod calls;
mod life;
mod options;

use crate::errors::Errors;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemImpl, Type};

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let block = match parse_block(&item) {
        Ok(block) => block,
        Err(error) => return crate::data::with_item(&item, &error),
    };
    let options = options::Options::parse(attribute, &mut errors);
    let block = block::Block::read(block, &mut errors);
    let (life, calls) = (life::write(&options, &block), calls::write(&options, &block));
    let item = block.item();
    let errors = errors.into_tokens();
    quote! { #item #life #calls #errors }
}

/// The `impl` block of a plain struct or enum.
fn parse_block(item: &TokenStream) -> syn::Result<ItemImpl> {
    let Ok(block) = syn::parse2::<ItemImpl>(item.clone()) else {
        let text = "`#[actor]` goes on the `impl` block that holds the actor's handlers";
        return Err(syn::Error::new_spanned(first(item), text));
    };
    if let Some((_, of, _)) = &block.trait_ {
        let text = "`#[actor]` goes on a plain `impl` block; traits are implemented in blocks of their own";
        return Err(syn::Error::new_spanned(of, text));
    }
    if !block.generics.params.is_empty() {
        let text = "an actor's type has one name for the whole convention, so it cannot be generic";
        return Err(syn::Error::new_spanned(&block.generics, text));
    }
    match &*block.self_ty {
        Type::Path(path)
            if path.qself.is_none() && path.path.segments.last().is_some_and(|last| last.arguments.is_empty()) =>
        {
            Ok(block)
        }
        other => Err(syn::Error::new_spanned(other, "an actor is a struct or an enum without generics")),
    }
}

fn first(item: &TokenStream) -> TokenStream {
    item.clone().into_iter().take(1).collect()
}
