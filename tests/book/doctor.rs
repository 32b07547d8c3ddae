//! `docs/doctor.md`: its sample is what `odeon doctor` prints, and its table explains all of that.

use super::page::{Page, words};
use crate::{
    doctor::MACHINE,
    harness::{Convention, wait_for},
};

/// One line: its mark, what was looked at, and what is said of it.
type Line<'a> = (&'a str, &'a str, &'a str);

fn lines<'a>(printed: &'a str) -> Vec<Line<'a>> {
    let line = |line: &'a str| {
        let (mark, rest) = line.split_at_checked(6)?;
        let (what, text) = rest.split_at_checked(20)?;
        Some((mark.trim_end(), what.trim_end(), text))
    };
    printed.lines().map(|text| line(text).unwrap_or_else(|| panic!("no finding: {text}"))).collect()
}

/// What is looked at, and how it is where that does not depend on the machine that runs the tests.
fn marks<'a>(lines: &[Line<'a>]) -> Vec<(Option<&'a str>, &'a str)> {
    lines.iter().map(|(mark, what, _)| ((!MACHINE.contains(what)).then_some(*mark), *what)).collect()
}

#[test]
fn when_something_is_wrong() {
    let mut page = Page::open("docs/doctor.md");
    let line = page.take("odeon doctor");
    let mut convention = Convention::start(3, &[]);
    convention.agents[2].kill();
    let sample = lines(page.block("text"));
    let printed = wait_for("the lost host to be all that is wrong", || {
        let ran = convention.agents[0].odeon(&words(&line).iter().skip(1).map(String::as_str).collect::<Vec<_>>());
        assert!(ran.code == 1 || !ran.out.contains("LOOK"), "{ran:?}");
        (marks(&lines(&ran.out)) == marks(&sample)).then_some(ran.out)
    });
    let printed = lines(&printed);
    for (mark, what, text) in sample {
        let advice = text.split_once("): ").filter(|_| mark == "LOOK").map_or("", |(_, advice)| advice);
        let (.., text) = printed.iter().find(|line| line.1 == what).expect("it has that finding");
        assert!(text.ends_with(advice), "{what}: the page says {advice:?}, and not {text:?}");
    }
    let explained = page.terms();
    assert_eq!(printed.iter().map(|(_, what, _)| *what).collect::<Vec<_>>(), explained);
    page.end();
}
