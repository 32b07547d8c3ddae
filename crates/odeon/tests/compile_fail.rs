//! Wrong uses do not compile, and the compiler says what to write instead.
//!
//! `TRYBUILD=overwrite cargo test -p odeon --test compile_fail` writes what the compiler says now.

#[test]
fn wrong_uses_are_refused_at_the_users_line() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
