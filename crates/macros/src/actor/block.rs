//! The block: which of its functions are hooks, which handlers, and which are a mistake.

use crate::errors::Errors;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Attribute, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, PatType, Receiver, ReturnType, Signature, Type,
    ext::IdentExt, spanned::Spanned,
};

/// The reserved names besides `start`, and whether they take something before `ctx`.
const HOOKS: [(&str, Option<&str>); 4] = [
    ("started", None),
    ("stopping", None),
    ("returned", Some("back: Returned")),
    ("child_exited", Some("exit: ChildExited")),
];

/// What references offer themselves; a handler of that name could not be called on one.
const TAKEN: [&str; 17] = [
    "tell",
    "try_tell",
    "ask",
    "stop",
    "kill",
    "address",
    "global_name",
    "recipient",
    "clone",
    "eq",
    "ne",
    "hash",
    "fmt",
    "into",
    "to_owned",
    "to_string",
    "deref",
];

/// The block, sorted.
pub(crate) struct Block {
    item: ItemImpl,
    pub(crate) start: Option<Start>,
    /// There is a `start`, and it is a mistake.
    pub(crate) start_is_wrong: bool,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) handlers: Vec<Handler>,
}

/// Where mistakes in what a function returns are reported.
pub(crate) fn output_span(output: &ReturnType, name: Span) -> Span {
    match output {
        ReturnType::Default => name,
        ReturnType::Type(_, ty) => ty.span(),
    }
}

/// `fn start`.
pub(crate) struct Start {
    pub(crate) is_async: bool,
    /// The arguments' type; nothing where it takes none.
    pub(crate) args: Option<Type>,
    pub(crate) ctx: Option<Span>,
    pub(crate) output: ReturnType,
    pub(crate) span: Span,
}

/// One of the other reserved functions.
pub(crate) struct Hook {
    pub(crate) name: Ident,
    pub(crate) is_async: bool,
    /// The type of what it takes before `ctx`.
    pub(crate) subject: Option<Type>,
    pub(crate) ctx: Option<Span>,
    pub(crate) output: ReturnType,
}

/// A function that handles a message.
pub(crate) struct Handler {
    pub(crate) name: Ident,
    pub(crate) is_async: bool,
    pub(crate) message: Type,
    pub(crate) ctx: Option<Span>,
    pub(crate) output: ReturnType,
    /// `doc`, `cfg` and `deprecated`, for what is written beside it.
    pub(crate) attributes: Vec<Attribute>,
}

impl Handler {
    /// The conditions under which it exists.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
    }
}

impl Block {
    pub(crate) fn read(item: ItemImpl, errors: &mut Errors) -> Self {
        let mut block = Self { item, start: None, start_is_wrong: false, hooks: Vec::new(), handlers: Vec::new() };
        let items = std::mem::take(&mut block.item.items);
        for item in &items {
            match item {
                ImplItem::Fn(function) => block.function(function, errors),
                other => errors
                    .start_of(other, "an `#[actor]` block holds hooks and handlers; this goes to a plain `impl` block"),
            }
        }
        block.item.items = items;
        block
    }

    /// The actor's type as it stands after `impl`.
    pub(crate) fn actor(&self) -> &Type {
        &self.item.self_ty
    }

    /// The actor's bare name.
    pub(crate) fn actor_name(&self) -> Ident {
        match &*self.item.self_ty {
            Type::Path(path) => path.path.segments.last().map(|last| last.ident.clone()),
            _ => None,
        }
        .unwrap_or_else(|| Ident::new("Actor", Span::call_site()))
    }

