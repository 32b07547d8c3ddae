//! A survey on paper becomes a stream of responses: the American National Election Study of 1996.
//!
//! Only this module and [`mod@crate::expected`] know the survey; the service itself takes any question.

use crate::actors::Response;
use std::collections::BTreeMap;
use std::io::Read;

/// The study's file, as it comes with this crate.
pub const ANES96: &str = include_str!("../data/anes96.csv");
/// The columns that were asked.
pub const QUESTIONS: [&str; 6] = ["vote", "PID", "TVnews", "selfLR", "ClinLR", "DoleLR"];
/// The columns that say who answered.
pub const DEMOGRAPHICS: [&str; 4] = ["age", "educ", "income", "popul"];

/// Every answer of every respondent, as responses to `polls` polls (rounded up to a multiple of the questions).
///
/// Each question appears under several titles; respondent r answers title r mod their number. So the number of
/// responses does not depend on `polls`.
///
/// ```
/// let responses = poll::survey::responses(poll::survey::ANES96.as_bytes(), 6)?;
/// assert_eq!(responses.len(), 944 * 6);
/// assert_eq!(responses[0].question, "vote");
/// # Ok::<(), csv::Error>(())
/// ```
///
/// # Errors
/// The file cannot be read, or has not the columns of the study.
pub fn responses(file: impl Read, polls: usize) -> Result<Vec<Response>, csv::Error> {
    let titles = titles_of_each(polls);
    let mut responses = Vec::new();
    for (r, row) in csv::Reader::from_reader(file).deserialize().enumerate() {
        let row: BTreeMap<String, String> = row?;
        let respondent = DEMOGRAPHICS
            .iter()
            .map(|&column| Ok((column.to_owned(), described(column, cell(&row, column)?))))
            .collect::<Result<BTreeMap<_, _>, csv::Error>>()?;
        for question in QUESTIONS {
            responses.push(Response {
                question: title(question, r % titles, titles),
                answer: cell(&row, question)?.to_owned(),
                respondent: respondent.clone(),
            });
        }
    }
    Ok(responses)
}

/// Under how many titles each question appears so that there are at least `polls` polls.
#[must_use]
pub fn titles_of_each(polls: usize) -> usize {
    polls.div_ceil(QUESTIONS.len()).max(1)
}

/// A question alone keeps its own title.
fn title(question: &str, k: usize, titles: usize) -> String {
    if titles == 1 { question.to_owned() } else { format!("{question} {k}") }
}

fn cell<'a>(row: &'a BTreeMap<String, String>, column: &str) -> Result<&'a str, csv::Error> {
    let missing = || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("there is no column {column}"));
    Ok(row.get(column).ok_or_else(missing)?)
}

/// Ages as decades, everything else as it stands.
fn described(column: &str, value: &str) -> String {
    match value.parse::<u32>() {
        Ok(years) if column == "age" => format!("{}-{}", years / 10 * 10, years / 10 * 10 + 9),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_study_has_its_published_counts() {
        let responses = responses(ANES96.as_bytes(), 6).unwrap();
        let votes = |answer| responses.iter().filter(|r| r.question == "vote" && r.answer == answer).count();
        assert_eq!((responses.len(), votes("0"), votes("1")), (5_664, 551, 393));
        assert_eq!(responses[0].respondent["age"], "30-39");
    }

    #[test]
    fn polls_are_rounded_up_and_all_used() {
        let titles = |polls| {
            let all = responses(ANES96.as_bytes(), polls).unwrap();
            assert_eq!(all.len(), 5_664);
            all.into_iter().map(|response| response.question).collect::<HashSet<_>>().len()
        };
        assert_eq!((titles(0), titles(1), titles(7), titles(500)), (6, 6, 12, 504));
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = responses("age,educ\n36,3\n".as_bytes(), 6).unwrap_err();
        assert!(error.to_string().contains("no column income"), "{error}");
    }
}
