//! Writes `impl Actor`: type name, options, arguments from a key, `start`, the hooks, the list of handlers.

use super::{
    block::{Block, Hook, output_span},
    options::Options,
};
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{ReturnType, Type, parse_quote, spanned::Spanned};

/// A span that reports where the user wrote something, while its names are those of the macro's other code.
pub(super) fn located(at: Span) -> Span {
    Span::call_site().located_at(at)
}

/// `.await` after a call of an `async fn`.
pub(super) fn awaited(is_async: bool, at: Span) -> Option<TokenStream> {
    is_async.then(|| quote_spanned!(located(at)=> .await))
}

/// `, ctx` where the user's function takes it.
pub(super) fn passed(ctx: Option<Span>) -> Option<TokenStream> {
    ctx.map(|at| {
        let ctx = syn::Ident::new("ctx", located(at));
        quote!(#ctx)
    })
}

pub(super) fn write(options: &Options, block: &Block) -> TokenStream {
    let (actor, calls) = (block.actor(), format_ident!("{}Calls", block.actor_name()));
    let (name, options) = (&options.name, &options.calls);
    let args = block.start.as_ref().and_then(|start| start.args.clone()).unwrap_or_else(|| parse_quote!(()));
    let start = start(block, &args);
    let hooks = block.hooks.iter().map(hook);
    let handlers = block.handlers.iter().map(|handler| {
        let (conditions, message) = (handler.conditions(), &handler.message);
        let add = quote_spanned!(located(message.span())=> table.add::<#message>(););
        quote! { #(#conditions)* #add }
    });
    let ctx = syn::Ident::new("ctx", Span::call_site());
    quote! {
        #[automatically_derived]
        impl ::odeon::Actor for #actor {
            type Args = #args;
            type Calls = #calls;
            const TYPE: &'static str = #name;

            fn options() -> ::odeon::Options {
                ::odeon::Options::default() #options
            }

            fn args_from_key(key: &str) -> ::odeon::Result<Self::Args> {
                #[allow(unused_imports, reason = "which one is used depends on the arguments")]
                use ::odeon::hidden::{ViaFromKey as _, WithoutFromKey as _};
                (&::odeon::hidden::KeyProbe::<#args>::new()).args_from_key(Self::TYPE, key)
            }

            #[allow(unused_variables, reason = "not every start needs them")]
            async fn start(args: #args, #ctx: &mut ::odeon::Context<Self>) -> ::odeon::Result<Self> {
                #start
            }

            #(#hooks)*

            #[allow(unused_variables, reason = "an actor may have no handlers")]
            fn handlers(table: &mut ::odeon::HandlerTable<Self>) {
                #(#handlers)*
            }
        }
    }
}

fn start(block: &Block, args: &Type) -> TokenStream {
    let actor = block.actor();
    if block.start_is_wrong {
        return quote!(::core::unreachable!());
    }
    let Some(start) = &block.start else {
        return quote_spanned! {located(actor.span())=>
            ::core::result::Result::Ok(::odeon::hidden::default_as_there_is_no_start_fn::<#actor>())
        };
    };
    let span = located(output_span(&start.output, start.span));
    let passed_args = start.args.as_ref().map(|_| {
        let args = syn::Ident::new("args", located(args.span()));
        quote!(#args,)
    });
    let (ctx, wait) = (passed(start.ctx), awaited(start.is_async, start.span));
    let call = quote_spanned!(span=> <#actor>::start(#passed_args #ctx)#wait);
    if answers_itself(&start.output, actor) {
        return quote!(::core::result::Result::Ok(#call));
    }
    quote_spanned!(located(output_span(&start.output, start.span))=> ::odeon::hidden::started(#call))
}

/// Whether `start` answers the actor and cannot fail.
fn answers_itself(output: &ReturnType, actor: &Type) -> bool {
    match output {
        ReturnType::Default => false,
        ReturnType::Type(_, ty) => **ty == *actor || **ty == parse_quote!(Self),
    }
}

fn hook(hook: &Hook) -> TokenStream {
    let Hook { name, is_async, subject, ctx, output } = hook;
    let context = syn::Ident::new("ctx", Span::call_site());
    let parameter = subject.as_ref().map(|ty| quote!(subject: #ty,));
    let subject = subject.as_ref().map(|_| quote!(subject,));
    let (passed, wait) = (passed(*ctx), awaited(*is_async, name.span()));
    let result = quote_spanned!(located(name.span())=> Self::#name(self, #subject #passed)#wait);
    let result = quote_spanned!(located(output_span(output, name.span()))=> ::odeon::hidden::hook(#result));
    quote! {
        #[allow(unused_variables, reason = "not every hook needs it")]
        async fn #name(&mut self, #parameter #context: &mut ::odeon::Context<Self>) -> ::odeon::Result {
            #result
        }
    }
}