    /// The block as a plain `impl`, with the table of what the actor takes above it.
    pub(crate) fn item(&self) -> TokenStream {
        let (item, table) = (&self.item, super::calls::table(self, false));
        quote! {
            #[doc = #table]
            #[allow(
                clippy::needless_pass_by_ref_mut,
                clippy::needless_pass_by_value,
                clippy::unused_async,
                clippy::unused_self,
                reason = "handlers have one shape"
            )]
            #item
        }
    }

    fn function(&mut self, function: &ImplItemFn, errors: &mut Errors) {
        let signature = &function.sig;
        if !is_plain(signature, errors) {
            return;
        }
        let name = signature.ident.unraw().to_string();
        if name == "start" {
            self.start = read_start(signature, errors);
            self.start_is_wrong = self.start.is_none();
        } else if let Some((_, subject)) = HOOKS.iter().find(|(hook, _)| *hook == name) {
            self.hooks.extend(read_hook(signature, *subject, errors));
        } else {
            self.handler(function, &name, errors);
        }
    }

    fn handler(&mut self, function: &ImplItemFn, name: &str, errors: &mut Errors) {
        let Some(handler) = read_handler(function, errors) else { return };
        if TAKEN.contains(&name) {
            let text = format!(
                "references have a method `{name}` of their own, so a handler of that name could not be called on one; \
                 name it after what it does, say `{name}_it`"
            );
            errors.at(&handler.name, text);
        }
        let message = handler.message.to_token_stream().to_string();
        let other = self.handlers.iter().find(|other| {
            other.message.to_token_stream().to_string() == message && other.conditions().next().is_none()
        });
        if let Some(other) = other {
            let text =
                format!("`{message}` has a handler already, `{}`; an actor has one handler per message", other.name);
            errors.at(&handler.message, text);
            return;
        }
        self.handlers.push(handler);
    }
}

/// Whether a function has a form that hooks and handlers can have.
fn is_plain(signature: &Signature, errors: &mut Errors) -> bool {
    if !signature.generics.params.is_empty() {
        errors
            .at(&signature.generics, "hooks and handlers cannot be generic: messages are dispatched by their one type");
        return false;
    }
    let odd: Option<&dyn ToTokens> = match signature {
        Signature { unsafety: Some(word), .. } => Some(word),
        Signature { constness: Some(word), .. } => Some(word),
        Signature { abi: Some(word), .. } => Some(word),
        Signature { variadic: Some(word), .. } => Some(word),
        _ => None,
    };
    if let Some(word) = odd {
        errors.at(
            &word.to_token_stream(),
            "hooks and handlers are `fn` or `async fn`; helpers go to a plain `impl` block",
        );
    }
    odd.is_none()
}

fn read_start(signature: &Signature, errors: &mut Errors) -> Option<Start> {
    let form = "`start` is `fn start(args) -> odeon::Result<Self>`, with `ctx: &mut Context<Self>` after the arguments if it needs it";
    if let Some(receiver) = signature.receiver() {
        errors.at(receiver, format!("there is no actor yet that `start` could take; {form}"));
        return None;
    }
    let inputs: Vec<&PatType> = typed(signature);
    let (args, ctx) = match inputs.as_slice() {
        [] => (None, None),
        [only] if is_context(&only.ty) => (None, Some(only.ty.span())),
        [only] => (Some((*only.ty).clone()), None),
        [args, ctx] => (Some((*args.ty).clone()), Some(ctx.ty.span())),
        [_, _, more, ..] => {
            errors
                .at(more, format!("too many arguments: put them into one `#[odeon::data]` struct or a tuple; {form}"));
            return None;
        }
    };
    if let (Some(Type::Reference(reference)), _) = (&args, ctx) {
        errors.at(reference, format!("arguments are sent to where the actor starts, so they are owned; {form}"));
        return None;
    }
    if matches!(signature.output, ReturnType::Default) {
        errors.at(&signature.ident, format!("it answers nothing; {form}"));
        return None;
    }
    Some(Start {
        is_async: signature.asyncness.is_some(),
        args,
        ctx,
        output: signature.output.clone(),
        span: signature.ident.span(),
    })
}

