//! `#[data]`: serde's derives and the fingerprint; `#[message]` builds on it.

use crate::{
    attribute::{take_opaque, value},
    errors::Errors,
    serde_rules,
};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Attribute, Data, DataEnum, DeriveInput, Fields, GenericParam, LitStr, Type, ext::IdentExt, parse::Parser,
    parse_quote, spanned::Spanned, visit::Visit,
};

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut opaque = None;
    let parsed = syn::meta::parser(|meta| {
        if !meta.path.is_ident("opaque") {
            return Err(meta.error("`#[data]` takes `opaque = \"v1\"` only"));
        }
        opaque = Some(value::<LitStr>(&meta)?);
        Ok(())
    })
    .parse2(attribute);
    errors.take(parsed);
    let input = match parse_item("data", &item) {
        Ok(input) => input,
        Err(error) => return with_item(&item, &error),
    };
    let (item, schema) = derive(input, opaque.as_ref(), &mut errors);
    let errors = errors.into_tokens();
    quote! { #item #schema #errors }
}

/// The struct or enum below the attribute.
pub(crate) fn parse_item(which: &str, item: &TokenStream) -> syn::Result<DeriveInput> {
    let input = syn::parse2::<DeriveInput>(item.clone());
    match input {
        Ok(DeriveInput { data: Data::Union(data), .. }) => {
            Err(syn::Error::new(data.union_token.span, format!("`#[{which}]` goes on a struct or an enum")))
        }
        Err(_) => Err(syn::Error::new_spanned(item, format!("`#[{which}]` goes on a struct or an enum"))),
        Ok(input) => Ok(input),
    }
}

/// The item as it was, and the mistake.
pub(crate) fn with_item(item: &TokenStream, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    quote! { #item #error }
}

/// The item with serde's derives, and its `impl Schema`.
pub(crate) fn derive(
    mut input: DeriveInput,
    opaque: Option<&LitStr>,
    errors: &mut Errors,
) -> (TokenStream, TokenStream) {
    let derives = serde_rules::missing_derives(&input.attrs, errors);
    serde_rules::check(&input.attrs, opaque.is_some(), errors);
    for parameter in &input.generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            errors.at(
                lifetime,
                "what is sent owns its data: write `String` instead of `&str`, `Vec<u8>` instead of `&[u8]`",
            );
        }
    }
    let name = input.ident.clone();
    let shape = shape(&mut input.data, &name, opaque.is_some(), errors);
    let fingerprint = match opaque {
        Some(label) => {
            let name = name.unraw().to_string();
            quote!(::odeon::hidden::Fingerprint::new("opaque").part(#name, 0).part(#label, 0).finish())
        }
        None => shape,
    };
    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::odeon::Schema));
    }
    let (parameters, arguments, bounds) = generics.split_for_impl();
    let schema = quote! {
        #[automatically_derived]
        impl #parameters ::odeon::Schema for #name #arguments #bounds {
            const FINGERPRINT: u64 = #fingerprint;
        }
    };
    let item = quote! {
        #derives
        #[serde(crate = "::odeon::hidden::serde")]
        #input
    };
    (item, schema)
}

fn shape(data: &mut Data, owner: &syn::Ident, opaque: bool, errors: &mut Errors) -> TokenStream {
    match data {
        Data::Struct(data) => fields("struct", &mut data.fields, owner, opaque, errors),
        Data::Enum(data) => variants(data, owner, opaque, errors),
        // Refused by `parse_item`.
        Data::Union(_) => quote!(0),
    }
}

fn variants(data: &mut DataEnum, owner: &syn::Ident, opaque: bool, errors: &mut Errors) -> TokenStream {
    let parts: Vec<TokenStream> = data
        .variants
        .iter_mut()
        .map(|variant| {
            serde_rules::check(&variant.attrs, opaque, errors);
            let name = serde_rules::renamed(&variant.attrs).unwrap_or_else(|| variant.ident.unraw().to_string());
            let shape = fields("variant", &mut variant.fields, owner, opaque, errors);
            part(&variant.attrs, &name, &shape)
        })
        .collect();
    chain("enum", &parts)
}

fn fields(kind: &str, fields: &mut Fields, owner: &syn::Ident, opaque: bool, errors: &mut Errors) -> TokenStream {
    let mut parts = Vec::new();
    for (at, field) in fields.iter_mut().enumerate() {
        let label = take_opaque(&mut field.attrs, errors);
        let hidden = opaque || label.is_some();
        serde_rules::check(&field.attrs, hidden, errors);
        let sound = check_type(&field.ty, owner, hidden, errors);
        let name = serde_rules::renamed(&field.attrs)
            .unwrap_or_else(|| field.ident.as_ref().map_or_else(|| at.to_string(), |name| name.unraw().to_string()));
        let ty = &field.ty;
        let fingerprint = match label {
            Some(label) => quote!(::odeon::hidden::Fingerprint::new("opaque").part(#label, 0).finish()),
            None if !sound => quote!(0),
            None => quote_spanned!(ty.span()=> <#ty as ::odeon::Schema>::FINGERPRINT),
        };
        parts.push(part(&field.attrs, &name, &fingerprint));
    }
    chain(kind, &parts)
}

/// One part, left out where the field is.
fn part(attributes: &[Attribute], name: &str, fingerprint: &TokenStream) -> TokenStream {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    quote! { #(#conditions)* let shape = shape.part(#name, #fingerprint); }
}

fn chain(kind: &str, parts: &[TokenStream]) -> TokenStream {
    quote!({
        let shape = ::odeon::hidden::Fingerprint::new(#kind);
        #(#parts)*
        shape.finish()
    })
}

/// Refuses field types that can be told by their looks; for the rest the compiler asks for `Schema`.
fn check_type(ty: &Type, owner: &syn::Ident, opaque: bool, errors: &mut Errors) -> bool {
    let mut look = Look { owner, opaque, errors, sound: true };
    look.visit_type(ty);
    look.sound
}

struct Look<'a> {
    owner: &'a syn::Ident,
    opaque: bool,
    errors: &'a mut Errors,
    sound: bool,
}

impl Look<'_> {
    fn mistake(&mut self, at: &impl ToTokens, text: impl std::fmt::Display) {
        self.sound = false;
        self.errors.at(at, text);
    }
}

impl<'ast> Visit<'ast> for Look<'_> {
    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let contains_itself = path.path.is_ident("Self") || path.path.is_ident(self.owner);
        if names == ["serde_json", "Value"] {
            let text = "the binary form between processes cannot carry `serde_json::Value`; write `odeon::Json`";
            self.mistake(path, text);
        } else if contains_itself && !self.opaque {
            let text = format!(
                "`{}` contains itself, so its fingerprint cannot be computed; write `opaque = \"v1\"` in the \
                 attribute above it, and change \"v1\" whenever its fields change",
                self.owner
            );
            self.mistake(path, text);
        }
        syn::visit::visit_type_path(self, path);
    }

    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        let instead = match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
            Type::Slice(slice) => format!("`Vec<{}>`", slice.elem.to_token_stream()),
            other => format!("`{}`", other.to_token_stream()),
        };
        self.mistake(reference, format!("what is sent owns its data: write {instead}"));
    }
}
