//! Calls by method and code, counted by each thread for itself.
//!
//! A check of a session takes about a microsecond on every core at once. One counter for all of them would be a cache line that
//! the cores take from each other with every call; so each thread has its own, and a reader adds them up.

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tonic::Code;

/// The codes by their numbers, as the protocol spells them.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What a method that is not known counts as.
const OTHER: &str = "other";

/// The calls of all threads. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    /// In the order of the counts; the last one is [`OTHER`].
    methods: Vec<String>,
    numbers: HashMap<String, usize>,
    threads: Mutex<Vec<Arc<ThreadCalls>>>,
}

/// A method by its place among the counts.
#[derive(Debug, Clone, Copy)]
pub struct Method(usize);

/// The calls of one thread. Another may count here too; they would only be slower.
pub struct ThreadCalls(Box<[OfMethod]>);

/// Aligned to two cache lines, because processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct OfMethod([AtomicU64; CODES.len()]);

impl Calls {
    /// Counts for these methods, each named as in a request's path but for the first slash.
    pub fn of(methods: impl IntoIterator<Item = String>) -> Self {
        let mut methods: Vec<String> = methods.into_iter().collect();
        let numbers = methods
            .iter()
            .enumerate()
            .map(|(number, method)| (method.clone(), number))
            .collect();
        methods.push(OTHER.to_owned());
        Self {
            shared: Arc::new(Shared {
                methods,
                numbers,
                threads: Mutex::default(),
            }),
        }
    }

    /// The method that a request's path names.
    #[must_use]
    pub fn method(&self, path: &str) -> Method {
        let name = path.strip_prefix('/').unwrap_or(path);
        let other = self.shared.numbers.len();
        Method(self.shared.numbers.get(name).copied().unwrap_or(other))
    }

    /// Counts for one more thread. They stay when the thread has gone: a counter never goes back.
    #[must_use]
    pub fn for_thread(&self) -> Arc<ThreadCalls> {
        let counts = self.shared.methods.iter().map(|_| OfMethod::default());
        let calls = Arc::new(ThreadCalls(counts.collect()));
        self.shared.threads.lock().push(Arc::clone(&calls));
        calls
    }
}

impl ThreadCalls {
    /// Counts one call that was answered.
    pub fn count(&self, method: Method, code: Code) {
        let of_method = self.0.get(method.0);
        if let Some(count) = of_method.and_then(|counts| counts.0.get(code as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self, method: usize, code: usize) -> u64 {
        self.0[method].0[code].load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls(..)")
    }
}

impl Collector for Calls {
    /// Every method has its successes, also when there are none; other codes are shown once they have occurred.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let threads = self.shared.threads.lock().clone();
        let mut family = encoder.encode_descriptor(
            "sessiond_calls",
            "Calls answered, by method and gRPC code; a stream counts when it begins",
            None,
            MetricType::Counter,
        )?;
        for (number, method) in self.shared.methods.iter().enumerate() {
            for (code, name) in CODES.iter().enumerate() {
                let count: u64 = threads.iter().map(|thread| thread.read(number, code)).sum();
                if count > 0 || code == Code::Ok as usize {
                    family
                        .encode_family(&[("method", method.as_str()), ("code", *name)])?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metrics::Metrics;

    fn shown(calls: &Calls) -> Vec<String> {
        let mut metrics = Metrics::default();
        metrics.add_calls(calls.clone());
        let text = metrics.text().unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(str::to_owned).collect()
    }

    #[test]
    fn the_calls_of_all_threads_are_added_up_also_of_those_that_are_gone() {
        let calls = Calls::of(["s/A".to_owned(), "s/B".to_owned()]);
        let (here, there) = (calls.for_thread(), calls.for_thread());
        here.count(calls.method("/s/A"), Code::Ok);
        there.count(calls.method("/s/A"), Code::Ok);
        there.count(calls.method("/s/A"), Code::Unauthenticated);
        drop(there);
        assert_eq!(
            shown(&calls),
            [
                r#"sessiond_calls_total{method="s/A",code="OK"} 2"#,
                r#"sessiond_calls_total{method="s/A",code="UNAUTHENTICATED"} 1"#,
                r#"sessiond_calls_total{method="s/B",code="OK"} 0"#,
                r#"sessiond_calls_total{method="other",code="OK"} 0"#,
            ]
        );
    }

    #[test]
    fn s_89_a_method_that_is_not_ours_is_not_named() {
        let calls = Calls::of(["s/A".to_owned()]);
        let here = calls.for_thread();
        for path in ["/s/ada@example.org", "/s/A/", "s/A\n", "", "/other2"] {
            here.count(calls.method(path), Code::Unimplemented);
        }
        assert_eq!(
            shown(&calls)[2],
            r#"sessiond_calls_total{method="other",code="UNIMPLEMENTED"} 5"#
        );
        assert_eq!(shown(&calls).len(), 3);
    }

    #[test]
    fn every_code_has_its_name() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            assert_eq!(code as usize, number);
            assert_eq!(format!("{code:?}").to_uppercase(), name.replace('_', ""));
        }
    }
}
