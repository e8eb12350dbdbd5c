//! Writing families: one call each, so that none lacks its help, its unit or its type.

use std::fmt::Error;

use muster_types::measure::Observed;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Labels of one sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// What no unit says.
pub const PLAIN: Option<Unit> = None;
/// Bytes: the name gets `_bytes`.
pub const BYTES: Option<Unit> = Some(Unit::Bytes);
/// Seconds: the name gets `_seconds`.
pub const SECONDS: Option<Unit> = Some(Unit::Seconds);

/// The encoder of one collection.
pub struct Out<'a>(pub DescriptorEncoder<'a>);

impl Out<'_> {
    /// A number that only rises. The name gets its unit and `_total`.
    pub fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        value: u64,
    ) -> Result<(), Error> {
        self.counters(name, help, unit, [(&[] as Labels<'_>, value)])
    }

    /// The same with labels.
    #[expect(clippy::needless_pass_by_value, reason = "units are written where they are said")]
    pub fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> Result<(), Error> {
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            one(&mut family, labels, |metric| {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
            })?;
        }
        Ok(())
    }

    /// Seconds that only rise.
    pub fn seconds(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        let mut family =
            self.0.encode_descriptor(name, help, SECONDS.as_ref(), MetricType::Counter)?;
        one(&mut family, &[], |metric| metric.encode_counter::<NoLabelSet, _, u64>(&value, None))
    }

    /// A number that rises and falls. The name gets its unit.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        value: u64,
    ) -> Result<(), Error> {
        self.gauges(name, help, unit, [(&[] as Labels<'_>, value as f64)])
    }

    /// The same with labels and fractions.
    #[expect(clippy::needless_pass_by_value, reason = "units are written where they are said")]
    pub fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            one(&mut family, labels, |metric| metric.encode_gauge(&value))?;
        }
        Ok(())
    }

    /// How long something took.
    pub fn durations<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Observed)>,
    ) -> Result<(), Error> {
        let mut family =
            self.0.encode_descriptor(name, help, SECONDS.as_ref(), MetricType::Histogram)?;
        for (labels, seen) in samples {
            one(&mut family, labels, |metric| {
                metric.encode_histogram::<NoLabelSet>(seen.seconds, seen.count, &seen.buckets, None)
            })?;
        }
        Ok(())
    }
}

fn one(
    family: &mut MetricEncoder<'_>,
    labels: Labels<'_>,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    if labels.is_empty() {
        return write(family);
    }
    write(&mut family.encode_family(&labels)?)
}
