//! `#[data]`: serde's derives and the fingerprint; `#[message]` builds on it.

use crate::{
    attribute::{take_opaque, value},
    errors::Errors,
    serde_rules,
};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Attribute, Data, DataEnum, DeriveInput, Field, Fields, Ident, LitStr, Type, WherePredicate, ext::IdentExt,
    parse::Parser, parse_quote, spanned::Spanned, visit::Visit,
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
    let Written { item, schema, .. } = derive(input, opaque.as_ref(), &mut errors);
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

/// What is written for a type.
pub(crate) struct Written {
    /// The item, with serde's derives.
    pub(crate) item: TokenStream,
    /// `impl Schema`.
    pub(crate) schema: TokenStream,
    /// `where` what its fields have to be, for every `impl` that is written for it.
    pub(crate) bounds: TokenStream,
}

/// The item with serde's derives, and its `impl Schema`.
pub(crate) fn derive(mut input: DeriveInput, opaque: Option<&LitStr>, errors: &mut Errors) -> Written {
    let derives = serde_rules::missing_derives(&input.attrs, errors);
    serde_rules::check(&input.attrs, opaque.is_some(), errors);
    for parameter in input.generics.lifetimes() {
        let text = "what is sent owns its data: write `String` instead of `&str`, `Vec<u8>` instead of `&[u8]`";
        errors.at(parameter, text);
    }
    let name = input.ident.clone();
    let generic = !input.generics.params.is_empty();
    let mut shape = Shape { owner: &name, opaque: opaque.is_some(), generic, errors, bounds: Vec::new() };
    let fingerprint = shape.read(&mut input.data);
    let bounds = shape.bounds;
    let fingerprint = match opaque {
        Some(label) => {
            let name = name.unraw().to_string();
            quote!(::odeon::hidden::Fingerprint::new("opaque").part(#name, 0).part(#label, 0).finish())
        }
        None => fingerprint,
    };
    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::odeon::Schema));
    }
    generics.make_where_clause().predicates.extend(bounds);
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
    Written { item, schema, bounds: quote!(#bounds) }
}

/// Reads the shape of a type, field by field.
struct Shape<'a> {
    owner: &'a Ident,
    opaque: bool,
    generic: bool,
    errors: &'a mut Errors,
    /// What the fields have to be.
    bounds: Vec<WherePredicate>,
}

impl Shape<'_> {
    fn read(&mut self, data: &mut Data) -> TokenStream {
        match data {
            Data::Struct(data) => self.fields("struct", &mut data.fields),
            Data::Enum(data) => self.variants(data),
            // Refused by `parse_item`.
            Data::Union(_) => quote!(0),
        }
    }

    fn variants(&mut self, data: &mut DataEnum) -> TokenStream {
        let mut parts = Vec::new();
        for variant in &mut data.variants {
            serde_rules::check(&variant.attrs, self.opaque, self.errors);
            let name = serde_rules::renamed(&variant.attrs).unwrap_or_else(|| variant.ident.unraw().to_string());
            let shape = self.fields("variant", &mut variant.fields);
            parts.push(part(&variant.attrs, &name, &shape));
        }
        chain("enum", &parts)
    }

    fn fields(&mut self, kind: &str, fields: &mut Fields) -> TokenStream {
        let mut parts = Vec::new();
        for (at, field) in fields.iter_mut().enumerate() {
            let fingerprint = self.field(field);
            let name = serde_rules::renamed(&field.attrs).unwrap_or_else(|| match &field.ident {
                Some(name) => name.unraw().to_string(),
                None => at.to_string(),
            });
            parts.push(part(&field.attrs, &name, &fingerprint));
        }
        chain(kind, &parts)
    }

    fn field(&mut self, field: &mut Field) -> TokenStream {
        let label = take_opaque(&mut field.attrs, self.errors);
        let opaque = self.opaque || label.is_some();
        serde_rules::check(&field.attrs, opaque, self.errors);
        let sound = check_type(&field.ty, self.owner, opaque, self.errors);
        let ty = &field.ty;
        if let Some(label) = label {
            return quote!(::odeon::hidden::Fingerprint::new("opaque").part(#label, 0).finish());
        }
        if opaque || !sound {
            return quote!(0);
        }
        let fingerprint = quote_spanned!(ty.span()=> <#ty as ::odeon::Schema>::FINGERPRINT);
        self.bind(field);
        fingerprint
    }

    /// Asks for `Schema` where serde would ask for its own traits, so that a type that is not `#[data]` is one error
    /// that says so, not five that name serde. (`Schema` implies serde's traits; equal errors are shown once.)
    fn bind(&mut self, field: &mut Field) {
        let conditional = field.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
        if self.generic || conditional || serde_rules::has(&field.attrs, "bound") {
            return;
        }
        let (ty, span) = (&field.ty, field.ty.span());
        let text = LitStr::new(&quote!(#ty: ::odeon::Schema).to_string(), span);
        let Ok(bound) = text.parse::<WherePredicate>() else { return };
        field.attrs.push(parse_quote!(#[serde(bound = #text)]));
        self.bounds.push(bound);
    }
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
