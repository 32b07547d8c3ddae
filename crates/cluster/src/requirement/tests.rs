use super::*;
use crate::capability;
use proptest::prelude::*;

fn host(text: &str) -> Map {
    capability::collect(text.split_whitespace().map(|pair| capability::parse(pair).unwrap())).unwrap()
}

fn fits(requirement: &str, capabilities: &str) -> bool {
    requirement.parse::<Requirement>().unwrap().fits(&host(capabilities))
}

#[test]
fn requirements_are_met_or_not() {
    for (requirement, capabilities, expected) in [
        ("", "", true),
        ("  ", "gpu=1", true),
        ("archive", "archive=true", true),
        ("archive", "archive=false", false),
        ("archive", "archive=1", false),
        ("archive", "", false),
        ("!archive", "", true),
        ("gpu >= 1", "gpu=1", true),
        ("gpu >= 1", "gpu=0.999999", false),
        ("gpu>1.5&&gpu<=2", "gpu=2", true),
        ("gpu < 1", "", false),
        ("zone == \"eu-1\"", "zone=eu-1", true),
        ("zone == \"eu-1\"", "zone=eu-2", false),
        ("zone != \"eu-1\"", "", true),
        ("zone != \"eu-1\"", "zone=eu-1", false),
        ("gpu == \"1\"", "gpu=1", false),
        ("gpu != \"1\"", "gpu=1", true),
        ("zone in [\"a\", \"b\"]", "zone=b", true),
        ("zone in [\"a\",\"b\"]", "zone=c", false),
        ("gpu in [1, 2]", "gpu=2", true),
        ("a || b && c", "a", true),
        ("(a || b) && c", "a", false),
        ("!(a && b) && !!c", "a c", true),
        ("debug == true", "debug=true", true),
        ("disk-kind.main == \"ssd\"", "disk-kind.main=ssd", true),
        ("index", "index", true),
        ("temperature < -1", "temperature=-2", true),
    ] {
        assert_eq!(fits(requirement, capabilities), expected, "{requirement} on {capabilities}");
    }
}

#[test]
fn errors_show_the_place() {
    for (text, shown) in [
        ("gpu >= && zone", "expected a number, a \"text\", true or false here\n  gpu >= && zone\n         ^"),
        ("gpu = 1", "expected == here: one = compares nothing\n  gpu = 1\n      ^"),
        ("zone == eu", "eu is no number: write text in quotes, \"eu\"\n  zone == eu\n          ^"),
        ("(a || b", "expected ) here\n  (a || b\n         ^"),
        ("a b", "expected && or || here\n  a b\n    ^"),
        ("a &&", "expected a capability here, for example gpu >= 1\n  a &&\n      ^"),
        ("zone in \"a\"", "expected [ here, for example zone in [\"a\", \"b\"]\n  zone in \"a\"\n          ^"),
        ("z == \"a", "this text has no closing \", or a \\ before something else than \" or \\\n  z == \"a\n       ^"),
        ("a > true", "true and false are compared by == and != only\n  a > true\n      ^"),
        ("true", "true is no capability's key\n  true\n  ^"),
        ("ä", "expected a capability here, for example gpu >= 1\n  ä\n  ^"),
    ] {
        let error = text.parse::<Requirement>().unwrap_err().to_string();
        assert_eq!(error, format!("the requirement is not understood: {shown}"));
    }
}

#[test]
fn nothing_makes_it_run_out_of_stack() {
    for text in ["!".repeat(1000), "(".repeat(1000), "x".repeat(5000)] {
        assert!(text.parse::<Requirement>().is_err());
    }
}

#[test]
fn what_is_missing_is_said() {
    for (requirement, capabilities, expected) in [
        ("gpu >= 1", "gpu=0", "gpu >= 1: gpu is 0"),
        ("gpu >= 1 && zone == \"eu-1\"", "zone=eu-2", "gpu >= 1: no gpu, zone == \"eu-1\": zone is \"eu-2\""),
        ("gpu >= 1 && archive", "gpu=1", "archive: no archive"),
        ("a || b == 2", "b=1", "a: no a or b == 2: b is 1"),
        ("!a", "a", "!a: a is true"),
        ("!(a == 1)", "a=1", "!(a == 1): a is 1"),
        ("!(a && b)", "a b", "!(a && b) does not hold"),
        ("zone in [\"a\", \"b\"]", "", "zone in [\"a\", \"b\"]: no zone"),
    ] {
        let requirement: Requirement = requirement.parse().unwrap();
        assert_eq!(requirement.explain(&host(capabilities)).as_deref(), Some(expected));
    }
    assert_eq!("a".parse::<Requirement>().unwrap().explain(&host("a")), None);
}

fn expression() -> impl Strategy<Value = Expression> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-3_000_000i64..3_000_000).prop_map(Value::Micros),
        "[a-z]{0,3}".prop_map(Value::Text),
    ];
    let compare = prop::sample::select(vec![
        Compare::Equal,
        Compare::Differs,
        Compare::Less,
        Compare::AtMost,
        Compare::More,
        Compare::AtLeast,
    ]);
    let key = prop::sample::select(vec!["a", "b", "c.d", "e-f"]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        key.clone().prop_map(Expression::True),
        (key.clone(), compare, value.clone()).prop_map(|(key, compare, value)| {
            let ordered = !matches!(value, Value::Bool(_));
            Expression::Compare(key, if ordered { compare } else { Compare::Equal }, value)
        }),
        (key, prop::collection::vec(value, 1..3)).prop_map(|(key, values)| Expression::In(key, values)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Any),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(expression in expression()) {
        let read: Requirement = expression.to_string().parse().unwrap();
        prop_assert_eq!(read.expression, expression);
    }

    #[test]
    fn no_text_panics(text in "[a-c &|!()=<>\\[\\],\"0-9.ä-]{0,40}") {
        let _ = text.parse::<Requirement>();
    }

    #[test]
    fn an_explanation_is_given_exactly_where_it_does_not_fit(expression in expression()) {
        let host = host("a b=1 c.d=xy");
        let requirement: Requirement = expression.to_string().parse().unwrap();
        prop_assert_eq!(requirement.explain(&host).is_none(), requirement.fits(&host));
    }
}
