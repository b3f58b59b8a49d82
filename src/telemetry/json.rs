//! A log line for machines. It is the line that `tracing_subscriber` writes, without its way there: that one reads the fields of
//! the span back from JSON, for every line, only to write them out again.

use std::fmt::{self, Write};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Writes an event as one object on one line. The fields of spans must be formatted as JSON.
#[derive(Debug, Default)]
pub(super) struct JsonLine<T = SystemTime> {
    timer: T,
}

impl<S, N, T> FormatEvent<S, N> for JsonLine<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    T: FormatTime,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        self.timer.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", about.level())?;
        let mut fields = Fields {
            writer: writer.by_ref(),
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        writer.write_str(",\"target\":")?;
        write_text(&mut writer, about.target())?;
        let span = event.parent().and_then(|id| context.span(id));
        if let Some(span) = span.or_else(|| context.lookup_current()) {
            writer.write_str(",\"span\":{")?;
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<N>>()
                .and_then(|object| object.strip_prefix('{')?.strip_suffix('}'))
                .unwrap_or_default();
            if !fields.is_empty() {
                write!(writer, "{fields},")?;
            }
            writer.write_str("\"name\":")?;
            write_text(&mut writer, span.name())?;
            writer.write_char('}')?;
        }
        writer.write_str("}\n")
    }
}

fn write_text(writer: &mut impl Write, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaped(writer).write_str(text)?;
    writer.write_char('"')
}

/// Writes the fields of an event behind what the object has already.
struct Fields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        self.result = self
            .result
            .and_then(|()| write!(self.writer, ",\"{}\":", field.name()))
            .and_then(|()| value(&mut self.writer));
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.field(field, |writer| write!(writer, "{value:?}")),
            false => self.field(field, |writer| writer.write_str("null")),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |writer| write_text(writer, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

/// Writes the inside of a JSON string (RFC 8259 §7).
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        while let Some(place) = rest.bytes().position(is_special) {
            // What is special is ASCII, so both places are between characters.
            let (plain, from) = rest.split_at(place);
            let (special, behind) = from.split_at(1);
            self.0.write_str(plain)?;
            match special {
                "\"" => self.0.write_str("\\\"")?,
                "\\" => self.0.write_str("\\\\")?,
                "\n" => self.0.write_str("\\n")?,
                "\r" => self.0.write_str("\\r")?,
                "\t" => self.0.write_str("\\t")?,
                "\u{8}" => self.0.write_str("\\b")?,
                "\u{c}" => self.0.write_str("\\f")?,
                control => {
                    let code = control.chars().next().map_or(0, u32::from);
                    write!(self.0, "\\u{code:04x}")?;
                }
            }
            rest = behind;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };
    use tracing::{error, info, info_span, warn};
    use tracing_subscriber::{Layer as _, Registry, fmt::layer, layer::SubscriberExt as _};

    /// A clock that stands.
    #[derive(Default)]
    struct Noon;

    impl FormatTime for Noon {
        fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
            writer.write_str("2026-11-22T12:00:00.000000Z")
        }
    }

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_line_is_the_one_that_tracing_subscriber_writes() {
        let (ours, theirs) = (Output::default(), Output::default());
        let into = |output: &Output| {
            let output = output.clone();
            move || output.clone()
        };
        let our_layer = layer()
            .json()
            .event_format(JsonLine::<Noon>::default())
            .with_writer(into(&ours))
            .boxed();
        let their_layer = layer()
            .json()
            .with_timer(Noon)
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(into(&theirs))
            .boxed();
        let subscriber = Registry::default().with(our_layer).with(their_layer);
        tracing::subscriber::with_default(subscriber, || {
            info!("plain");
            info!(
                event = "numbers",
                a = 1,
                b = -2_i64,
                c = 1.0,
                d = -0.25,
                e = f64::NAN,
                f = true,
                g = 7_u128
            );
            warn!(
                text = "a \"b\" \\ \n\r\t\u{8}\u{c}\u{1}\u{7f} \u{e9}\u{2028}",
                "and {:?}", "\u{1b}[2J\n"
            );
            let cause = io::Error::other("out of \"paper\"");
            error!(error = %cause, debug = ?cause, dyn_error = &cause as &dyn std::error::Error, peer.ip = 1);
            info_span!("empty").in_scope(|| info!(none = Option::<u8>::None, some = Some(3), "in a span"));
            let outer = info_span!("outer", outer = 1);
            let inner = info_span!(parent: &outer, "call", request_id = %"a\"b", method = "/x.y/Z", n = 3);
            inner.in_scope(|| info!("in a span"));
            info!(parent: &outer, "in another");
        });
        assert_eq!(ours.text().lines().count(), 7);
        assert_eq!(ours.text(), theirs.text());
    }
}