fn read_hook(signature: &Signature, subject: Option<&str>, errors: &mut Errors) -> Option<Hook> {
    let name = &signature.ident;
    let before = subject.map(|subject| format!(", {subject}")).unwrap_or_default();
    let form =
        format!("the hook is `fn {name}(&mut self{before})`, with `ctx: &mut Context<Self>` at the end if it needs it");
    check_receiver(signature, &form, errors)?;
    let inputs = typed(signature);
    let (subject, ctx) = match (subject, inputs.as_slice()) {
        (None, []) => (None, None),
        (None, [ctx]) if is_context(&ctx.ty) => (None, Some(ctx.ty.span())),
        (Some(_), [subject]) if !is_context(&subject.ty) => (Some((*subject.ty).clone()), None),
        (Some(_), [subject, ctx]) if !is_context(&subject.ty) => (Some((*subject.ty).clone()), Some(ctx.ty.span())),
        _ => {
            errors.at(&signature.inputs, format!("`{name}` is reserved and takes something else; {form}"));
            return None;
        }
    };
    Some(Hook {
        name: name.clone(),
        is_async: signature.asyncness.is_some(),
        subject,
        ctx,
        output: signature.output.clone(),
    })
}

fn read_handler(function: &ImplItemFn, errors: &mut Errors) -> Option<Handler> {
    let signature = &function.sig;
    let name = &signature.ident;
    let form = "a handler is `fn(&mut self, Message)`, with `ctx: &mut Context<Self>` after the message if it needs it; \
                helpers go to a plain `impl` block";
    check_receiver(signature, form, errors)?;
    let inputs = typed(signature);
    let (message, ctx) = match inputs.as_slice() {
        [] => {
            errors.at(name, format!("`{name}` takes no message; {form}"));
            return None;
        }
        [message] => (message, None),
        [message, ctx] => (message, Some(ctx)),
        [_, _, more, ..] => {
            errors.at(more, format!("`{name}` takes more than a message and `ctx`; {form}"));
            return None;
        }
    };
    if is_context(&message.ty) {
        errors.at(&message.ty, format!("the message comes first, then `ctx`; {form}"));
        return None;
    }
    match &*message.ty {
        Type::Reference(reference) => {
            let owned = reference.elem.to_token_stream();
            errors.at(reference, format!("a handler owns its message: write `{owned}`"));
            return None;
        }
        Type::ImplTrait(ty) => {
            errors.at(ty, "messages are dispatched by their one type: name it");
            return None;
        }
        _ => {}
    }
    if let Some(ctx) = ctx.filter(|ctx| !is_context(&ctx.ty)) {
        errors.at(&ctx.ty, format!("after the message comes `ctx: &mut Context<Self>` or nothing; {form}"));
        return None;
    }
    let passed_on = ["doc", "cfg", "deprecated"];
    Some(Handler {
        name: name.clone(),
        is_async: signature.asyncness.is_some(),
        message: (*message.ty).clone(),
        ctx: ctx.map(|ctx| ctx.ty.span()),
        output: signature.output.clone(),
        attributes: function
            .attrs
            .iter()
            .filter(|attribute| passed_on.iter().any(|word| attribute.path().is_ident(word)))
            .cloned()
            .collect(),
    })
}

/// Answers nothing after a mistake.
fn check_receiver(signature: &Signature, form: &str, errors: &mut Errors) -> Option<()> {
    match signature.receiver() {
        None => {
            errors.at(&signature.ident, format!("`{}` takes no `&mut self`; {form}", signature.ident));
            None
        }
        Some(Receiver { reference: Some(_), colon_token: None, .. }) => Some(()),
        Some(receiver) => {
            errors.at(receiver, format!("the actor stays in the runtime: write `&mut self`; {form}"));
            None
        }
    }
}

fn typed(signature: &Signature) -> Vec<&PatType> {
    signature
        .inputs
        .iter()
        .filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        })
        .collect()
}

/// Whether a type is `&mut Context<..>`; `&Context<..>` is taken for it too, so that the compiler says what is wrong.
fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Context")
}
