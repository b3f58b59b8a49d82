//! Where log lines go: into a bounded queue, and from there to the output by a thread of its own.
//!
//! Whoever logs never waits. If the output does not take the lines, they are dropped, and once it does again a line tells how many
//! were (S-93).

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for the output before more are dropped.
const QUEUE: usize = 8192;

/// Bytes that are written at once, give or take a line.
const BATCH_BYTES: usize = 16 * 1024;

/// How long lines collect after a write. Waking the thread for every line would cost whoever logs more than the line does.
const BATCH_INTERVAL: Duration = Duration::from_millis(1);

/// How long the end of the process may be put off for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// To be acknowledged when everything before it is written.
    Flush(SyncSender<()>),
}

/// The end of the queue that lines go in at.
#[derive(Clone)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// Writes out the last lines when it is dropped, and waits a second for that at most.
pub(super) struct FlushGuard {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl FlushGuard {
    pub(super) fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let dropped = Arc::clone(&self.dropped);
        move || dropped.load(Ordering::Relaxed)
    }
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        let (done, is_done) = sync_channel(1);
        // A full queue means that the output takes nothing: then there is nothing to wait for.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Sink, FlushGuard)> {
    let (queue, lines) = sync_channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let dropped_until_now = Arc::clone(&dropped);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(output, &lines, &dropped_until_now))?;
    let sink = Sink {
        queue: queue.clone(),
        dropped: Arc::clone(&dropped),
    };
    Ok((sink, FlushGuard { queue, dropped }))
}

fn write_all(mut output: impl Write, lines: &Receiver<Message>, dropped: &AtomicU64) {
    let mut reported = 0;
    let mut batch = Vec::new();
    while let Ok(first) = lines.recv() {
        let mut flushed = None;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => batch.extend(line),
                Message::Flush(done) => flushed = Some(done),
            }
            let has_room = flushed.is_none() && batch.len() < BATCH_BYTES;
            next = has_room.then(|| lines.try_recv().ok()).flatten();
        }
        // Lines that cannot be written are lost; there is nowhere to say so.
        let _ = output.write_all(&batch);
        let is_drained = batch.len() < BATCH_BYTES;
        batch.clear();
        let dropped = dropped.load(Ordering::Relaxed);
        let lost = dropped - reported;
        if lost > 0 {
            reported = dropped;
            let note = format!("{{\"level\":\"WARN\",\"event\":\"log_lines_dropped\",\"count\":{lost}}}\n");
            let _ = output.write_all(note.as_bytes());
        }
        if let Some(done) = flushed {
            let _ = output.flush();
            let _ = done.try_send(());
        }
        if is_drained {
            thread::sleep(BATCH_INTERVAL);
        }
    }
}

impl Write for Sink {
    /// Takes one whole line at a time: that is how the formatting layer writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self
            .queue
            .try_send(Message::Line(escape_control_characters(line)))
        {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The line with every control character but its last line feed written out, in a way that JSON takes too: what is logged can
/// neither begin a line of its own nor speak to a terminal (S-92).
fn escape_control_characters(line: &[u8]) -> Vec<u8> {
    // Nearly every line.
    if let Some((b'\n', body)) = line.split_last()
        && body.iter().all(|byte| (b' '..0x7f).contains(byte))
    {
        return line.to_vec();
    }
    let text = String::from_utf8_lossy(line);
    let body = text.strip_suffix('\n').unwrap_or(&text);
    let mut escaped = String::with_capacity(text.len());
    for c in body.chars() {
        match c.is_control() {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped.push('\n');
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// An output that hands every write to the test, and waits for it to be taken.
    struct Taken(SyncSender<Vec<u8>>);

    impl Write for Taken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn s_92_what_is_logged_stays_on_its_line() {
        let line = escape_control_characters("a\r\n{\"event\":\"log_in\"}\u{1b}[2J\u{9b}31m\n".as_bytes());
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "a\\u000d\\u000a{\"event\":\"log_in\"}\\u001b[2J\\u009b31m\n"
        );
    }

    #[test]
    fn s_93_a_blocked_output_stalls_nobody_and_learns_what_it_missed() {
        let (taken, output) = sync_channel(0);
        let (mut sink, flushed) = start(Taken(taken)).unwrap();
        // So many lines are in the thread's hands at most; the queue takes the rest until it is full.
        let batch = BATCH_BYTES / 2 + 1;
        let lines = QUEUE + batch + 100;
        for number in 0..lines {
            sink.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let mut written = 0;
        let note = loop {
            let line = String::from_utf8(output.recv().unwrap()).unwrap();
            match line.contains("log_lines_dropped") {
                true => break line,
                false => written += line.lines().count(),
            }
        };
        let lost: usize = note
            .split(':')
            .next_back()
            .unwrap()
            .trim_end_matches("}\n")
            .parse()
            .unwrap();
        assert!((100..=100 + batch).contains(&lost), "{lost} lost");
        assert_eq!(flushed.dropped_lines()(), lost as u64);
        assert!(written >= 1);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        struct Kept(std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).unwrap();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (kept, output) = channel();
        let (mut sink, flushed) = start(Kept(kept)).unwrap();
        sink.write_all(b"last words\n").unwrap();
        drop(flushed);
        assert_eq!(output.try_recv().unwrap(), b"last words\n");
    }
}
