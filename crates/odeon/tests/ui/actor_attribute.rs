//! What stands in `#[actor(..)]`.

use odeon::prelude::*;

#[derive(Default)]
struct One;
#[actor]
impl One {}

#[derive(Default)]
struct Two;
#[actor("ui.two", on_stop = sleepy)]
impl Two {}

#[derive(Default)]
struct Three;
#[actor("ui.three", restart(max = 3, within = "soon"))]
impl Three {}

#[derive(Default)]
struct Four;
#[actor("ui.four", mailbox = 0)]
impl Four {}

#[derive(Default)]
struct Five;
#[actor("ui/five")]
impl Five {}

#[derive(Default)]
struct Six;
#[actor("ui.six", isolated)]
impl Six {}

#[actor("ui.seven")]
struct Seven;

#[derive(Default)]
struct Eight<T>(T);
#[actor("ui.eight")]
impl<T> Eight<T> {}

fn main() {}
