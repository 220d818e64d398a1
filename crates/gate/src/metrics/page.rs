//! Metrics and their values, written down.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};

use super::catalogue::{Kind, METRICS, Metric};
use super::histogram::{self, BOUNDS};

/// See the module.
pub(super) struct Page(Vec<MetricFamily>);

impl Page {
    pub(super) fn new() -> Self {
        Self(METRICS.iter().map(family).collect())
    }

    /// One value of a counter or gauge.
    pub(super) fn number(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let mut sample = sample(metric, labels);
        match metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
            // Those are written by `times`.
            Kind::Histogram => return,
        }
        self.add(metric, sample);
    }

    /// One histogram.
    pub(super) fn times(&mut self, metric: &Metric, labels: &[&str], times: &histogram::Histogram) {
        let (counts, all) = times.cumulative();
        let buckets = BOUNDS.iter().zip(counts).map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(all);
        histogram.set_sample_sum(times.seconds());
        let mut sample = sample(metric, labels);
        sample.set_histogram(histogram);
        self.add(metric, sample);
    }

    fn add(&mut self, metric: &Metric, sample: Sample) {
        let at = METRICS.iter().position(|m| m.name == metric.name);
        if let Some(family) = at.and_then(|at| self.0.get_mut(at)) {
            family.mut_metric().push(sample);
        }
    }

    pub(super) fn into_text(mut self) -> String {
        // The encoder takes no metric without a series, such as those of no listener.
        self.0.retain(|family| !family.get_metric().is_empty());
        let text = TextEncoder::new().encode_to_string(&self.0);
        // It fails for want of a series or of a name only.
        text.unwrap_or_default()
    }
}

fn family(metric: &Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.into());
    family.set_help(format!("{}.", metric.help));
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family
}

fn sample(metric: &Metric, labels: &[&str]) -> Sample {
    debug_assert_eq!(metric.labels.len(), labels.len(), "{metric:?}");
    let labels = metric.labels.iter().zip(labels).map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name((*name).into());
        label.set_value((*value).into());
        label
    });
    Sample::from_label(labels.collect())
}
