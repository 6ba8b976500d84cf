//! Prometheus text, read back.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// All samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

impl Metrics {
    /// Reads the text format; lines that are no samples are passed over.
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect() }
    }

    /// All samples of that name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// Sum of all samples of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, name: &str) -> Result<f64> {
        self.sum(name, &[])
    }

    /// Sum of the samples of that name which bear these labels.
    ///
    /// # Errors
    /// When there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let fits = |sample: &&Sample| labels.iter().all(|(key, value)| sample.label(key) == Some(*value));
        let sum = self.all(name).filter(fits).map(|sample| sample.value).reduce(|sum, value| sum + value);
        sum.with_context(|| format!("the metrics have no {name} {labels:?}"))
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
        None => (head, BTreeMap::new()),
    };
    Some(Sample { name: name.into(), labels, value: value.parse().ok()? })
}

/// `a="b",c="d"`; the lab's names hold no quotes.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let pairs = text.split("\",").filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once("=\"")?;
            Some((name.into(), value.trim_end_matches('"').into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP lb_backend_up x\n# TYPE lb_backend_up gauge\n\
                    lb_backend_up{backend=\"web-1\",vip=\"web, 4\"} 1\nlb_backend_up{backend=\"web-2\",vip=\"v\"} 0\n\
                    lb_config_generation 3\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.all("lb_backend_up").count(), 2);
        let is = |value: Result<f64>, expected: f64| value.is_ok_and(|value| (value - expected).abs() < 1e-9);
        assert!(is(metrics.sum("lb_backend_up", &[("vip", "web, 4")]), 1.0));
        assert!(is(metrics.sum("lb_backend_up", &[("backend", "web-2")]), 0.0));
        assert!(is(metrics.value("lb_config_generation"), 3.0));
        assert!(metrics.value("lb_backend").is_err());
    }
}
