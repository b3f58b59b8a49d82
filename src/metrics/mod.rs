//! What the process counts, and where that can be read.
//!
//! The code that counts owns its numbers; [`Metrics`] reads them when somebody requests them. No label holds text from a user or a
//! caller.

mod calls;
mod endpoint;
mod sweeps;

pub use calls::{Calls, Method, ThreadCalls};
pub use endpoint::endpoint;
pub use sweeps::Sweeps;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};
use std::fmt;

/// Everything that one process shows. Names are those of the text, but for the `_total` that counters end in there.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Shows calls.
    pub fn add_calls(&mut self, calls: Calls) {
        self.registry.register_collector(Box::new(calls));
    }

    /// Shows sweeps.
    pub fn add_sweeps(&mut self, sweeps: &Sweeps) {
        sweeps.register(&mut self.registry);
    }

    /// Shows a counter: it only grows while the process lives.
    pub fn add_counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let read = Read::Counter(Box::new(read));
        self.registry
            .register_collector(Box::new(Observed { name, help, read }));
    }

    /// Shows a gauge; `None`: its value is not known now.
    pub fn add_gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let read = Read::Gauge(Box::new(read));
        self.registry
            .register_collector(Box::new(Observed { name, help, read }));
    }

    /// All numbers now, as OpenMetrics 1.0 text.
    ///
    /// # Errors
    /// None that this program knows of: writing to a `String` does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A number that stands elsewhere.
struct Observed {
    name: &'static str,
    help: &'static str,
    read: Read,
}

enum Read {
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    Gauge(Box<dyn Fn() -> Option<f64> + Send + Sync>),
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match &self.read {
            Read::Counter(read) => encoder
                .encode_descriptor(self.name, self.help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&read(), None),
            Read::Gauge(read) => {
                let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
                read().map_or(Ok(()), |value| metric.encode_gauge(&value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_known_now_has_no_number() {
        let mut metrics = Metrics::default();
        metrics.add_gauge("known", "It is", || Some(1.5));
        metrics.add_gauge("unknown", "It is not", || None);
        metrics.add_counter("counted", "It grows", || 3);
        let text = metrics.text().unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, ["known 1.5", "counted_total 3"]);
    }
}
