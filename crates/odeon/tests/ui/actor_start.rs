//! How an actor starts.

use odeon::prelude::*;

struct NoDefault(u32);
#[actor("ui.no_default")]
impl NoDefault {}

struct Borrows;
#[actor("ui.borrows")]
impl Borrows {
    fn start(_name: &str) -> odeon::Result<Self> {
        Ok(Self)
    }
}

struct Nothing;
#[actor("ui.nothing")]
impl Nothing {
    fn start(_name: String) {}
}

struct Wrong;
#[actor("ui.wrong")]
impl Wrong {
    fn start(_name: String) -> odeon::Result<u32> {
        Ok(1)
    }
}

struct Plain;
struct Unsendable;
#[actor("ui.unsendable")]
impl Unsendable {
    fn start(_plain: Plain) -> odeon::Result<Self> {
        Ok(Self)
    }
}

fn main() {}
