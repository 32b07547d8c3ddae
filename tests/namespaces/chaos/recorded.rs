//! What this scenario recorded once of one name, to try the checker on before it is believed.

use super::history::History;

/// The diaries of the name's four instances, on three hosts, and what the claimants' say of it; blank lines between them.
const DIARIES: &str = include_str!("recorded.txt");

/// What they tell.
pub(crate) fn history() -> History {
    let mut history = History::default();
    for diary in DIARIES.split("\n\n") {
        history.take(&format!("{}\n", diary.trim_end())).expect("it was recorded");
    }
    history
}
