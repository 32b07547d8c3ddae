//! Writes what senders see: a `Handler` for each handler, a method for each on references, and the table of them.

use super::{
    block::{Block, Handler, output_span},
    life::{awaited, located, passed},
    options::Options,
};
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{GenericArgument, PathArguments, ReturnType, Type, spanned::Spanned};

pub(super) fn write(options: &Options, block: &Block) -> TokenStream {
    let (actor, name) = (block.actor(), block.actor_name());
    let calls = format_ident!("{name}Calls");
    let implementations = block.handlers.iter().map(|handler| implementation(handler, actor));
    let methods = block.handlers.iter().map(|handler| method(handler, actor));
    let (title, table) = (
        format!("What `{name}`, the actor type `{}`, takes: the methods of its references.", options.name),
        table(block, true),
    );
    let decoys = decoys(block);
    quote! {
        #(#implementations)*
        #(#decoys)*

        #[doc = #title]
        #[doc = ""]
        #[doc = #table]
        #[derive(Clone, Debug)]
        #[allow(unreachable_pub, private_interfaces, reason = "as visible as the actor, which the macro cannot see")]
        pub struct #calls(::odeon::hidden::RawRef);

        #[allow(dead_code, unreachable_pub, private_interfaces, reason = "whoever sends uses what it needs")]
        impl #calls {
            #(#methods)*
        }

        #[automatically_derived]
        impl ::odeon::Calls<#actor> for #calls {
            fn new(raw: ::odeon::hidden::RawRef) -> Self {
                Self(raw)
            }
            fn raw(&self) -> &::odeon::hidden::RawRef {
                &self.0
            }
        }
    }
}

fn implementation(handler: &Handler, actor: &Type) -> TokenStream {
    let Handler { name, is_async, message, ctx, output, .. } = handler;
    let conditions = handler.conditions();
    let context = syn::Ident::new("ctx", Span::call_site());
    let parameter = syn::Ident::new("message", Span::call_site());
    let given = syn::Ident::new("message", located(message.span()));
    let (passed, wait) = (passed(*ctx), awaited(*is_async, name.span()));
    let call = quote_spanned!(located(name.span())=> Self::#name(self, #given, #passed)#wait);
    let outcome = quote_spanned! {located(output_span(output, name.span()))=>
        ::odeon::IntoOutcome::<<#message as ::odeon::Message>::Reply, _>::into_outcome(#call)
    };
    let interface = quote_spanned!(located(message.span())=> ::odeon::Handler<#message>);
    let handle = quote_spanned! {located(name.span())=>
        async fn handle(
            &mut self,
            #parameter: #message,
            #context: &mut ::odeon::Context<Self>,
        ) -> ::odeon::Outcome<<#message as ::odeon::Message>::Reply> {
            #outcome
        }
    };
    quote! {
        #(#conditions)*
        #[automatically_derived]
        impl #interface for #actor {
            #[allow(unused_variables, deprecated, reason = "not every handler needs it")]
            #handle
        }
    }
}

/// With one handler only, the compiler would take any message for that handler's and say that its type is wrong. Two
/// handlers of messages that nobody can make let it say what is so: the actor does not handle it.
fn decoys(block: &Block) -> impl Iterator<Item = TokenStream> {
    let handled = block.handlers.iter().filter(|handler| handler.conditions().next().is_none()).count();
    let actor = block.actor();
    let messages = [quote!(::odeon::hidden::Nothing), quote!(::odeon::hidden::NothingElse)];
    messages.into_iter().take(2usize.saturating_sub(handled)).map(move |message| {
        quote! {
            #[automatically_derived]
            #[diagnostic::do_not_recommend]
            #[doc(hidden)]
            impl ::odeon::Handler<#message> for #actor {
                async fn handle(&mut self, message: #message, _: &mut ::odeon::Context<Self>) -> ::odeon::Outcome<()> {
                    match message {}
                }
            }
        }
    })
}

fn method(handler: &Handler, actor: &Type) -> TokenStream {
    let Handler { name, message, attributes, .. } = handler;
    let documented = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
    let text = format!("Sends a `{}`.", text_of(message));
    let text = (!documented).then(|| quote!(#[doc = #text]));
    let call = quote_spanned!(located(message.span())=> ::odeon::Call<#actor, #message>);
    let bound = bound(message);
    quote! {
        #text
        #(#attributes)*
        #[doc = ""]
        #[doc = "Awaited, the call asks and answers the reply; `.tell()` only sends."]
        pub fn #name(&self, message: #message) -> #call #bound {
            self.0.call(message)
        }
    }
}

/// Says once, and at the user's type, that a message is none: equal errors are shown once.
fn bound(message: &Type) -> TokenStream {
    quote_spanned!(located(message.span())=> where #message: ::odeon::Message)
}

/// What the actor takes and replies, in Markdown.
pub(super) fn table(block: &Block, linked: bool) -> String {
    if block.handlers.is_empty() {
        return "It takes no messages.".to_owned();
    }
    let mut table = String::from("| call | takes | replies |\n|---|---|---|\n");
    for Handler { name, message, output, .. } in &block.handlers {
        let call = if linked { format!("[`{name}`](Self::{name})") } else { format!("`{name}`") };
        let (takes, replies) = (text_of(message), reply_of(output));
        table.push_str(&format!("| {call} | `{takes}` | {replies} |\n"));
    }
    table
}

fn reply_of(output: &ReturnType) -> String {
    let ReturnType::Type(_, ty) = output else { return "nothing".to_owned() };
    let ty = succeeded(ty);
    match text_of(&ty).rsplit("::").next().unwrap_or_default() {
        "()" => "nothing".to_owned(),
        "Forwarded" => "what the actor replies to which it is forwarded".to_owned(),
        "Deferred" => "later".to_owned(),
        _ => format!("`{}`", text_of(&ty)),
    }
}

/// `T` of `Result<T, ..>`, or the type itself.
fn succeeded(ty: &Type) -> Type {
    let unit = || Type::Tuple(syn::TypeTuple { paren_token: Default::default(), elems: Default::default() });
    let Type::Path(path) = ty else { return ty.clone() };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else { return ty.clone() };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return unit() };
    let first = arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    });
    first.unwrap_or_else(unit)
}

/// A type as people write it, fit for a table.
fn text_of(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    text.replace(" :: ", "::")
        .replace(" <", "<")
        .replace("< ", "<")
        .replace(" >", ">")
        .replace(" ,", ",")
        .replace('|', "\\|")
}
