//! What workers write to standard output and standard error: into the agent's log line by line, the last of it kept.

use odeon_protocol::limits::STDERR_KEPT_BYTES;
use parking_lot::Mutex;
use std::{collections::VecDeque, io, os::fd::OwnedFd, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::unix::pipe,
};
use tracing::info;

/// A longer line is cut into several.
const LINE_BYTES_MAX: usize = 8 << 10;

/// The last lines of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Keeps a line, forgets the oldest ones beyond the limit.
    pub(super) fn push(&self, line: String) {
        let mut kept = self.0.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.bytes > STDERR_KEPT_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
        }
    }

    /// The last lines, at most so many, the newest last.
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        let kept = self.0.lock();
        kept.lines.iter().skip(kept.lines.len().saturating_sub(count)).cloned().collect()
    }
}

/// Reads a process's output to its end.
pub(super) async fn follow(output: OwnedFd, name: String, tail: Tail) -> io::Result<()> {
    lines(pipe::Receiver::from_owned_fd(output)?, |line| {
        info!(worker = name, "{line}");
        tail.push(line);
    })
    .await
}

async fn lines<R: AsyncRead + Unpin>(stream: R, mut each: impl FnMut(String)) -> io::Result<()> {
    let (mut reader, mut line) = (BufReader::with_capacity(LINE_BYTES_MAX, stream), Vec::new());
    loop {
        let (taken, ends) = {
            let chunk = reader.fill_buf().await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
            (end.map_or(chunk.len(), |end| end + 1), end.is_some() || chunk.is_empty() || line.len() >= LINE_BYTES_MAX)
        };
        reader.consume(taken);
        if ends && (taken > 0 || !line.is_empty()) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\r');
            if !text.is_empty() {
                each(text.to_owned());
            }
            line.clear();
        }
        if taken == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_cut_into_lines() {
        let mut seen = Vec::new();
        let long = "x".repeat(LINE_BYTES_MAX + 5);
        let text = format!("one\n\ntwo\r\n{long}\nlast");
        lines(text.as_bytes(), |line| seen.push(line)).await.unwrap();
        assert_eq!(seen[..2], ["one", "two"]);
        assert_eq!(seen.last().unwrap(), "last");
        assert_eq!(seen[2..seen.len() - 1].concat(), long);
    }

    #[test]
    fn only_the_last_output_is_kept() {
        let tail = Tail::default();
        (0..10_000).for_each(|number| tail.push(format!("line {number}")));
        assert_eq!(tail.last(2), ["line 9998", "line 9999"]);
        assert!(tail.last(usize::MAX).iter().map(String::len).sum::<usize>() <= STDERR_KEPT_BYTES);
    }
}
