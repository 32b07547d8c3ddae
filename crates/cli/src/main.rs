//! The one binary, `odeon`.
fn main() {}
