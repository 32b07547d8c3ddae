//! What is counted for one question: answers, and answers by each value of each demographic.
//!
//! Texts come from outside, so their variety is limited: what finds no room of its own is counted as [`OTHER`].
//! Every response is counted in `total`, exactly once in `answers`, and once for each of its demographics.

use crate::actors::Response;
use std::collections::BTreeMap;

/// Answers of a question that are kept apart.
pub const ANSWERS: usize = 200;
/// Values of a demographic that are kept apart.
pub const VALUES: usize = 200;
/// Demographics of a question that are kept apart.
pub const DEMOGRAPHICS: usize = 32;
/// Where everything beyond these limits is counted.
pub const OTHER: &str = "other";

/// How often each answer was given.
pub type Answers = BTreeMap<String, u64>;

/// The count of one question.
#[odeon::data]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All responses.
    pub total: u64,
    /// Responses by answer.
    pub answers: Answers,
    /// Responses by demographic, its value, and answer.
    pub by: BTreeMap<String, BTreeMap<String, Answers>>,
}

impl Tally {
    /// Counts one response.
    pub fn add(&mut self, response: Response) {
        let answer = if has_room(&self.answers, &response.answer, ANSWERS) { &response.answer } else { OTHER };
        self.total += 1;
        *slot(&mut self.answers, answer) += 1;
        for (demographic, value) in &response.respondent {
            let demographic = if has_room(&self.by, demographic, DEMOGRAPHICS) { demographic } else { OTHER };
            let values = slot(&mut self.by, demographic);
            let value = if has_room(values, value, VALUES) { value } else { OTHER };
            *slot(slot(values, value), answer) += 1;
        }
    }
}

/// Whether `label` is counted already or may still be: [`OTHER`] itself takes no room.
fn has_room<T>(map: &BTreeMap<String, T>, label: &str, limit: usize) -> bool {
    map.len() < limit || map.contains_key(label) || map.len() == limit && map.contains_key(OTHER)
}

/// The entry of `label`; its text is copied only when it is new.
fn slot<'a, T: Default>(map: &'a mut BTreeMap<String, T>, label: &str) -> &'a mut T {
    if !map.contains_key(label) {
        map.insert(label.to_owned(), T::default());
    }
    map.get_mut(label).expect("it was there or has just been inserted")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(answer: &str, respondent: &[(&str, &str)]) -> Response {
        Response {
            question: "lunch?".into(),
            answer: answer.into(),
            respondent: respondent
                .iter()
                .map(|(demographic, value)| ((*demographic).into(), (*value).into()))
                .collect(),
        }
    }

    #[test]
    fn counts_answers_and_breaks_them_down() {
        let mut tally = Tally::default();
        tally.add(response("soup", &[("age", "30-39"), ("town", "Ulm")]));
        tally.add(response("soup", &[("age", "40-49")]));
        tally.add(response("rice", &[("age", "30-39")]));
        assert_eq!(tally.total, 3);
        assert_eq!(tally.answers, Answers::from([("soup".into(), 2), ("rice".into(), 1)]));
        assert_eq!(tally.by["age"]["30-39"], Answers::from([("soup".into(), 1), ("rice".into(), 1)]));
        assert_eq!(tally.by["age"]["40-49"], Answers::from([("soup".into(), 1)]));
        assert_eq!(tally.by["town"]["Ulm"], Answers::from([("soup".into(), 1)]));
    }

    #[test]
    fn answers_beyond_the_limit_are_other() {
        let mut tally = Tally::default();
        (0..ANSWERS + 50).for_each(|n| tally.add(response(&format!("a{n}"), &[("age", "30-39")])));
        tally.add(response("a0", &[]));
        assert_eq!(tally.answers.len(), ANSWERS + 1);
        assert_eq!(tally.answers[OTHER], 50);
        assert_eq!(tally.answers["a0"], 2, "what is kept apart stays so");
        assert_eq!(tally.by["age"]["30-39"][OTHER], 50, "the breakdown names answers as the total does");
        assert_eq!(tally.answers.values().sum::<u64>(), tally.total);
    }

    #[test]
    fn values_beyond_the_limit_are_other() {
        let mut tally = Tally::default();
        (0..VALUES + 7).for_each(|n| tally.add(response("soup", &[("town", &format!("t{n}")), ("age", "30-39")])));
        assert_eq!(tally.by["town"].len(), VALUES + 1);
        assert_eq!(tally.by["town"][OTHER], Answers::from([("soup".into(), 7)]));
        assert_eq!(tally.by["age"].len(), 1, "the limit is each demographic's own");
    }

    #[test]
    fn demographics_beyond_the_limit_are_other() {
        let mut tally = Tally::default();
        (0..DEMOGRAPHICS + 3).for_each(|n| tally.add(response("soup", &[(&format!("d{n}"), "x")])));
        assert_eq!(tally.by.len(), DEMOGRAPHICS + 1);
        assert_eq!(tally.by[OTHER]["x"]["soup"], 3);
    }

    #[test]
    fn a_label_called_other_takes_no_room() {
        let mut tally = Tally::default();
        tally.add(response(OTHER, &[]));
        (0..ANSWERS + 1).for_each(|n| tally.add(response(&format!("a{n}"), &[])));
        assert_eq!((tally.answers.len(), tally.answers[OTHER]), (ANSWERS + 1, 2));
    }
}
