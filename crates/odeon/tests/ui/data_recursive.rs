//! A type that contains itself has no fingerprint, unless by hand.

#[odeon::data]
struct Tree {
    children: Vec<Tree>,
}

#[odeon::data(opaque = "v1")]
struct Allowed {
    children: Vec<Allowed>,
}

fn main() {}
