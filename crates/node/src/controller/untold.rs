//! What one start of another agent is told until it has taken it.
//!
//! - **UN-1.** Everything has a number, in order, and one batch is under way at a time; what was taken is not told again.

use std::collections::VecDeque;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Untold<T> {
    /// The number of the first one that waits.
    first: u64,
    waiting: VecDeque<T>,
    under_way: bool,
}

impl<T> Default for Untold<T> {
    fn default() -> Self {
        Self { first: 0, waiting: VecDeque::new(), under_way: false }
    }
}

impl<T: Clone> Untold<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, news: T) {
        self.waiting.push_back(news);
    }

    /// Forgets the oldest beyond so many, unless a batch is under way.
    pub(super) fn keep_last(&mut self, count: usize) {
        let beyond = if self.under_way { 0 } else { self.waiting.len().saturating_sub(count) };
        self.waiting.drain(..beyond);
        self.first += beyond as u64;
    }

    /// The next batch and the number of its first; nothing if none waits, or one is under way.
    pub(super) fn begin(&mut self, at_most: usize) -> Option<(u64, Vec<T>)> {
        if self.under_way || self.waiting.is_empty() {
            return None;
        }
        self.under_way = true;
        Some((self.first, self.waiting.iter().take(at_most).cloned().collect()))
    }

    /// So many of the batch were taken: all, or none.
    pub(super) fn end(&mut self, taken: usize) {
        self.under_way = false;
        self.waiting.drain(..taken);
        self.first += taken as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::Untold;

    #[test]
    fn what_was_not_taken_is_told_again_and_what_was_is_not() {
        let mut untold = Untold::default();
        assert_eq!(untold.begin(2), None);
        [1, 2, 3].into_iter().for_each(|news| untold.push(news));
        assert_eq!(untold.begin(2), Some((0, vec![1, 2])));
        assert_eq!(untold.begin(2), None, "one batch is under way");
        untold.end(0);
        assert_eq!(untold.begin(2), Some((0, vec![1, 2])));
        untold.push(4);
        untold.end(2);
        untold.keep_last(1);
        assert_eq!((untold.len(), untold.begin(9)), (1, Some((3, vec![4]))));
        untold.push(5);
        untold.keep_last(1);
        assert_eq!(untold.len(), 2, "one batch is under way");
    }
}
