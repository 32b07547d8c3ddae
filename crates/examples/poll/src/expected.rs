//! What the service must answer after a replay, counted straight from the file.
//!
//! Shares no counting code with the service, nor its reader of the file: a mistake there must show here.

use crate::client::{Analytics, Client, Failure};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The analytics of every poll after `file` (the study of [`crate::survey`]) has been replayed once as `polls` polls.
///
/// ```
/// let expected = poll::expected(poll::survey::ANES96, 6);
/// assert_eq!(expected["vote"].answers["0"], 551);
/// ```
#[must_use]
pub fn expected(file: &str, polls: usize) -> BTreeMap<String, Analytics> {
    let mut lines = file.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let index = |name: &str| columns.iter().position(|column| *column == name);
    let copies = polls.max(1).div_ceil(6);
    let mut polls = BTreeMap::new();
    for (row, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        for question in ["vote", "PID", "TVnews", "selfLR", "ClinLR", "DoleLR"] {
            let title = if copies > 1 { format!("{question} {}", row % copies) } else { question.to_owned() };
            let Some(answer) = index(question).and_then(|at| cells.get(at)) else { continue };
            let poll: &mut Analytics = polls.entry(title.clone()).or_default();
            poll.question = title;
            poll.total += 1;
            *poll.answers.entry((*answer).to_owned()).or_default() += 1;
            for demographic in ["age", "educ", "income", "popul"] {
                let Some(value) = index(demographic).and_then(|at| cells.get(at)) else { continue };
                let value = if demographic == "age" { decade(value) } else { (*value).to_owned() };
                let values = poll.by.entry(demographic.to_owned()).or_default();
                *values.entry(value).or_default().entry((*answer).to_owned()).or_default() += 1;
            }
        }
    }
    polls
}

fn decade(age: &str) -> String {
    let tens = &age[..age.len().saturating_sub(1)];
    format!("{tens}0-{tens}9")
}

/// A poll whose analytics are not what was expected.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The poll.
    pub question: String,
    /// Where it was asked.
    pub url: String,
    /// Responses that were expected.
    pub expected: u64,
    /// Responses that the service has counted; none if it gave no analytics.
    pub counted: Option<u64>,
    /// What differs.
    pub why: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.question, self.url, self.why)
    }
}

/// Compares the analytics of every poll, asked at every one of `urls`, with what is expected.
pub async fn verify(urls: &[String], expected: &BTreeMap<String, Analytics>) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for url in urls {
        let mut client = Client::new(std::slice::from_ref(url), 0).patience(Duration::from_secs(10));
        for wanted in expected.values() {
            let counted = client.analytics(&wanted.question).await;
            mismatches.extend(difference(wanted, counted, url));
        }
    }
    mismatches
}

fn difference(wanted: &Analytics, counted: Result<Option<Analytics>, Failure>, url: &str) -> Option<Mismatch> {
    let (counted, why) = match counted {
        Ok(Some(counted)) if counted == *wanted => return None,
        Ok(Some(counted)) if counted.total != wanted.total => {
            (Some(counted.total), format!("{} responses instead of {}", counted.total, wanted.total))
        }
        Ok(Some(counted)) if counted.answers != wanted.answers => {
            (Some(counted.total), format!("answers {:?} instead of {:?}", counted.answers, wanted.answers))
        }
        Ok(Some(counted)) => (Some(counted.total), "the breakdown by demographics differs".to_owned()),
        Ok(None) => (None, "it is unknown there".to_owned()),
        Err(failure) => (None, failure.to_string()),
    };
    let (question, expected) = (wanted.question.clone(), wanted.total);
    Some(Mismatch { question, url: url.to_owned(), expected, counted, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::{ANES96, responses};
    use crate::tally::Tally;

    #[test]
    fn agrees_with_the_tallies_and_would_notice() {
        for polls in [6, 500] {
            let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
            for response in responses(ANES96.as_bytes(), polls).unwrap() {
                tallies.entry(response.question.clone()).or_default().add(response);
            }
            let expected = expected(ANES96, polls);
            assert_eq!(expected.len(), tallies.len());
            assert_eq!(expected.values().map(|poll| poll.total).sum::<u64>(), 5_664);
            for (question, tally) in tallies {
                let Tally { total, answers, by } = tally;
                let counted = Analytics { question: question.clone(), total, answers, by };
                assert!(difference(&expected[&question], Ok(Some(counted.clone())), "").is_none(), "{question}");
                let once_more = Analytics { total: total + 1, ..counted };
                assert!(difference(&expected[&question], Ok(Some(once_more)), "").is_some());
            }
        }
    }
}
