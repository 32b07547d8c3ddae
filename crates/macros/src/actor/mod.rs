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

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attribute: &str, block: &str) -> syn::File {
        let written = expand(attribute.parse().unwrap(), block.parse().unwrap());
        syn::parse2(written).unwrap()
    }

    /// All texts of `#[doc]` in what is written.
    fn docs(file: &syn::File) -> String {
        struct Docs(String);
        impl<'ast> syn::visit::Visit<'ast> for Docs {
            fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
                if let syn::Meta::NameValue(syn::MetaNameValue { path, value: syn::Expr::Lit(text), .. }) =
                    &attribute.meta
                    && path.is_ident("doc")
                    && let syn::Lit::Str(text) = &text.lit
                {
                    self.0.push_str(&text.value());
                    self.0.push('\n');
                }
            }
        }
        let mut docs = Docs(String::new());
        syn::visit::Visit::visit_file(&mut docs, file);
        docs.0
    }

    #[test]
    fn the_table_says_what_the_actor_takes_and_replies() {
        let written = expanded(
            r#""poll.question", on_stop = dormant"#,
            "impl Question {
                /// Counts it.
                fn count(&mut self, response: Response) {}
                async fn analytics(&mut self, _: poll::Analytics, ctx: &mut Context<Self>) -> odeon::Result<Vec<Tally>> {}
                fn save(&mut self, _: Save) -> odeon::Result {}
                fn pass_on(&mut self, _: PassOn) -> Result<Forwarded, String> {}
            }",
        );
        let docs = docs(&written);
        for line in [
            "| [`count`](Self::count) | `Response` | nothing |",
            "| [`analytics`](Self::analytics) | `poll::Analytics` | `Vec<Tally>` |",
            "| [`save`](Self::save) | `Save` | nothing |",
            "| [`pass_on`](Self::pass_on) | `PassOn` | what the actor replies to which it is forwarded |",
            "| `count` | `Response` | nothing |",
        ] {
            assert!(docs.contains(line), "{line}\nis not in\n{docs}");
        }
        assert_eq!(docs.matches("Counts it.").count(), 2, "a handler's documentation is copied to its method");
    }

    #[test]
    fn after_a_mistake_the_rest_is_still_written() {
        let block = "impl Question { fn helper(&self) {} fn count(&mut self, response: Response) {} }";
        let written = quote::ToTokens::to_token_stream(&expanded(r#""poll.question""#, block)).to_string();
        assert!(written.contains("compile_error"), "{written}");
        assert!(written.contains("Handler < Response > for Question"), "{written}");
    }
}
